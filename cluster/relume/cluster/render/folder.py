"""A rendering as text, and as a folder that can be written again without overwriting other files.

The same documents always make the same bytes. The folder holds `base/` (and `monitoring/`), and
`cluster/` with the patches that are for the cluster's administrator.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from textwrap import wrap

import yaml

from relume.base.errors import InvalidInput
from relume.base.vocabulary import EVENTING_NAMESPACE, JsonValue
from relume.cluster.render.draft import Rendering, Setting

#: Lists the files of the last rendering; a folder that has it was made by `relume render`.
MARKER = ".relume-render.json"


def is_rendered(folder: Path) -> bool:
    """Whether `relume render` wrote this folder."""
    return (folder / MARKER).is_file()


def base_files(folder: Path) -> list[Path]:
    """The base of a rendering, with what somebody added to it."""
    return sorted((folder / "base").rglob("*.yaml"))


def cluster_files(folder: Path) -> list[Path]:
    """The patches that are for the cluster's administrator."""
    return sorted((folder / "cluster").glob("*.yaml"))


def with_renderings(paths: Sequence[Path]) -> list[Path]:
    """`paths`, in which a folder of a rendering, or its base, is replaced by the files in it."""
    found: list[Path] = []
    for path in paths:
        if is_rendered(path):
            found += (*base_files(path), *cluster_files(path))
        elif _real(path).name == "base" and is_rendered(_real(path).parent):
            found += sorted(path.rglob("*.yaml"))
        else:
            found.append(path)
    return found


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve refuses links that lead in a circle


HEAD = "# Made by relume render: change the manifests that it was made from, and render again.\n"
_WIDTH = 96


class _Dumper(yaml.SafeDumper):
    """Writes long texts as blocks, and never an alias."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, data: str) -> yaml.ScalarNode:
    style = "|" if "\n" in data else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _text)


def yaml_text(documents: Iterable[dict[str, JsonValue]], head: str = HEAD) -> str:
    """A YAML file with these documents, fields in their order."""
    made = yaml.dump_all(
        documents, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True
    )
    return head + str(made)


def settings_texts(settings: Sequence[Setting]) -> dict[str, str]:
    """The patches of config maps, by file, with the reason above each key."""
    texts = {}
    for (namespace, name), group in groupby(settings, lambda s: (s.namespace, s.config_map)):
        file = f"cluster/{'eventing-' if namespace == EVENTING_NAMESPACE else ''}{name}.yaml"
        texts[file] = _patch(namespace, name, list(group))
    return texts


def _patch(namespace: str, name: str, settings: Sequence[Setting]) -> str:
    command = f"kubectl patch configmap {name} -n {namespace} --type merge --patch-file {name}.yaml"
    lines = [
        HEAD.rstrip(),
        "# A patch for the cluster's own config map, for its administrator to apply:",
        f"#   {command}",
        "apiVersion: v1",
        "kind: ConfigMap",
        "metadata:",
        f"  name: {name}",
        f"  namespace: {namespace}",
        "data:",
    ]
    for setting in settings:
        lines += [f"  # {line}" for line in wrap(setting.why + ".", _WIDTH - 4)]
        lines.append(f'  {setting.key}: "{setting.value}"')
    return "\n".join(lines) + "\n"


def activator_text(seconds: int) -> str:
    """The patch of Knative's activator, whose pods must last longer than the longest request."""
    return f"""{HEAD}\
# The activator holds requests for as long as they may take, and a stopping one needs that long to
# finish them. For the cluster's administrator to apply:
#   kubectl patch deployment activator -n knative-serving --patch-file activator.yaml
apiVersion: apps/v1
kind: Deployment
metadata:
  name: activator
  namespace: knative-serving
spec:
  template:
    spec:
      terminationGracePeriodSeconds: {seconds}
"""


@dataclass(frozen=True, slots=True)
class Written:
    """What was done to the files, whose names are relative to the folder."""

    written: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]


def write(rendering: Rendering, folder: Path, *, force: bool = False) -> Written:
    """Write the files of `rendering`, and remove those of an earlier one that it no longer has.

    Files that somebody else put beside ours are left alone. Raises InvalidInput for a folder with
    files in it that no rendering made, unless `force`; then nothing was changed.
    """
    if folder.exists() and not folder.is_dir():
        raise InvalidInput(f"{folder}: not a folder", reason="not-a-folder")
    earlier = _earlier(folder)
    if earlier is None and not force:
        _check_ours(folder, rendering.files)
    known = set(earlier or ())
    folder.mkdir(parents=True, exist_ok=True)
    # All names, old and new, come first, so that the run after a crash can still clean up.
    _mark(folder, known | rendering.files.keys())
    written: list[str] = []
    unchanged: list[str] = []
    for name, text in rendering.files.items():
        (written if _write_file(folder / name, text) else unchanged).append(name)
    removed = sorted(known - rendering.files.keys())
    removed = [name for name in removed if _remove(folder, name)]
    _mark(folder, rendering.files)
    return Written(tuple(written), tuple(unchanged), tuple(removed))


def _earlier(folder: Path) -> list[str] | None:
    """The files of the last rendering into `folder`, None where there was none."""
    try:
        listed = json.loads((folder / MARKER).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(listed, list):
        return None
    return [name for name in listed if isinstance(name, str) and _is_inside(name)]


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and bool(path.parts)


def _check_ours(folder: Path, names: Iterable[str]) -> None:
    ours = {folder / name for name in names}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_symlink() or (not path.is_dir() and path not in ours):
            raise InvalidInput(
                f"{folder}: {path.relative_to(folder)} in there was not made by relume render: "
                "choose another folder, or write --force",
                reason="folder-not-ours",
            )


def _mark(folder: Path, names: Iterable[str]) -> None:
    _write_file(folder / MARKER, json.dumps({"files": sorted(names)}, indent=1) + "\n")


def _write_file(path: Path, text: str) -> bool:
    """Replace the file as a whole; False where it has this text already."""
    try:
        if path.read_text(encoding="utf-8") == text and not path.is_symlink():
            return False
    except (OSError, UnicodeDecodeError):
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = _beside(path)
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
    return True


def _beside(path: Path) -> Path:
    """Where a file is written before it takes its place."""
    return path.with_name(f".{path.name}.new")


def _remove(folder: Path, name: str) -> bool:
    path = folder / name
    _beside(path).unlink(missing_ok=True)  # of a rendering that broke off
    if not path.is_file() and not path.is_symlink():
        return False
    path.unlink()
    for parent in path.parents:
        if parent == folder or any(parent.iterdir()):
            break
        parent.rmdir()
    return True
