"""Read `volumes` and `volumeMounts`: folders of this machine for what a cluster would mount."""

from collections.abc import Mapping
from pathlib import PurePosixPath

from relume.config.fields import Fields, Resource
from relume.config.nodes import Node, Table
from relume.config.resources import Mount

MOUNT = Fields.of(
    "name mountPath subPath",
    harmless={
        "a predictor sees the folder itself": "readOnly recursiveReadOnly mountPropagation",
        "the path is taken as it is written": "subPathExpr",
    },
)
VOLUME = Fields.of(
    """name persistentVolumeClaim hostPath configMap secret emptyDir projected downwardAPI ephemeral
    csi image nfs iscsi fc local awsElasticBlockStore azureDisk azureFile cephfs cinder flexVolume
    flocker gcePersistentDisk gitRepo glusterfs photonPersistentDisk portworxVolume quobyte rbd
    scaleIO storageos vsphereVolume"""
)
_SOURCES = {
    "persistentVolumeClaim": Fields.of("claimName readOnly"),
    "hostPath": Fields.of("path type"),
    "configMap": Fields.of("name items optional defaultMode"),
    "secret": Fields.of("secretName items optional defaultMode"),
    "emptyDir": Fields.of("medium sizeLimit"),
}
KEY_TO_PATH = Fields.of("key path", harmless={"only you read the files": "mode"})
_NO_DISK = "a predictor has this machine's own memory and temporary folders"
_KINDS = {"configMap": ("ConfigMap", "name"), "secret": ("Secret", "secretName")}


def read_mounts(predictor: Table, model: Table, resource: Resource) -> tuple[Mount, ...]:
    """The mounts that are a folder of this machine; others are noted, by the volume's kind.

    A PersistentVolumeClaim needs a folder that stands for it; a hostPath is its own. A Secret or
    ConfigMap of the same files becomes files.
    """
    volumes, mounts = predictor.get("volumes"), model.get("volumeMounts")
    if volumes is None and mounts is None:
        return ()
    by_name = dict(_volume(item) for item in (volumes.items() if volumes is not None else ()))
    found: list[Mount] = []
    for item in mounts.items() if mounts is not None else ():
        table = item.table()
        MOUNT.check(table, resource)
        name = table.need("name", "name a volume")
        path = table.need("mountPath", "write where the volume is").filled()
        if name.text() not in by_name:
            raise name.wrong(f'not found: "{name.text()}": spec.predictor.volumes has no such name')
        below = table.get("subPath")
        inside = "" if below is None else _inside(below)
        if (mount := _mount(by_name[name.text()], path, inside, name, resource)) is not None:
            found.append(mount)
    return tuple(found)


def _volume(node: Node) -> tuple[str, Table]:
    table = node.table()
    VOLUME.refuse_unknown(table)
    for kind, source in table:
        if kind in _SOURCES:
            _SOURCES[kind].refuse_unknown(source.table())
    return table.need("name", "a volume needs a name").text(), table


def _mount(volume: Table, path: str, inside: str, mount: Node, resource: Resource) -> Mount | None:
    for field, (kind, called) in _KINDS.items():
        if (source := volume.get(field)) is not None:
            files = _files(source.table(), kind, called, path, resource)
            return None if files is None else Mount(path, files=files, only=inside)
    folder = _folder(volume, path, mount, resource)
    return None if folder is None else Mount(path, str(PurePosixPath(folder) / inside))


def _files(
    source: Table, kind: str, called: str, path: str, resource: Resource
) -> Mapping[str, str] | None:
    """The files of a Secret or ConfigMap by name; None, with a note, where no file has it."""
    name = source.need(called, f"name the {kind}")
    values = resource.here.values_of(kind, resource.namespace, name.text())
    if values is None:
        why = f"{kind} {resource.namespace}/{name.text()} is in none of these files: add it"
        resource.leave_out(name, f"nothing is at {path}: {why}")
        return None
    items = source.get("items")
    if items is None:
        return values
    found: dict[str, str] = {}
    for item in items.items():
        table = item.table()
        KEY_TO_PATH.check(table, resource)
        key = table.need("key", f"name a key of the {kind}")
        where = table.need("path", "write the name of the file")
        if key.text() in values:
            found[_inside(where)] = values[key.text()]
        else:
            resource.leave_out(key, f"{kind} {name.text()} has no text under this key")
    return found


def _inside(node: Node) -> str:
    """A path inside a volume."""
    path = PurePosixPath(node.filled())
    if path.is_absolute() or ".." in path.parts:
        raise node.wrong("must be a relative path without '..'")
    return str(path)


def _folder(volume: Table, path: str, mount: Node, resource: Resource) -> str | None:
    """The folder that stands for a volume; None where there is none."""
    claim = volume.get("persistentVolumeClaim")
    if claim is not None:
        named = claim.table().need("claimName", "name the claim")
        folder = resource.here.folder_of(resource.namespace, named.text())
        if folder is None:
            why = f"write --volume {named.text()}=DIR for the folder that stands for the claim"
            resource.cannot_run(named.origin, f"not honoured on this machine: {why}")
        return None if folder is None else str(folder.absolute())
    host = volume.get("hostPath")
    if host is not None:
        return host.table().need("path", "write the folder").filled()
    kinds = [kind for kind, _ in volume if kind != "name"]
    kind = kinds[0] if kinds else "emptyDir"
    other = f"a volume of kind {kind} is not here: name a file of this machine"
    why = _NO_DISK if kind == "emptyDir" else other
    resource.leave_out(mount, f"nothing is at {path}: {why}")
    return None
