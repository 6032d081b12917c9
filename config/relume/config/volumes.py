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
_WHY: Mapping[str, str] = {
    "emptyDir": "a predictor has this machine's own memory and temporary folders",
    "configMap": "a ConfigMap is not written to files here: name a file of this machine instead",
    "secret": "a Secret is not written to files here: name a file of this machine instead",
}


def read_mounts(predictor: Table, model: Table, resource: Resource) -> tuple[Mount, ...]:
    """The mounts that are a folder of this machine; others are noted, by the volume's kind.

    A PersistentVolumeClaim needs a folder that stands for it; a hostPath is its own.
    """
    volumes, mounts = predictor.get("volumes"), model.get("volumeMounts")
    if volumes is None and mounts is None:
        return ()
    by_name = {
        item.table().need("name", "a volume needs a name").text(): item.table()
        for item in (volumes.items() if volumes is not None else ())
    }
    found: list[Mount] = []
    for item in mounts.items() if mounts is not None else ():
        table = item.table()
        MOUNT.check(table, resource)
        name = table.need("name", "name a volume")
        path = table.need("mountPath", "write where the volume is").filled()
        if name.text() not in by_name:
            raise name.wrong(f'not found: "{name.text()}": spec.predictor.volumes has no such name')
        folder = _folder(by_name[name.text()], path, name, resource)
        if folder is not None:
            inside = table.get("subPath")
            below = folder if inside is None else str(PurePosixPath(folder) / inside.text())
            found.append(Mount(path, below))
    return tuple(found)


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
    why = _WHY.get(kind, f"a volume of kind {kind} is not here: name a file of this machine")
    resource.leave_out(mount, f"nothing is at {path}: {why}")
    return None
