"""The stream of records as server-sent events.

: subscribed            from here on no record is missed
data: {…}               the replayed records, oldest first
: live                  the replayed records end here
data: {…}               records as they happen
:                       nothing, now and then, to notice a client that went away
"""

import asyncio

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from relume.eventing.filters import Predicate
from relume.eventing.observer import Observer, Record, Subscription

SUBSCRIBED = ": subscribed"
LIVE = ": live"
KEEPALIVE_S = 15.0


class Watchers:
    """Everybody who watches one observer; closing ends all their streams."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.closed = False
        self._open: set[Subscription] = set()

    def add(self, subscription: Subscription) -> None:
        self._open.add(subscription)
        if self.closed:
            subscription.close()

    def discard(self, subscription: Subscription) -> None:
        self._open.discard(subscription)

    def close(self) -> None:
        self.closed = True
        for subscription in self._open:
            subscription.close()


class Watch(Response):
    """One client's stream of the `wanted`; ends when the client leaves or the plane stops."""

    def __init__(self, watchers: Watchers, *, replay: int, wanted: Predicate | None = None) -> None:
        super().__init__(headers={"content-type": "text/event-stream", "cache-control": "no-store"})
        del self.headers["content-length"]
        self._watchers = watchers
        self._replay = replay
        self._wanted = wanted or (lambda _: True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        observer = self._watchers.observer
        with observer.subscribe() as records:
            # No await since `subscribe`: what is recent now is not told again as live.
            recent = observer.recent(self._replay)
            past = b"".join(_line(record) for record in recent if self._wanted(record.event))
            head = f"{SUBSCRIBED}\n\n".encode() + past + f"{LIVE}\n\n".encode()
            self._watchers.add(records)
            try:
                await send(
                    {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
                )
                await _write(send, head)
                await _follow(records, self._wanted, receive, send)
            finally:
                self._watchers.discard(records)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _follow(records: Subscription, wanted: Predicate, receive: Receive, send: Send) -> None:
    """Write records as they come, until the subscription is closed."""
    async with asyncio.TaskGroup() as group:
        gone = group.create_task(_close_when_gone(records, receive))
        alive = group.create_task(_keep_alive(send))
        async for record in records:
            if wanted(record.event):
                await _write(send, _line(record))
        gone.cancel()
        alive.cancel()


async def _close_when_gone(records: Subscription, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    records.close()


async def _keep_alive(send: Send) -> None:
    while True:
        await asyncio.sleep(KEEPALIVE_S)
        await _write(send, b":\n\n")


async def _write(send: Send, chunk: bytes) -> None:
    await send({"type": "http.response.body", "body": chunk, "more_body": True})


def _line(record: Record) -> bytes:
    return b"data: " + record.to_json().encode() + b"\n\n"
