"""The log files of one service's predictors, one per process."""

from pathlib import Path

KEPT = 5
TAIL_BYTES = 16384


class LogFiles:
    """Names the files, keeps the last five, reads their ends."""

    def __init__(self, folder: Path, namespace: str, name: str) -> None:
        self._folder = folder
        self._stem = f"{namespace}.{name}"

    def path(self, number: int) -> Path:
        """Return the file for the n-th process, which does not exist yet."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._path(number).unlink(missing_ok=True)
        self._path(number - KEPT).unlink(missing_ok=True)
        return self._path(number)

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._stem}.{number}.log"


def tail(path: Path, lines: int) -> tuple[str, ...]:
    """Return the last lines that are not empty; none if the file cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(file.tell() - TAIL_BYTES, 0))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ()
    found = [line.rstrip() for line in text.splitlines() if line.strip()]
    return tuple(found[-lines:])
