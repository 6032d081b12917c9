"""The runtimes as the files under runtimes/manifests.

    python -m relume.cluster.render.published runtimes/manifests

writes them; a test compares.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from relume.cluster.published import with_kustomization, write
from relume.cluster.render.folder import yaml_text
from relume.cluster.render.runtimes import RUNTIMES

_HEAD = "# Generated: python -m relume.cluster.render.published runtimes/manifests\n"


def files() -> Mapping[str, str]:
    """The text of every file, by name."""
    texts = {f"{one.name}.yaml": yaml_text([one.manifest()], head=_HEAD) for one in RUNTIMES}
    return with_kustomization(texts, _HEAD)


if __name__ == "__main__":
    write(files(), Path(sys.argv[1]))
