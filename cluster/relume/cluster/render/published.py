"""The runtimes as the files under runtimes/manifests.

    python -m relume.cluster.render.published runtimes/manifests

writes them; a test compares.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from relume.cluster.render.draft import JsonValue
from relume.cluster.render.folder import yaml_text
from relume.cluster.render.runtimes import RUNTIMES

COMMAND = "python -m relume.cluster.render.published runtimes/manifests"


def files() -> Mapping[str, str]:
    """The text of every file, by name."""
    made = {f"{runtime.name}.yaml": _text(runtime.manifest()) for runtime in RUNTIMES}
    names: list[JsonValue] = [*sorted(made)]
    kustomization: dict[str, JsonValue] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": names,
    }
    return {**made, "kustomization.yaml": _text(kustomization)}


def _text(document: dict[str, JsonValue]) -> str:
    return yaml_text([document], head=f"# Generated: {COMMAND}\n")


def main(folder: Path) -> None:
    """Write every file into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
