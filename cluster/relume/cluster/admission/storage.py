"""Volumes of the cluster, and the classes that make them.

Source: kubernetes pkg/apis/core/validation/validation.go (ValidatePersistentVolumeSpec) and
pkg/apis/storage/validation/validation.go.
"""

from relume.cluster.admission.judge import Judge, child, content, entries, fields
from relume.cluster.admission.metadata import is_qualified_name
from relume.cluster.admission.volume_claims import ACCESS_MODES
from relume.cluster.claims import quantity
from relume.cluster.schemas import shape_of
from relume.config.nodes import Table

_POLICIES = ("Delete", "Recycle", "Retain")
_OTHER = {  # the fields of a volume that say not where it is
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
}


def judge_volume(document: Table, judge: Judge) -> None:
    """v1 PersistentVolume: one place, a size, and how it may be mounted."""
    spec = document.get("spec") or document
    if not entries(spec, "accessModes"):
        judge.missing(spec, "accessModes", path="spec")
    for mode in entries(spec, "accessModes"):
        judge.check_word(mode, ACCESS_MODES, empty=False)
    size = child(spec, "capacity", "storage")
    if size is None:
        field = "spec.capacity.storage"
        judge.say(spec, "missing-field", f"missing field(s): {field}", field=field)
    elif (amount := judge.parsed(size, quantity.parse)) is not None and amount <= 0:
        judge.invalid(size, "must be greater than zero")
    known = set(shape_of("v1", "PersistentVolume", "spec").type["fields"]) - _OTHER
    places = [name for name in fields(spec) if name in known]
    if len(places) > 1:
        judge.several(spec, *places)
    elif not places:
        message = "spec: must specify a volume type"
        judge.say(spec, "missing-field", message, "Write csi, nfs, local or another one.")
    judge.check_word(child(spec, "persistentVolumeReclaimPolicy"), _POLICIES)
    judge.check_word(child(spec, "volumeMode"), ("Block", "Filesystem"))


def judge_storage_class(document: Table, judge: Judge) -> None:
    """storage.k8s.io/v1 StorageClass."""
    maker = child(document, "provisioner")
    if maker is not None and not content(maker):
        judge.missing(document, "provisioner")
    elif maker is not None and not is_qualified_name(content(maker).lower()):
        judge.invalid(maker, "must be a name, with or without domain/ before it")
    judge.check_word(child(document, "reclaimPolicy"), ("Delete", "Retain"))
    words = ("Immediate", "WaitForFirstConsumer")
    judge.check_word(child(document, "volumeBindingMode"), words)
