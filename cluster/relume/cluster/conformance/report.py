"""The report of an examination: a folder with a page, JUnit XML, JSON, and the evidence."""

import html
import json
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import yaml

from relume.base.vocabulary import Json
from relume.cluster.conformance.examine import Result
from relume.cluster.conformance.product import SUBMITTERS_STEPS, fragment

EVIDENCE = "evidence"
_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem; }
tr { border-bottom: 1px solid #8886; }
.pass { color: light-dark(#166534, #86efac); }
.fail { color: light-dark(#991b1b, #fca5a5); }
.unknown { color: light-dark(#475569, #cbd5e1); }
code { font-size: .85em; }
"""


def write(folder: Path, results: Sequence[Result], *, version: str, cluster: str) -> list[Path]:
    """Write the report and return its files. Raises OSError."""
    evidence = folder / EVIDENCE
    evidence.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    for result in results:
        if result.evidence is not None:
            files.append(evidence / result.evidence.name)
            files[-1].write_bytes(result.evidence.content)
    product = yaml.safe_dump(fragment(results, EVIDENCE), sort_keys=False, allow_unicode=True)
    for name, content in (
        ("report.json", _json(results, version, cluster)),
        ("report.html", _page(results, version, cluster)),
        ("junit.xml", _junit(results, version)),
        ("PRODUCT-fragment.yaml", product),
    ):
        files.append(folder / name)
        files[-1].write_text(content, encoding="utf-8")
    return files


def as_json(results: Sequence[Result], version: str, cluster: str) -> Json:
    """The report as a JSON object."""
    return {"version": version, "cluster": cluster, "items": [_entry(each) for each in results]}


def _entry(result: Result) -> Json:
    item, evidence = result.item, result.evidence
    return {
        "id": item.id,
        "category": item.category,
        "level": result.level,
        "layer": item.layer,
        "verdict": result.seen.outcome,
        "saw": result.seen.saw,
        "evidence": None
        if evidence is None
        else {"file": f"{EVIDENCE}/{evidence.name}", "sha256": evidence.sha256},
    }


def _json(results: Sequence[Result], version: str, cluster: str) -> str:
    return json.dumps(as_json(results, version, cluster), indent=2, ensure_ascii=False) + "\n"


def _page(results: Sequence[Result], version: str, cluster: str) -> str:
    def cell(text: str) -> str:
        return f"<td>{html.escape(text)}</td>"

    rows = []
    for result in results:
        evidence = "<td></td>"
        if result.evidence is not None:
            name, digest = result.evidence.name, result.evidence.sha256
            evidence = f'<td><a href="{EVIDENCE}/{name}">{name}</a> <code>{digest[:16]}</code></td>'
        outcome = result.seen.outcome
        rows.append(
            f"<tr>{cell(result.item.title)}{cell(result.level)}{cell(result.item.layer)}"
            f'<td class="{outcome}">{outcome}</td>{cell(result.seen.saw)}{evidence}</tr>'
        )
    steps = "".join(f"<li>{html.escape(step)}</li>" for step in SUBMITTERS_STEPS)
    heads = ("item", "level", "whose", "verdict", "seen", "evidence")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    title = f"Kubernetes AI conformance {version}: {html.escape(cluster)}"
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style>\n<h1>{title}</h1>\n<table><thead><tr>{head}</tr></thead><tbody>\n"
        + "\n".join(rows)
        + f"\n</tbody></table>\n<h2>What only a submitter can do</h2>\n<ol>{steps}</ol>\n</html>\n"
    )


def _junit(results: Sequence[Result], version: str) -> str:
    failed = sum(each.seen.outcome == "fail" for each in results)
    skipped = sum(each.seen.outcome == "unknown" for each in results)
    name = f"ai-conformance-{version}"
    counts = {"tests": len(results), "failures": failed, "skipped": skipped}
    suite = ET.Element("testsuite", {"name": name, **{k: str(v) for k, v in counts.items()}})
    for result in results:
        case = ET.SubElement(suite, "testcase", classname=result.item.category, name=result.item.id)
        if result.seen.outcome == "fail":
            ET.SubElement(case, "failure", message=result.seen.saw)
        elif result.seen.outcome == "unknown":
            ET.SubElement(case, "skipped", message=result.seen.saw)
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
