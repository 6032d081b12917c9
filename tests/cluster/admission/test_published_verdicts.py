"""What a real cluster answered to further manifests, which stand outside of the repository.

Cases of our own cover the same ground: `test_reading.py`, `test_workloads.py`,
`test_core_kinds.py` and the tests of each project's kinds beside them.
"""

import json
from pathlib import Path
from typing import Any

from relume.cluster.doctor import examine
from tests.vectors import published, vector


def wanted(case: dict[str, Any]) -> str:
    """The verdict: a kind that the cluster does not serve is refused."""
    return "refused" if case["server"] == "no-such-kind" else str(case["server"])


@published
def test_every_recorded_verdict_is_ours(tmp_path: Path) -> None:
    cases = json.loads(vector("verdicts.json").read_bytes())
    assert len(cases) >= 106
    file = tmp_path / "m.yaml"
    wrong = []
    for case in cases:
        file.write_text(case["yaml"], encoding="utf-8")
        (one,) = examine([file])
        if one.verdict != wanted(case):
            wrong.append(f"{case['case']}: {wanted(case)}, not {one.verdict}: {case['message']}")
    print(f"{len(cases) - len(wrong)} of {len(cases)} recorded verdicts hold")
    assert not wrong, "\n".join(wrong)


@published
def test_what_a_verdict_says_names_a_field_and_a_way_out(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    for case in json.loads(vector("verdicts.json").read_bytes()):
        file.write_text(case["yaml"], encoding="utf-8")
        for finding in examine([file])[0].findings:
            assert finding.fix, (case["case"], finding)
            assert finding.line is not None
            assert "\n" not in finding.message
