"""The presets as the files under config/dra/deviceclasses.

    python -m relume.cluster.claims.published config/dra/deviceclasses

writes them; a test compares.
"""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from relume.cluster.claims.presets import Preset, presets

_HEAD = "# Generated: python -m relume.cluster.claims.published config/dra/deviceclasses\n"


def files() -> Mapping[str, str]:
    """The text of every file, by name."""
    written = {f"{name}.yaml": _text(members) for name, members in _groups().items()}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": sorted(written),
    }
    return {**written, "kustomization.yaml": _HEAD + _yaml([kustomization])}


def _groups() -> dict[str, list[Preset]]:
    groups: dict[str, list[Preset]] = {}
    for preset in presets():
        suffix = "-mig" if preset.partition else ""
        groups.setdefault(preset.vendor.lower() + suffix, []).append(preset)
    return groups


def _text(members: Iterable[Preset]) -> str:
    documents = (f"# {preset.what}\n" + _yaml([preset.manifest()]) for preset in members)
    return _HEAD + "---\n".join(documents)


def _yaml(documents: Iterable[Mapping[str, object]]) -> str:
    return yaml.safe_dump_all(documents, sort_keys=False, width=10_000)


def main(folder: Path) -> None:
    """Write every file into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
