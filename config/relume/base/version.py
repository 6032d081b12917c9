"""The version that is installed."""

from importlib import metadata


def version() -> str:
    """Version of the installed distribution, "0+unknown" when it runs without being installed."""
    try:
        return metadata.version("relume")
    except metadata.PackageNotFoundError:
        return "0+unknown"
