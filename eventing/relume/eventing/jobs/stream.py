"""The answer of a job as server-sent events, from any position on, as often as anybody asks.

    id: <position>            a part of the answer, as the predictor sent it
    data: …

    event: restarted          the answer begins again after this
    id: <position>
    data: {"attempt":2}

    : queued position=3 starts_in=12s     a comment, while nothing else comes
    : starting phase=weights starts_in=7s
    : running

    event: completed          the end, with the state of the job: one always comes
    id: <last position + 1>
    data: <the job object>

Everything comes from the store, so a client goes on at the next gateway where this one was killed.
Each stream follows the chunks for itself, because each has a position of its own; all streams of
one job share one watch of its record. A client that reads slowly holds no more than what the
server's buffer and the store's `unread_bytes` hold, and is given up when it reads nothing for long.
"""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from relume.base.clock import Clock, Timer
from relume.base.errors import InvalidInput
from relume.eventing.event_log import StoreUnavailable
from relume.eventing.jobs.answers import TooManyOfOne, TooManyStreams
from relume.eventing.jobs.outlook import Outlook, place_in_queue
from relume.eventing.jobs.shapes import job_object, told, without_body
from relume.eventing.jobs.state import QueueExpired, Record, step
from relume.eventing.jobs.store import Chunk, JobStore, NoSuchJob, Seen
from relume.eventing.jobs.watching import Watched, Watches, client_gone, closing

_POSITION = re.compile(r"[0-9]{1,15}")
_AGAIN_S = 1.0
# So long the stored chunks of a settled job may take to come.
_DRAIN_S = 1.0
_LINE_ENDS = re.compile(rb"\r\n|\r|\n")


class BadPosition(InvalidInput):
    """A client names no position from which to go on."""

    reason = "bad-position"


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """Durations in seconds."""

    # A comment comes after so much silence: proxies and clients give up after 30 s or more.
    comment_s: float = 5.0
    # A client that takes nothing for so long is given up.
    stalled_s: float = 60.0
    # Streams that may be open in this process.
    most: int = 4096
    # And those of one caller, where callers are told apart: nobody takes the places of all others.
    most_each: int = 1024


def position_of(last_event_id: str | None, starting_after: str | None) -> int:
    """The position after which a client goes on. Raises BadPosition.

    A client that reconnects by itself repeats its address and adds `Last-Event-ID`, so the header
    is the newer one.
    """
    for name, text in (("Last-Event-ID", last_event_id), ("starting_after", starting_after)):
        if text:
            if not _POSITION.fullmatch(text):
                raise BadPosition(f"{name}: write the number that was the id of the last event")
            return int(text)
    return 0


class Streams:
    """All open streams of this process."""

    def __init__(
        self,
        store: JobStore,
        watches: Watches,
        clock: Clock,
        outlook: Outlook,
        settings: StreamSettings | None = None,
    ) -> None:
        self.store = store
        self.watches = watches
        self.clock = clock
        self.outlook = outlook
        self.settings = settings or StreamSettings()
        self._open: Counter[str] = Counter()  # of each owner; "" is whoever is not known

    @property
    def open(self) -> int:
        return self._open.total()

    def of(self, seen: Seen, after: int, owner: str = "") -> "JobStream":
        """The stream of a job for a caller. Raises TooManyStreams, TooManyOfOne."""
        if self.open >= self.settings.most:
            raise TooManyStreams(f"{self.open} clients read streams: try again later")
        if owner and (mine := self._open[owner]) >= self.settings.most_each:
            raise TooManyOfOne(
                f"you read {mine} streams here, and one caller may read no more: close some"
            )
        return JobStream(self, seen, after, owner)

    def begins(self, owner: str) -> None:
        """One more stream of this caller is open."""
        self._open[owner] += 1

    def ends(self, owner: str) -> None:
        self._open[owner] -= 1
        if not self._open[owner]:
            del self._open[owner]


