"""What the process needs in its environment: an endpoint at which nothing listens."""

from pathlib import Path

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def variables(folder: Path) -> dict[str, str]:
    file = folder / "secret"
    file.write_text(SECRET)
    return {
        "WEBHOOK_URL": "http://127.0.0.1:9/hook",
        "WEBHOOK_ALLOW_PRIVATE": "true",
        "WEBHOOK_SECRET_FILE": str(file),
    }
