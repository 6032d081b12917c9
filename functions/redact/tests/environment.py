"""What the process needs in its environment: an address at which no nats-server answers."""

from pathlib import Path


def variables(folder: Path) -> dict[str, str]:
    return {"NATS_URL": "nats://127.0.0.1:9"}
