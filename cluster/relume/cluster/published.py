"""Folders of generated YAML files, each with a kustomization that lists them."""

from collections.abc import Mapping
from pathlib import Path

from relume.base.vocabulary import KUSTOMIZE_GROUP


def with_kustomization(texts: Mapping[str, str], head: str) -> Mapping[str, str]:
    """The files of `texts`, by name, and the kustomization; `head` is the comment above it."""
    resources = "".join(f"- {name}\n" for name in sorted(texts))
    kustomization = (
        f"{head}apiVersion: {KUSTOMIZE_GROUP}/v1beta1\nkind: Kustomization\nresources:\n{resources}"
    )
    return {**texts, "kustomization.yaml": kustomization}


def write(texts: Mapping[str, str], folder: Path) -> None:
    """Write every file into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
