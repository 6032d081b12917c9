"""Content codings of a request (RFC 9110 §8.4): gzip and deflate, in bounded pieces. Pure."""

import zlib
from collections.abc import Iterator

from relume.base.errors import RelumeError

#: What `Accept-Encoding` of a refusal says (RFC 9110 §12.5.3).
ACCEPTED = "gzip, deflate"

#: The largest piece that is decoded at once, and the largest that is given to zlib, in bytes.
PIECE_BYTES = 256 * 1024
_STEP_BYTES = 16 * 1024
#: A gzip stream may be several in a row; no client sends more of them than this.
_MOST_MEMBERS = 1000

_GZIP = frozenset({"gzip", "x-gzip"})  # the same coding (RFC 9110 §8.4.1.3)
_GZIP_BITS = 16 + zlib.MAX_WBITS
_RAW_BITS = -zlib.MAX_WBITS


class UnsupportedCoding(RelumeError):
    """The body is coded in a way that is not decoded here; the message says what to send."""

    reason = "unsupported-encoding"


class BrokenCoding(RelumeError):
    """The body is not what its Content-Encoding says."""

    reason = "broken-encoding"


def coding_of(field: str) -> str | None:
    """The one coding that a Content-Encoding names; None where the body is as it is.

    Raises UnsupportedCoding.
    """
    names = [name.strip().lower() for name in field.split(",")]
    codings = [name for name in names if name not in ("", "identity")]
    if not codings:
        return None
    if len(codings) > 1:
        raise UnsupportedCoding(
            f"Content-Encoding: {field[:80]!r}: send the body with one coding, or without any"
        )
    if codings[0] in _GZIP or codings[0] == "deflate":
        return codings[0]
    raise UnsupportedCoding(
        f"Content-Encoding: {field[:80]!r} is not supported: send {ACCEPTED} or no coding"
    )


class Decoder:
    """Decodes one body; `feed` it in order, then call `end`."""

    def __init__(self, coding: str) -> None:
        self._is_gzip = coding in _GZIP
        self._members = 0
        self._first = b""
        self._inflater: zlib._Decompress | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` decodes to, in pieces of at most PIECE_BYTES. Raises BrokenCoding."""
        try:
            for start in range(0, len(data), _STEP_BYTES):
                yield from self._decode(data[start : start + _STEP_BYTES])
        except zlib.error as error:
            raise BrokenCoding(f"the body is not what its Content-Encoding says: {error}") from None

    def end(self) -> bytes:
        """What is left at the end of the body. Raises BrokenCoding where that came too early."""
        if self._inflater is None:
            if self._first:
                raise BrokenCoding("the body ends in the middle of its Content-Encoding")
            return b""
        rest = self._inflater.flush()
        if not self._inflater.eof:
            raise BrokenCoding("the body ends in the middle of its Content-Encoding")
        return rest

    def _decode(self, step: bytes) -> Iterator[bytes]:
        while step:
            if self._inflater is None or self._inflater.eof:
                step = self._begin(step)
                if self._inflater is None or self._inflater.eof:
                    return
            if piece := self._inflater.decompress(step, PIECE_BYTES):
                yield piece
            done = self._inflater.eof
            step = self._inflater.unused_data if done else self._inflater.unconsumed_tail

    def _begin(self, step: bytes) -> bytes:
        """Start a stream with `step`, or wait for more of it; returns what the stream gets."""
        if self._members and self._is_gzip:
            step = step.lstrip(b"\0")  # gzip streams may be padded
            if not step:
                return step
        elif self._members:
            raise BrokenCoding("there is something behind the end of the coded body")
        if not self._is_gzip:
            self._first += step
            if len(self._first) < 2:
                return b""
            step = self._first
        self._members += 1
        if self._members > _MOST_MEMBERS:
            raise BrokenCoding(f"the body is more than {_MOST_MEMBERS} gzip streams")
        self._inflater = zlib.decompressobj(self._window_bits(step))
        return step

    def _window_bits(self, step: bytes) -> int:
        """How zlib reads the stream. Some clients send deflate without zlib's header."""
        if self._is_gzip:
            return _GZIP_BITS
        has_header = step[0] & 0x0F == 8 and int.from_bytes(step[:2]) % 31 == 0
        return zlib.MAX_WBITS if has_header else _RAW_BITS
