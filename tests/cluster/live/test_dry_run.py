"""The server takes all that we render, in every mode, with strict validation."""

from pathlib import Path

import pytest

from relume.cluster.apply.manifests import ClusterManifest, ClusterWriter
from tests.cluster.render.cases import CASES, rendered


def documents() -> list[tuple[str, ClusterManifest]]:
    return [
        (
            f"{case.name}-{Path(file).stem}-{body['kind']}-{body['metadata']['name']}",
            ClusterManifest(body, file),
        )  # type: ignore[call-overload,index]
        for case in CASES
        for file, bodies in rendered(case.name).documents.items()
        for body in bodies
        if "metadata" in body
    ]


@pytest.mark.parametrize("manifest", [m for _, m in documents()], ids=[n for n, _ in documents()])
def test_the_server_takes_it(
    manifest: ClusterManifest, writer: ClusterWriter, namespace: str
) -> None:
    resource = writer.resource(manifest.api_version, manifest.kind)
    if resource is None:
        pytest.skip(f"the cluster does not serve {manifest.api_version} {manifest.kind}")
    answer = writer.apply(moved(manifest, namespace), dry_run=True)
    assert answer.ok, answer.message


def moved(manifest: ClusterManifest, namespace: str) -> ClusterManifest:
    """The document in the tests' namespace, where it names one."""
    metadata = dict(manifest.body["metadata"])  # type: ignore[call-overload]
    if "namespace" in metadata:
        metadata["namespace"] = namespace
    return ClusterManifest({**manifest.body, "metadata": metadata}, manifest.file)
