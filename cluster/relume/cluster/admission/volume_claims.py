"""Claims of volumes, alone and as templates inside of other objects.

Source: kubernetes pkg/apis/core/validation/validation.go, ValidatePersistentVolumeClaimSpec and
ValidateTemplateObjectMeta.
"""

from relume.cluster.admission.judge import Judge, child, content, entries, fields
from relume.cluster.admission.metadata import judge_keys
from relume.cluster.claims import quantity
from relume.config.names import is_subdomain
from relume.config.nodes import Node, Table

_ONCE_POD = "ReadWriteOncePod"
ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", _ONCE_POD)


def judge_volume_claim(document: Table, judge: Judge) -> None:
    """v1 PersistentVolumeClaim."""
    judge_claim_spec(document.get("spec") or document, judge, path="spec")


def judge_claim_spec(spec: Node, judge: Judge, *, path: str | None = None) -> None:
    """What a claim asks for; `path` is its place where it is not there."""
    where = spec.path if path is None else path
    modes = entries(spec, "accessModes")
    if not modes:
        judge.say(
            spec,
            "missing-field",
            f"{where}.accessModes: at least 1 access mode is required",
            "Write accessModes: [ReadWriteOnce], or another mode.",
            field=f"{where}.accessModes",
        )
    for mode in modes:
        judge.check_word(mode, ACCESS_MODES, empty=False)
    if len(modes) > 1 and any(content(mode) == _ONCE_POD for mode in modes):
        message = f"may not use {_ONCE_POD} with other access modes"
        judge.say(modes[0], "conflict", message, field=f"{where}.accessModes")
    size = child(spec, "resources", "requests", "storage")
    if size is None:
        message = f"missing field(s): {where}.resources.requests.storage"
        fix = "Write how much, such as 10Gi."
        field = f"{where}.resources.requests.storage"
        judge.say(child(spec, "resources") or spec, "missing-field", message, fix, field=field)
    elif (amount := judge.parsed(size, quantity.parse)) is not None and amount <= 0:
        judge.invalid(size, "must be greater than zero")
    storage_class = child(spec, "storageClassName")
    chosen = content(storage_class)
    if storage_class is not None and chosen and not is_subdomain(chosen):
        judge.invalid(storage_class, "must be the name of a StorageClass")
    judge.check_word(child(spec, "volumeMode"), ("Block", "Filesystem"))
    if (source := child(spec, "dataSource")) is not None:
        judge.check_filled(source, "kind", "name")


def judge_template_metadata(metadata: Node | None, judge: Judge) -> None:
    """The metadata that a template hands on: labels and annotations, and nothing else."""
    for name, node in fields(metadata).items():
        if name not in ("labels", "annotations"):
            message = f"{node.path}: cannot be set in a template"
            judge.say(
                node,
                "not-allowed",
                message,
                "Keep labels and annotations only.",
            )
    judge_keys(metadata, judge)