class JobStream(Response):
    """One client's stream."""

    def __init__(self, streams: Streams, seen: Seen, after: int, owner: str) -> None:
        super().__init__(
            headers={
                "content-type": "text/event-stream",
                "cache-control": "no-store",
                "x-accel-buffering": "no",
            }
        )
        del self.headers["content-length"]
        self._streams = streams
        self._owner = owner
        self._clock = streams.clock
        self._seen = without_body(seen)  # it is not held while the answer is read
        stored = told(self._seen)
        self._job_id, self._service, self._round = stored.id, stored.service, stored.round
        self._after = after
        self._shown = after
        self._state_told = ""
        self._told_at = self._clock.monotonic()
        self._sending_since: float | None = None
        self._wake = asyncio.Event()
        self._given_up = asyncio.Event()
        self._tick: Timer | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._send = send
        self._streams.begins(self._owner)
        tasks: list[asyncio.Task[object]] = []
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            self._on_tick()
            writing = asyncio.create_task(self._write())
            tasks += [
                writing,
                asyncio.create_task(client_gone(receive)),
                asyncio.create_task(self._given_up.wait()),
            ]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                writing.result()
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._streams.ends(self._owner)
            if self._tick is not None:
                self._tick.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _on_tick(self) -> None:
        """Look whether a comment is due, and whether the client still reads."""
        now, settings = self._clock.monotonic(), self._streams.settings
        if self._sending_since is not None and now - self._sending_since >= settings.stalled_s:
            self._given_up.set()
            return
        self._wake.set()
        quiet_s = now - self._told_at
        left_s = settings.comment_s - (quiet_s if quiet_s < settings.comment_s else 0.0)
        self._tick = self._clock.call_later(left_s, self._on_tick)

    async def _write(self) -> None:
        """Write the stream up to its end, or until this process stops."""
        job_id, store = self._job_id, self._streams.store
        with self._streams.watches.of(job_id, self._wake) as watched:
            while True:
                try:
                    async with closing(store.follow(job_id, self._shown)) as chunks:
                        ended = await self._pass_on(chunks, watched)
                    if ended is not None:
                        await self._finish(ended)
                    return
                except StoreUnavailable:
                    await self._clock.sleep(_AGAIN_S)

    async def _pass_on(self, chunks: AsyncIterator[Chunk], watched: Watched) -> Record | None:
        """Write chunks as they come; returns how the job ended, None when this process stops."""
        if self._end(watched) is None:
            await self._comment_when_due(watched)
        showing = asyncio.create_task(self._show_all(chunks, watched))
        showing.add_done_callback(lambda _: self._wake.set())
        try:
            while not self._streams.watches.closed:
                record = self._end(watched)
                if showing.done():
                    showing.result()  # it ends by its error only
                elif record is None:
                    await self._comment_when_due(watched)
                    await self._woken()
                elif self._shown >= record.position or record.deleted:
                    return record
                elif not await self._woken(within_s=_DRAIN_S):
                    return record  # nothing more comes
            return None
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)

    async def _show_all(self, chunks: AsyncIterator[Chunk], watched: Watched) -> None:
        """Write chunks as they come, without a detour through whoever waits for the end."""
        async for chunk in chunks:
            record = self._end(watched)
            await self._show(chunk, record)
            if record is not None:
                self._wake.set()

    async def _woken(self, within_s: float | None = None) -> bool:
        """Wait until something happens; False when nothing did in time."""
        late = asyncio.Event()

        def is_late() -> None:
            late.set()
            self._wake.set()

        timer = None if within_s is None else self._clock.call_later(within_s, is_late)
        try:
            await self._wake.wait()
            self._wake.clear()
        finally:
            if timer is not None:
                timer.cancel()
        return not late.is_set()

    def _end(self, watched: Watched) -> Record | None:
        """The record of the settled job, by its watch or by the last look."""
        record = watched.settled(self._round)
        if record is not None:
            return record
        seen = self._seen.current
        return seen if seen is not None and seen.settled else None

    async def _comment_when_due(self, watched: Watched) -> None:
        """Say what the job does, at once when that changes, and after a silence."""
        now = self._clock.monotonic()
        if now - self._told_at >= self._streams.settings.comment_s:
            await self._look()
            if self._end(watched) is not None:
                self._wake.set()
                return
        elif self._state(watched) == self._state_told:
            return
        self._state_told = self._state(watched)
        await self._write_out(f": {await self._doing()}\n\n".encode())

    def _state(self, watched: Watched) -> str:
        record = watched.record
        if record is not None and record.round >= self._round:
            return record.state
        return self._seen.state

    async def _doing(self) -> str:
        """What a comment says of the job."""
        outlook, service = self._streams.outlook, self._service
        if self._state_told == "queued":
            try:
                place, starts_in_s = await place_in_queue(self._streams.store, outlook, self._seen)
            except StoreUnavailable:
                return "queued"
            position = "" if place is None else f" position={place}"
            return f"queued{position}" + _starts_in(starts_in_s)
        if self._state_told == "leased":
            # Without a name while the predictor's process has not told its first phase yet.
            phase, ready_in_s = outlook.phase(service), outlook.ready_in_s(service)
            return (f"starting phase={phase}" if phase else "starting") + _starts_in(ready_in_s)
        return "running"

    async def _look(self) -> None:
        """Read what is stored, in case that the job is forgotten: then it has ended, too."""
        try:
            seen = await self._streams.store.look(self._job_id)
        except StoreUnavailable:
            return
        except NoSuchJob:
            at = self._clock.now()
            record = self._seen.current or step(None, self._seen.job, QueueExpired(at))
            forgotten = "the job was forgotten before it had settled"
            ended = replace(record, state="expired", reason="gone", detail=forgotten, settled_at=at)
            self._seen = Seen(None, 0, ended, 0)
            return
        self._seen = without_body(seen)

    async def _finish(self, record: Record) -> None:
        """Write what is left, and the terminal event."""
        left, _ = await self._streams.store.chunks(self._job_id, self._shown)
        for chunk in left:
            await self._show(chunk, record)
        # A client that was shown more before it was ended gets its end after that.
        last = max(self._shown, record.position) if self._shown > self._after else record.position
        shown = orjson.dumps(job_object(Seen(None, 0, record, 0)))
        await self._write_out(
            b"event: %b\nid: %d\ndata: %b\n\n" % (record.state.encode(), last + 1, shown)
        )

    async def _show(self, chunk: Chunk, ended: Record | None) -> None:
        """Write a chunk, once. A worker may store some before it notices that it is cancelled."""
        if ended is not None and ended.state == "cancelled" and chunk.position > ended.position:
            return
        if chunk.position > self._shown:
            await self._write_out(_event(chunk))
            # Not before: who is cancelled while the client takes nothing has written nothing.
            self._shown = chunk.position

    async def _write_out(self, data: bytes) -> None:
        self._sending_since = self._clock.monotonic()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        self._sending_since = None
        self._told_at = self._clock.monotonic()


def _starts_in(seconds: float | None) -> str:
    return "" if seconds is None else f" starts_in={max(round(seconds), 1)}s"


def _event(chunk: Chunk) -> bytes:
    if chunk.kind == "restarted":
        attempt = b'{"attempt":%b}' % chunk.data
        return b"event: restarted\nid: %d\ndata: %b\n\n" % (chunk.position, attempt)
    data = chunk.data
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(_LINE_ENDS.split(data))
    return b"id: %d\ndata: %b\n\n" % (chunk.position, data)
