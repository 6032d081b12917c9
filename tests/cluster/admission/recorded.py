"""The manifests in `verdicts/`, with what a real cluster answered to each."""

from pathlib import Path
from typing import Any

import yaml

_FOLDER = Path(__file__).parent / "verdicts"
_FILES = (
    "service",
    "inferenceservice",
    "trigger",
    "broker",
    "deviceclass",
    "resourceclaimtemplate",
)

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

RECORDED: list[dict[str, Any]] = [
    {"lenient": "", "message": "", **case}
    for name in _FILES
    for case in yaml.load_all((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"), _LOADER)
]


def verdict_of(case: dict[str, Any]) -> str:
    """The cluster's answer in our words: `accepted`, `pruned` or `refused`."""
    if case["strict"] == "accepted":
        return "accepted"
    return "pruned" if "pruned" in case["lenient"] else "refused"
