"""From the YAML that `relume up` runs to plain Kubernetes YAML for a cluster.

`render(paths, options)` makes the documents, `write(rendering, folder)` puts them into a folder.
Every field that is not the user's own is set through a `Draft`, which records the rule that decided
it: `Rendering.decisions` is what `relume render --explain` prints.
"""

from collections.abc import Sequence
from pathlib import Path

from relume.cluster.render.draft import Note, Rendering
from relume.cluster.render.options import (
    BROKERS,
    ROUTES,
    GatewayOptions,
    Images,
    LlmDOptions,
    Options,
)


def render(paths: Sequence[Path], options: Options) -> Rendering:
    """Everything that a cluster needs for the manifests in `paths` (files and folders of files).

    Raises InvalidManifest, with file, line and field, for what no cluster takes and for what could
    not work on one by the chosen route.
    """
    from relume.cluster.render.compose import compose  # PyYAML only when there is something to read

    return compose(paths, options)


__all__ = [
    "BROKERS",
    "ROUTES",
    "GatewayOptions",
    "Images",
    "LlmDOptions",
    "Note",
    "Options",
    "Rendering",
    "render",
]
