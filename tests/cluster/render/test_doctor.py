"""What is rendered passes the doctor: admission with the settings that were rendered beside it."""

from pathlib import Path

import pytest

from relume.cluster.doctor import examine
from relume.cluster.render.folder import write
from tests.cluster.render.cases import CASES, Case, rendered

#: Warnings that stay: a spare device is the cluster's to have.
LEFT = {"second-device"}
#: Kinds of other projects, of which the doctor knows no fields.
UNKNOWN = {
    *("ServiceMonitor", "RabbitmqBrokerConfig"),
    *("InferencePool", "InferenceObjective", "HTTPRoute"),
}


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_every_document_is_accepted_without_an_error(case: Case, tmp_path: Path) -> None:
    write(rendered(case.name), tmp_path / "out")
    # The settings of the cluster are beside the base and count, too.
    diagnoses = examine([tmp_path / "out"], cold_start_s=case.options.cold_start_s)
    made = sum(
        len(documents)
        for file, documents in rendered(case.name).documents.items()
        if file.startswith(("base/", "cluster/")) and not file.endswith("kustomization.yaml")
    )
    base = examine([tmp_path / "out" / "base"])
    assert len(base) == made
    assert len(diagnoses) == made + len(list(tmp_path.glob("out/cluster/*.yaml")))
    assert {d.verdict for d in diagnoses if d.kind not in UNKNOWN} == {"accepted"}
    assert {d.verdict for d in diagnoses if d.kind in UNKNOWN} <= {"unchecked"}
    findings = [f for d in diagnoses for f in d.findings if f.severity != "info"]
    assert {f.reason for f in findings} <= LEFT
