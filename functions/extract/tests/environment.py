"""What the process needs in its environment."""

from pathlib import Path


def variables(folder: Path) -> dict[str, str]:
    return {}
