"""The answer to one request of HTTP/1.1, read from its bytes as they come in. Pure: no I/O.

Every request gets a reader of its own, with a parser of its own. So nothing that an earlier answer
on the same connection left behind can become part of a later one.
"""

from collections.abc import Callable
from typing import NamedTuple

import httptools

from relume.base.limits import HEAD_BYTES, HEADER_BYTES, HEADERS
from relume.web.codings import BrokenCoding, Decoder, UnsupportedCoding, coding_of

Header = tuple[str, str]

# How many bytes are read of the body of an answer with this status; one more is given.
Limit = Callable[[int], int]

_SWITCHING = 101


class BadAnswer(ConnectionError):
    """What came back is no complete answer of HTTP/1.1."""


class Answer(NamedTuple):
    """A status, headers as latin-1 text, and the body, of which the rest may be left out."""

    status: int
    headers: list[Header]
    body: bytes


class AnswerReader:
    """Feed it what comes in, and tell it of the end of the connection; `answer` is the result.

    Interim answers (1xx) are passed over, but 101: it ends HTTP on the connection, and as nobody
    asked for that it is a failed answer. Trailers are read and thrown away.
    """

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._parser = httptools.HttpResponseParser(self)
        # What common clients forgive a server as well.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )
        self._headers: list[Header] = []
        self._status: int | None = None  # of a final answer whose head has come
        self._body: bytes | bytearray = b""
        # Bytes of this message since its begin, its head or the last part of its body: what a head,
        # the size of a chunk, or the trailers have so far.
        self._overhead = 0
        self._is_inside = False
        self._advanced = False
        self._is_over = False
        self._may_go_on = False

    @property
    def is_over(self) -> bool:
        """Whether enough has come in for `answer`."""
        return self._is_over

    @property
    def may_go_on(self) -> bool:
        """Whether the answer came to its own end, and another may follow on the connection."""
        return self._may_go_on

    @property
    def answer(self) -> Answer:
        """The answer, once it is over. Raises BadAnswer where its coding is broken."""
        if not self._is_over or self._status is None:
            raise BadAnswer("there is no complete answer yet")
        coded = [value for name, value in self._headers if name.lower() == "content-encoding"]
        body = bytes(self._body)
        if coded:
            try:
                body = _decoded(body, ", ".join(coded), self._limit(self._status))
            except BrokenCoding as error:
                raise BadAnswer(str(error)) from None
        return Answer(self._status, self._headers, body)

    def feed(self, data: bytes) -> None:
        """Take what came in. Raises BadAnswer; not for what stands behind a complete answer."""
        self._advanced = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # 101: what follows is not HTTP
        except httptools.HttpParserError as error:
            self._may_go_on = False
            if not self._is_over:
                # What the methods below raise stands behind httptools' words.
                words = str(error.__context__ or error) or type(error).__name__
                raise BadAnswer(words) from None
        goes_on = self._is_inside and not self._advanced
        self._overhead = self._overhead + len(data) if goes_on else 0
        if self._overhead > HEAD_BYTES and not self._is_over:
            raise BadAnswer(f"the head or the trailers are larger than {HEAD_BYTES} bytes")

    def end(self) -> None:
        """The connection ended. Raises BadAnswer unless the body ends with it (RFC 9112 §6.3)."""
        self._may_go_on = False
        if self._is_over:
            return
        if self._status is None or self._tells_its_end():
            raise BadAnswer("the subscriber closed the connection before its answer was complete")
        self._is_over = True

    def _tells_its_end(self) -> bool:
        told = [(name.lower(), value.lower()) for name, value in self._headers]
        chunked = any(name == "transfer-encoding" and "chunked" in value for name, value in told)
        return chunked or any(name == "content-length" for name, _ in told)

    # ---- called by the parser

    def on_message_begin(self) -> None:
        if self._is_over:
            raise BadAnswer("a second answer to one request")
        self._headers = []
        self._is_inside = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._status is not None:
            return  # a trailer
        if len(name) + len(value) > HEADER_BYTES or len(self._headers) >= HEADERS:
            raise BadAnswer(f"more headers than {HEADERS}, or one above {HEADER_BYTES} bytes")
        if b"\0" in value:
            raise BadAnswer("a header with a NUL")
        self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self._advanced = True
        status = self._parser.get_status_code()
        if not 100 <= status < 200 or status == _SWITCHING:
            self._status = status  # else this is an interim answer, and the final one follows

    def on_body(self, part: bytes) -> None:
        if self._is_over or self._status is None:
            return
        self._advanced = True
        if not self._body:
            self._body = part
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += part
        self._is_over = len(self._body) > self._limit(self._status)

    def on_message_complete(self) -> None:
        self._is_inside = False
        if self._status is not None and not self._is_over:
            self._is_over = True
            self._may_go_on = self._status != _SWITCHING and self._parser.should_keep_alive()


def _decoded(body: bytes, field: str, limit: int) -> bytes:
    """A body without the coding that was not asked for; not much more of it than `limit`.

    What has a coding that is not known here stays as it is. Raises BrokenCoding.
    """
    try:
        coding = coding_of(field)
    except UnsupportedCoding:
        return body
    if coding is None or not body:
        return body
    decoder, parts, size = Decoder(coding), list[bytes](), 0
    for piece in decoder.feed(body):
        parts.append(piece)
        size += len(piece)
        if size > limit:
            return b"".join(parts)
    return b"".join((*parts, decoder.end()))
