"""Server-sent events, as a predictor streams them: bytes in any pieces in, the data of events out.

Only `data` counts here; comments and the fields `event`, `id` and `retry` are passed over. Lines
end with LF, CR or both (WHATWG HTML, "Parsing an event stream"). An event that is not closed by an
empty line is none.
"""

from relume.base.errors import RelumeError


class EventTooLong(RelumeError):
    """One event has more bytes than are taken."""

    reason = "answer-too-large"


class EventParser:
    """Parses one stream. Holds at most `limit` bytes of an event that is not complete."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._line = b""
        self._after_cr = False
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of each event that `piece` completes. Raises EventTooLong."""
        found: list[bytes] = []
        if not piece:
            return found
        if (
            piece.startswith(b"data: ")
            and piece.find(b"\n") == len(piece) - 2
            and piece.endswith(b"\n\n")
            and len(piece) <= self._limit
            and not (self._line or self._data or self._after_cr or b"\r" in piece)
        ):
            return [piece[6:-2]]  # one event, as a predictor sends nearly all of them
        if self._after_cr and piece.startswith(b"\n"):
            piece = piece[1:]  # the second half of a CR LF
        self._after_cr = piece.endswith(b"\r")
        if b"\r" in piece:
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._line = (self._line + piece).split(b"\n")
        for line in lines:
            if line:
                self._take(line)
            elif self._data:
                found.append(b"\n".join(self._data))
                self._data, self._size = [], 0
        if self._size + len(self._line) > self._limit:
            raise EventTooLong(f"an event of the stream is larger than {self._limit} bytes")
        return found

    def _take(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        if field != b"data":
            return
        self._data.append(value.removeprefix(b" "))
        self._size += len(value)
        if self._size > self._limit:
            raise EventTooLong(f"an event of the stream is larger than {self._limit} bytes")
