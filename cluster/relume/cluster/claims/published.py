"""The presets as the files under config/dra/deviceclasses.

    python -m relume.cluster.claims.published config/dra/deviceclasses

writes them; a test compares.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from relume.cluster.claims.presets import PRESETS
from relume.cluster.published import with_kustomization, write
from relume.config.yaml_scalars import ServerDumper

_HEAD = "# Generated: python -m relume.cluster.claims.published config/dra/deviceclasses\n"


def files() -> Mapping[str, str]:
    """The text of every file, by name: one for each vendor, and one for partitions."""
    groups: dict[str, list[str]] = {}
    for preset in PRESETS.values():
        name = f"{preset.vendor.lower()}{'-mig' if preset.partition else ''}.yaml"
        document = yaml.dump(preset.manifest(), Dumper=ServerDumper, sort_keys=False, width=10_000)
        groups.setdefault(name, []).append(f"# {preset.what}\n{document}")
    texts = {name: _HEAD + "---\n".join(members) for name, members in groups.items()}
    return with_kustomization(texts, _HEAD)


if __name__ == "__main__":
    write(files(), Path(sys.argv[1]))
