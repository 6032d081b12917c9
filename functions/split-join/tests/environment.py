"""What the process needs in its environment: addresses at which nothing answers."""

from pathlib import Path


def variables(folder: Path) -> dict[str, str]:
    return {"NATS_URL": "nats://127.0.0.1:9", "K_SINK": "http://127.0.0.1:9/"}
