"""A predictor without a model, in a process of its own: it streams tokens that tell the time.

    python job_predictor.py PORT

Each token of an answer is the moment at which it is sent, in nanoseconds of the monotonic clock,
which all processes of a machine share. `max_tokens` is how many there are, the extra field
`pace_ms` the time between two. `GET /count` answers a JSON object: `answered` and `asked`.
"""

import asyncio
import json
import sys
import time
from typing import Any, cast

import uvloop

_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_PART = (
    b'data: {"id":"bench","object":"chat.completion.chunk","created":0,"model":"bench",'
    b'"choices":[{"index":0,"delta":{%b},"finish_reason":%b}]}\n\n'
)
_ROLE = _PART % (b'"role":"assistant","content":""', b"null")
_END = _PART % (b"", b'"stop"')
_USAGE = (
    b'data: {"id":"bench","object":"chat.completion.chunk","created":0,"model":"bench",'
    b'"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":%d,"total_tokens":%d}}\n\n'
)
_DONE = b"data: [DONE]\n\n"


class Count:
    """How many requests came, and how many were answered to their end."""

    asked = 0
    answered = 0


class Predictor(asyncio.Protocol):
    """One connection; one request after the other."""

    def __init__(self, count: Count) -> None:
        self._count = count
        self._buffer = b""
        self._answering: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _: Exception | None) -> None:
        if self._answering is not None:
            self._answering.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self._buffer[: head_end + 2].lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        end = head_end + 4 + length
        if len(self._buffer) < end:
            return
        body, self._buffer = self._buffer[head_end + 4 : end], self._buffer[end:]
        if head.startswith(b"get"):
            told = {"asked": self._count.asked, "answered": self._count.answered}
            self._plain(json.dumps(told if head.startswith(b"get /count") else {}).encode())
        else:
            self._count.asked += 1
            closes = b"\r\nconnection: close\r\n" in head
            self._answering = asyncio.ensure_future(self._answer(json.loads(body), closes))

    def _plain(self, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self._transport.write(head % len(body) + body)

    async def _answer(self, asked: dict[str, Any], closes: bool) -> None:
        tokens, pace_s = int(asked.get("max_tokens") or 8), float(asked.get("pace_ms", 0)) / 1000
        usage = _USAGE % (tokens, tokens + 1)
        if not pace_s:
            parts = [_ROLE, *(_token() for _ in range(tokens)), _END, usage, _DONE]
            self._transport.write(_HEAD + _chunk(b"".join(parts)) + b"0\r\n\r\n")
        else:
            self._transport.write(_HEAD + _chunk(_ROLE))
            for _ in range(tokens):
                await asyncio.sleep(pace_s)
                self._transport.write(_chunk(_token()))
            self._transport.write(_chunk(_END + usage + _DONE) + b"0\r\n\r\n")
        self._count.answered += 1
        if closes:
            self._transport.close()


def _token() -> bytes:
    return _PART % (b'"content":"%d "' % time.monotonic_ns(), b"null")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def serve(port: int) -> None:
    count = Count()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Predictor(count), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
