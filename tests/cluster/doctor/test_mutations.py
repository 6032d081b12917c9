"""Whatever is done to a sample, the doctor says so, with file, line, field and reason.

Dropping, repeating, retyping or misnaming any field ends as accepted, as accepted with a finding,
or as refused; never in a traceback, and never with a field that is dropped without a word.
"""

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relume.cluster.doctor import Diagnosis, examine
from relume.cluster.findings import Finding
from relume.cluster.schemas import pruned, schema
from relume.config.nodes import Items, Node, Table
from relume.config.yaml_source import documents
from tests.cluster.admission.other_documents import EVENTING, KSERVE
from tests.cluster.admission.recorded import RECORDED
from tests.mutations import changed, places

SAMPLES = sorted((Path(__file__).parents[3] / "config" / "samples").glob("*.yaml"))
OTHERS = (None, True, -1, 2**40, 0.5, "", "x", " ", "é\u2028", [], {}, [1], {"a": 1}, [[]])
# Maps whose keys are the writer's own.
OWN = {"labels", "annotations", "limits", "requests", "exact", "prefix", "suffix", "attributes"}
OWN |= {"nodeSelector", "parameters", "matchLabels", "nodes", "adapters"}


def manifests() -> dict[str, list[Any]]:
    found = {file.stem: list(yaml.safe_load_all(file.read_text())) for file in SAMPLES}
    for case in RECORDED:
        found[case["case"]] = [case["manifest"]]
    for document in (*EVENTING, *KSERVE):
        found[f"{document['kind']} {document['apiVersion']}, {len(found)}"] = [document]
    return found


MANIFESTS = manifests()


def diagnosed(folder: Path, text: str) -> list[Diagnosis]:
    """Examine `text`; every finding must be whole, and every dropped field must be named."""
    file = folder / "m.yaml"
    file.write_text(text, encoding="utf-8")
    found = examine([file])
    lines = len(text.splitlines()) + 1
    for one in found:
        for finding in one.findings:
            whole(finding, file, lines)
        nothing_is_dropped_silently(one, file)
    return found


def whole(finding: Finding, file: Path, lines: int) -> None:
    assert finding.file == file
    assert finding.line is not None
    assert 1 <= finding.line <= lines
    assert finding.message
    assert finding.fix
    assert "\n" not in finding.message
    assert finding.field or finding.reason == "not-a-manifest"


def nothing_is_dropped_silently(one: Diagnosis, file: Path) -> None:
    if one.unreadable or one.verdict == "refused":
        return
    known = schema(one.api_version, one.kind)
    if known is None:
        return
    root = next(islice(documents(file, lambda _: None), one.document, None))
    gone = set(paths(root)) - set(paths(pruned(root, known.shape)))
    said = {f.field for f in one.findings}
    for path in gone:
        covered = any(path == f or path.startswith((f"{f}.", f"{f}[")) for f in said)
        assert covered, f"{path} is dropped, and nobody says so"


def paths(node: Node) -> Iterator[str]:
    """The path of every value in a tree that is not null."""
    if isinstance(node, Table):
        for _, child in node:
            yield child.path
            yield from paths(child)
    elif isinstance(node, Items):
        for child in node.nodes:
            yield from paths(child)


def test_the_recorded_manifests_are_there() -> None:
    assert len(MANIFESTS) >= 59


@pytest.mark.parametrize("name", MANIFESTS)
def test_dropping_any_field_is_judged(tmp_path: Path, name: str) -> None:
    for path in places(MANIFESTS[name]):
        if len(path) > 1:
            diagnosed(tmp_path, changed(MANIFESTS[name], path, lambda at, key: at.pop(key)))


@pytest.mark.parametrize("name", MANIFESTS)
def test_misnaming_any_field_is_never_accepted_without_a_word(tmp_path: Path, name: str) -> None:
    def misname(parent: Any, key: Any) -> None:
        parent[f"{key}x"] = parent.pop(key)

    for path in places(MANIFESTS[name]):
        if isinstance(path[-1], int) or OWN & set(path[:-1]):
            continue
        found = diagnosed(tmp_path, changed(MANIFESTS[name], path, misname))[int(path[0])]
        assert found.verdict != "accepted", path


@pytest.mark.parametrize("name", MANIFESTS)
def test_repeating_any_field_is_said_at_its_line_and_the_last_one_counts(
    tmp_path: Path, name: str
) -> None:
    for path in places(MANIFESTS[name]):
        parent: Any = MANIFESTS[name]
        for key in path[:-1]:
            parent = parent[key]
        if len(path) != 2 or path[0] != len(MANIFESTS[name]) - 1:
            continue  # the last document's own fields: they can be repeated at the end of the text
        text = yaml.safe_dump_all(MANIFESTS[name], sort_keys=False)
        again = yaml.safe_dump({path[-1]: parent[path[-1]]}, sort_keys=False)
        once = diagnosed(tmp_path, text)[-1].verdict
        found = diagnosed(tmp_path, text + again)[-1]
        assert found.verdict == ("refused" if once == "refused" else "pruned")
        (finding,) = [f for f in found.findings if f.reason == "repeated-field"]
        assert finding.field == path[-1]
        assert finding.line == len(text.splitlines()) + 1


@pytest.mark.parametrize("name", ["summarize", *list(MANIFESTS)[2::9]])
def test_any_other_type_anywhere_is_judged(tmp_path: Path, name: str) -> None:
    for alone in MANIFESTS[name]:
        for path in places([alone]):
            for other in OTHERS:

                def retype(parent: Any, key: Any, other: Any = other) -> None:
                    parent[key] = other

                if len(path) > 1:
                    diagnosed(tmp_path, changed([alone], path, retype))


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(sorted(MANIFESTS)), st.integers(0, 2**32), st.integers(1, 6))
def test_any_damage_to_the_text_is_judged(tmp_path: Path, name: str, seed: int, times: int) -> None:
    chance = random.Random(seed)
    text = yaml.safe_dump_all(MANIFESTS[name], sort_keys=False)
    for _ in range(times):
        at = chance.randrange(max(len(text), 1))
        match chance.randrange(3):
            case 0:
                text = text[:at] + text[at + chance.randrange(1, 20) :]
            case 1:
                damage = chance.choice("{}[]:-*&!|>'\"#%@`,? \t\n0aé\u0085\u2028<")
                text = text[:at] + damage + text[at:]
            case _:
                start = chance.randrange(max(len(text), 1))
                text = text[:at] + text[start : start + 30] + text[at:]
    diagnosed(tmp_path, text)
