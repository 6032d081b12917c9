"""The lints of claims and device classes, where there are any among the documents."""

from collections.abc import Iterator
from dataclasses import replace

from relume.base.errors import InvalidManifest
from relume.cluster.admission.judge import content
from relume.cluster.doctor.graph import Numbered, models
from relume.cluster.findings import Finding

_KINDS = ("DeviceClass", "ResourceClaim", "ResourceClaimTemplate", "ResourceSlice")


def judge_claims(documents: Numbered) -> Iterator[tuple[int, Finding]]:
    """What is likely a mistake in classes, claims and slices, and in the names in `limits`."""
    asked = any(content(document.get("kind")) in _KINDS for _, document in documents)
    if not asked and not any(list(model.devices) for model in models(documents).values()):
        return
    # It brings an evaluator of CEL, which takes a tenth of a second to load.
    from relume.cluster.claims.lints import lint_nodes

    numbers = {id(document): number for number, document in documents}
    try:
        findings = lint_nodes([document for _, document in documents])
    except InvalidManifest:  # admission has found it too
        return
    for document, finding in findings:
        number = numbers.get(id(document.node))
        if number is not None:
            fix = f"{finding.fix[:1].upper()}{finding.fix[1:]}."
            yield number, replace(finding, fix=fix, gravity=None)
