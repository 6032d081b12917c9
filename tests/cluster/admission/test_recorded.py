"""Our verdict, offline, is what a real cluster answered, and names the same field.

The rules come from the schemas and from the documented validation; the recorded answers only
judge them.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from relume.cluster.admission import Admission, admit
from relume.config.yaml_source import documents
from tests.cluster.admission.recorded import RECORDED, verdict_of

# What the cluster said without naming a place: the place that we name.
UNNAMED = {
    "InferenceService: minReplicas 3 maxReplicas 2": "spec.predictor.minReplicas",
    "InferenceService: containerConcurrency -1": "spec.predictor.containerConcurrency",
    "InferenceService: name with a dot": "metadata.name",
    "Trigger: two dialects in one filter": "spec.filters[0]",
}
NOT_ACCEPTED = [case for case in RECORDED if verdict_of(case) != "accepted"]


def judged(folder: Path, manifest: dict[str, Any]) -> Admission:
    (folder / "m.yaml").write_text(yaml.safe_dump(manifest))
    (document,) = documents(folder / "m.yaml")
    return admit(document)


def named(message: str) -> set[str]:
    """The places in a message of the API server or of a webhook."""
    found = re.findall(r"\b(?:spec|metadata)\.[A-Za-z0-9_./\[\]*-]+", message)
    return {place.rstrip(".,:").removesuffix("=0") for place in found}


def test_the_recorded_answers_are_there() -> None:
    assert len(RECORDED) == 57


@pytest.mark.parametrize("case", RECORDED, ids=[case["case"] for case in RECORDED])
def test_our_answer_is_the_clusters(tmp_path: Path, case: dict[str, Any]) -> None:
    """Checklist A16."""
    answer = judged(tmp_path, case["manifest"])
    said = [(finding.reason, finding.field, finding.message) for finding in answer.findings]
    assert answer.verdict == verdict_of(case), (case["message"], said)
    assert (answer.kind, answer.name) == (
        case["manifest"]["kind"],
        case["manifest"]["metadata"]["name"],
    )


@pytest.mark.parametrize("case", NOT_ACCEPTED, ids=[case["case"] for case in NOT_ACCEPTED])
def test_the_same_field_is_named(tmp_path: Path, case: dict[str, Any]) -> None:
    """Checklist A16."""
    answer = judged(tmp_path, case["manifest"])
    ours = {f.field for f in answer.findings if f.effect != "none"}
    theirs = named(case["message"]) or {UNNAMED[case["case"]]}
    assert ours <= theirs
    messages = " ".join(f"{f.field} {f.message}" for f in answer.findings)
    assert all(place in messages for place in theirs)


@pytest.mark.parametrize("case", RECORDED, ids=[case["case"] for case in RECORDED])
def test_every_finding_has_a_line_a_reason_and_a_way_out(
    tmp_path: Path, case: dict[str, Any]
) -> None:
    lines = len(yaml.safe_dump(case["manifest"]).splitlines())
    for finding in judged(tmp_path, case["manifest"]).findings:
        assert finding.file == tmp_path / "m.yaml"
        assert finding.line is not None
        assert 1 <= finding.line <= lines
        assert finding.fix
        assert finding.why
        assert "\n" not in finding.message
