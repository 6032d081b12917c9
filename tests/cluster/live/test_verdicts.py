"""The doctor's verdict, with the cluster's own settings, is the server's answer."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from relume.cluster.admission import Cluster, admit
from relume.cluster.apply.api import KubernetesApi
from relume.cluster.apply.manifests import ClusterWriter
from relume.cluster.doctor.online import ClusterReport
from relume.config.yaml_source import documents
from tests.cluster.admission.recorded import RECORDED


@pytest.mark.parametrize("case", RECORDED, ids=[case["case"] for case in RECORDED])
def test_the_verdict_is_the_servers(
    case: dict[str, Any],
    tmp_path: Path,
    api: KubernetesApi,
    writer: ClusterWriter,
    report: ClusterReport,
    namespace: str,
) -> None:
    manifest = deepcopy(case["manifest"])  # other tests read it too
    resource = writer.resource(manifest["apiVersion"], manifest["kind"])
    if resource is None:
        pytest.skip(f"the cluster does not serve {manifest['apiVersion']} {manifest['kind']}")
    if resource.namespaced:
        manifest["metadata"]["namespace"] = namespace
    answers = {
        validation: api.change(
            "POST",
            resource.path(namespace),
            manifest,
            dryRun="All",
            fieldManager="relume",
            fieldValidation=validation,
        )
        for validation in ("Strict", "Ignore")
    }
    strict, lenient = answers["Strict"], answers["Ignore"]
    theirs = "accepted" if strict.ok else "pruned" if lenient.ok else "refused"
    assert ours(manifest, report.settings, tmp_path) == theirs, strict.message


def ours(manifest: dict[str, Any], settings: Cluster, folder: Path) -> str:
    (folder / "m.yaml").write_text(yaml.safe_dump(manifest))
    (document,) = documents(folder / "m.yaml")
    return admit(document, settings).verdict
