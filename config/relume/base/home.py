"""Where the user's home folder is. A container may run as a user who has none."""

from pathlib import Path

from relume.base.errors import InvalidInput


class NoHome(InvalidInput):
    """HOME is not set, and the user is not in the password database."""

    reason = "no-home"


def home(variable: str) -> Path:
    """The home folder. Raises NoHome, which names `variable` as what to set instead."""
    try:
        return Path.home()
    except RuntimeError:
        raise NoHome(
            "HOME is not set and this user has no entry in the password database: "
            f"set HOME or {variable}"
        ) from None


def expanded(path: str) -> Path:
    """The path with a leading `~` or `~USER` replaced. Raises NoHome for who has no home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise NoHome(f"{path}: there is no such home folder; write the whole path") from None
