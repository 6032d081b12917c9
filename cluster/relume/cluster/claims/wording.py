"""An explanation in words and rows, for the terminal, the documentation and JSON."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

from relume.cluster.claims.explain import AskReport, ClaimReport
from relume.cluster.claims.matching import ClauseVerdict

HEADERS = ("devices", "on", "verdict", "why", "state")
_VERDICTS: tuple[ClauseVerdict, ...] = ("match", "no match", "error", "not reached")
CLAUSE_HEADERS = ("", *_VERDICTS, "clause", "of")
_NUMBERED = re.compile(r"(.*?)(\d+)")
_MOST = 4  # names, or spans of names, before the rest becomes a number


def names(nodes: Iterable[str]) -> str:
    """Node names, consecutive numbers as a span: `node-1..4, other`."""
    spans: list[tuple[str, int, int, str]] = []
    plain: list[str] = []
    for node in nodes:
        found = _NUMBERED.fullmatch(node)
        if found is None:
            plain.append(node)
            continue
        stem, digits = found[1], found[2]
        last = spans[-1] if spans else None
        if last and last[0] == stem and int(digits) == last[2] + 1:
            spans[-1] = (stem, last[1], int(digits), last[3])
        else:
            spans.append((stem, int(digits), int(digits), digits))
    words = [f"{s}{text}" + (f"..{end}" if end > first else "") for s, first, end, text in spans]
    words += plain
    more = len(words) - _MOST
    return ", ".join(words[:_MOST]) + (f" and {more} more" if more > 0 else "")


def headline(report: ClaimReport) -> str:
    """The answer in one sentence."""
    return f"{report.unit.title}: {report.answer}: {report.sentence}"


def witness(report: ClaimReport) -> Iterator[tuple[str, str]]:
    """Each request with the devices of the witness."""
    if report.witness is None:
        return
    held: dict[tuple[str, str], list[str]] = {}
    for claim, request, device in report.witness.devices:
        held.setdefault((claim, request), []).append(device.name)
    for (claim, request), devices in held.items():
        yield f"{claim}: {request}", f"{', '.join(devices)} on {report.witness.node}"


def ask_title(one: AskReport) -> str:
    """What is asked: `request gpu: 2 of llm-gpu-40g`."""
    amount = "all" if one.ask.mode == "All" else str(one.ask.count)
    admin = ", with admin access" if one.ask.admin_access else ""
    return f"request {one.request}: {amount} of {one.ask.class_name}{admin}"


def rows(one: AskReport) -> list[tuple[str, ...]]:
    """The groups of devices as rows under HEADERS."""
    return [
        (
            f"{group.count}× {group.title}",
            names(group.nodes),
            group.verdict,
            group.why if group.clause is None else f"{group.why}  [{group.clause + 1}]",
            group.state,
        )
        for group in one.groups
    ]


def clause_rows(one: AskReport) -> list[tuple[str, ...]]:
    """The clauses with the number of devices of each verdict, as rows under CLAUSE_HEADERS."""
    return [
        (
            f"[{number}]",
            *(str(clause.counts.get(verdict, 0)) for verdict in _VERDICTS),
            clause.text,
            clause.source,
        )
        for number, clause in enumerate(one.clauses, 1)
    ]


def as_json(report: ClaimReport) -> dict[str, object]:
    """The whole report as JSON values."""
    found = report.witness
    return {
        "unit": report.unit.title,
        "file": str(report.unit.document.file),
        "answer": report.answer,
        "satisfiable": report.answer == "satisfiable",
        "sentence": report.sentence,
        "beside": report.beside or None,
        "notes": list(report.unit.notes),
        "witness": found
        and {
            "node": found.node,
            "devices": [
                {
                    "claim": claim,
                    "request": request,
                    "driver": device.driver,
                    "pool": device.pool,
                    "device": device.name,
                }
                for claim, request, device in found.devices
            ],
        },
        "nodes": [{"reason": reason, "nodes": list(nodes)} for reason, nodes in report.nodes],
        "requests": [_ask_json(one) for one in report.asks],
    }


def _ask_json(one: AskReport) -> dict[str, object]:
    return {
        "claim": one.claim,
        "request": one.request,
        "class": one.ask.class_name,
        "mode": one.ask.mode,
        "count": one.ask.count,
        "clauses": [
            {"clause": c.text, "source": c.source, "devices": c.counts} for c in one.clauses
        ],
        "devices": [
            asdict(group)
            | {"clause": None if group.clause is None else one.clauses[group.clause].text}
            for group in one.groups
        ],
    }


def answered(reports: Sequence[ClaimReport]) -> bool:
    """Whether every claim is satisfiable."""
    return all(report.answer == "satisfiable" for report in reports)
