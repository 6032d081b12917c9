"""URLs as people may see them."""

from urllib.parse import urlsplit


def without_secrets(url: str) -> str:
    """The URL with `***` for the user and password that it may hold; for screens, logs, events."""
    host = urlsplit(url).netloc
    secret, at, place = host.rpartition("@")
    return url.replace(f"{secret}{at}{place}", f"***@{place}", 1) if at else url
