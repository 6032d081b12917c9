"""One open page: a stream of small JSON messages, as server-sent events.

The first message has `hello`, the last hour and the state of now; each later one has only what has
changed, at most four times a second. A page that does not read is dropped: its browser connects
again and gets the whole state anew.
"""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from relume.base.clock import Clock
from relume.eventing.observer import Observer
from relume.plane.page.feed import Feed
from relume.plane.page.history import EVERY_S
from relume.plane.page.live_events import LiveEvents

TICK_S = 0.25
#: A page that takes longer to take one message is given up.
SLOW_S = 10.0
#: Something is written so often, so that a page that went away is noticed.
KEEPALIVE_S = 15.0


class Reader:
    """What one page was told, and what it wants to know."""

    def __init__(self, feed: Feed, observer: Observer, *, prompts: bool) -> None:
        # Nobody can guess it, so a page can only change its own filter and follow its own events.
        self.id = secrets.token_urlsafe(16)
        self.events = LiveEvents(observer, prompts=prompts)
        self._feed = feed
        self._prompts = prompts
        self._version = 0
        self._samples = 0
        self._greeted = False

    async def message(self) -> bytes:
        """The next message; empty where nothing is new."""
        news: dict[str, object] = self._feed.board.since(self._version)
        self._version = self._feed.board.version
        if samples := self._feed.history.since(self._samples):
            news["samples"] = samples
            self._samples = self._feed.history.count
        if not self._greeted:
            self._greeted = True
            hello = {"stream": self.id, "prompts": self._prompts, "every_s": EVERY_S}
            news["hello"] = hello
        news |= await self.events.news()
        return b"data: " + orjson.dumps(news) + b"\n\n" if news else b""


class ReaderStream(Response):
    """The response to one page, which is `opened` while it is read.

    `going_on` says whether the plane still serves pages.
    """

    def __init__(
        self,
        reader: Reader,
        opened: AbstractContextManager[None],
        clock: Clock,
        going_on: Callable[[], bool],
    ) -> None:
        headers = {"content-type": "text/event-stream", "cache-control": "no-store"}
        super().__init__(headers={**headers, "x-content-type-options": "nosniff"})
        del self.headers["content-length"]
        self._reader = reader
        self._opened = opened
        self._clock = clock
        self._going_on = going_on

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_gone(receive), name="page: its reader")
        try:
            with self._opened:
                start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
                await send(start)
                await self._tell(send, gone)
        except TimeoutError:
            return  # the server closes the connection, and the browser opens another one
        finally:
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell(self, send: Send, gone: "asyncio.Task[None]") -> None:
        written_at = self._clock.monotonic()
        while self._going_on() and not gone.done():
            message = await self._reader.message()
            if not message and self._clock.monotonic() - written_at >= KEEPALIVE_S:
                message = b":\n\n"
            if message:
                async with asyncio.timeout(SLOW_S):
                    await send({"type": "http.response.body", "body": message, "more_body": True})
                written_at = self._clock.monotonic()
            await self._clock.sleep(TICK_S)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
