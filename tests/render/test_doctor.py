"""What is rendered passes the doctor: admission with the settings that were rendered beside it."""

from pathlib import Path

import pytest

from relume.config.admission import SHIPPED
from relume.config.admission.cluster import read_cluster
from relume.config.doctor import examine
from relume.config.render.folder import write
from tests.render.cases import CASES, Case, rendered

#: Warnings that stay: a spare device is the cluster's to have.
LEFT = {"second-device"}


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_every_document_is_accepted_without_an_error(case: Case, tmp_path: Path) -> None:
    write(rendered(case.name), tmp_path / "out")
    files = sorted((tmp_path / "out" / "base").rglob("*.yaml"))
    files = [file for file in files if file.name != "kustomization.yaml"]
    settings = tmp_path / "settings.yaml"
    texts = [file.read_text() for file in sorted(tmp_path.glob("out/cluster/config-*.yaml"))]
    settings.write_text("---\n".join(texts))
    cluster = read_cluster(settings) if texts else SHIPPED
    diagnoses = examine(files, cluster, cold_start_s=case.options.cold_start_s)
    assert {d.verdict for d in diagnoses} == {"accepted"}
    findings = [f for d in diagnoses for f in d.findings if f.severity != "info"]
    assert {f.reason for f in findings} <= LEFT
