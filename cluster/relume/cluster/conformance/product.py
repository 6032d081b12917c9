"""A fragment of PRODUCT.yaml, and the rules for a whole one, as the programme's validator has them.

Source: `scripts/validate.go` and faq.md in cncf/k8s-ai-conformance, read in November 2026. Two of
its rules are not checked here: membership in the CNCF, and that every URL answers.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from relume.base.errors import InvalidManifest
from relume.base.vocabulary import Json
from relume.cluster.apply.api import objects, table, text
from relume.cluster.claims.yaml_files import values
from relume.cluster.conformance.checklist import VERSIONS, items_of
from relume.cluster.conformance.examine import Result

STATUSES = ("Implemented", "Not Implemented", "Partially Implemented", "N/A")
_METADATA = (
    "kubernetesVersion",
    "platformName",
    "platformVersion",
    "vendorName",
    "websiteUrl",
    "documentationUrl",
    "productLogoUrl",
    "description",
    "contactEmailAddress",
)
_BASE = re.compile(
    r"^https://github\.com/cncf/k8s-conformance/tree/(master|main)/v\d+\.\d+/[^/]+/?$"
)
_PLACEHOLDER = re.compile(r"\[[^\]]*\]")

#: What no command can do for a submitter.
SUBMITTERS_STEPS = (
    "Copy id, description and level of every item unchanged from docs/AIConformance-X.Y.yaml of "
    "cncf/k8s-ai-conformance, and put status, evidence and notes beside them.",
    "Fill in the metadata, and name the certificate of the Kubernetes below as k8sConformanceUrl.",
    "Open the pull request as a member of the CNCF, as vX.Y/PRODUCT/PRODUCT.yaml.",
)


def fragment(results: Sequence[Result], folder: str) -> Json:
    """The part of PRODUCT.yaml that was measured; `folder` is where the evidence lies beside it."""
    spec: dict[str, list[Json]] = {}
    for result in results:
        entry: dict[str, object] = {"id": result.item.id, "level": result.level}
        if result.seen.outcome == "pass":
            entry["status"] = "Implemented"
        elif result.seen.outcome == "fail":
            entry["status"] = "Not Implemented"
        entry["evidence"] = [f"{folder}/{result.evidence.name}"] if result.evidence else []
        entry["notes"] = f"Layer: {result.item.layer}. {result.seen.saw}"
        spec.setdefault(result.item.category, []).append(entry)
    return {"spec": spec}


def read(file: Path) -> Json:
    """Read a PRODUCT.yaml. Raises InvalidManifest where it is not one YAML mapping."""
    found = next(iter(values(file)), None)
    if not isinstance(found, dict):
        message = "write a mapping with metadata and spec"
        raise InvalidManifest(message, file=file, line=1, field="PRODUCT.yaml")
    return found


def check(product: Json, version: str, folder: Path) -> Iterator[str]:
    """What is wrong with a whole PRODUCT.yaml in `folder`, as FIELD: what is wrong."""
    metadata = table(product, "metadata")
    needed = (*_METADATA, "k8sConformanceUrl") if version >= VERSIONS[1] else _METADATA
    for name in needed:
        value = text(metadata, name).strip()
        if not value:
            yield f"metadata.{name}: is missing"
        elif _PLACEHOLDER.search(value):
            yield f"metadata.{name}: still has the placeholder {value}"
    base = text(metadata, "k8sConformanceUrl")
    if base and not _BASE.match(base):
        place = "https://github.com/cncf/k8s-conformance/tree/main/vX.Y/NAME"
        yield f"metadata.k8sConformanceUrl: write {place}"
    yield from _check_items(table(product, "spec"), version, folder)


def _check_items(spec: Json, version: str, folder: Path) -> Iterator[str]:
    written = {
        (category, text(entry, "id")): entry
        for category in spec
        for entry in objects(spec, category)
    }
    wanted = {(item.category, item.id): item.levels[version] for item in items_of(version)}
    for category, name in written.keys() - wanted.keys():
        yield f"spec.{category}.{name}: is no item of {version}"
    for (category, name), level in wanted.items():
        where = f"spec.{category}.{name}"
        entry = written.get((category, name))
        if entry is None:
            yield f"{where}: is missing"
            continue
        yield from _check_entry(entry, where, level, folder)


def _check_entry(
    entry: Mapping[str, object], where: str, level: str, folder: Path
) -> Iterator[str]:
    status = text(entry, "status")
    if text(entry, "level") != level:
        yield f"{where}.level: is {level} in this version"
    if status not in STATUSES:
        yield f"{where}.status: write one of {', '.join(STATUSES)}"
    elif level == "MUST" and status != "Implemented":
        yield f"{where}.status: a MUST is Implemented, or there is no conformance"
    if status == "N/A" and not text(entry, "notes").strip():
        yield f"{where}.notes: N/A needs a reason"
    evidence = entry.get("evidence")
    places = [str(each) for each in evidence] if isinstance(evidence, list) else []
    if status == "Implemented" and not places:
        yield f"{where}.evidence: name what shows it"
    for place in places:
        if not place.startswith(("http://", "https://")) and not (folder / place).is_file():
            yield f"{where}.evidence: there is no file {place}"
