"""The answers of jobs as they came: chunks, several in one message when they came together.

Each message is stored only where the writer knows the one before it. So nobody can write behind the
back of a worker that has taken a job over.
"""

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

from nats.aio.msg import Msg

from relume.eventing.jetstream.job_api import JobApi, Message
from relume.eventing.jetstream.job_live import LiveSubject, live
from relume.eventing.jetstream.job_streams import (
    TOKENS,
    WRITE,
    reading_subject,
    tokens_subject,
    ttl,
)
from relume.eventing.jetstream.store import NATS_ERRORS
from relume.eventing.jobs.packing import pack_chunks, unpack_chunks
from relume.eventing.jobs.readers import Reader, Readers
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.state import LeaseLost
from relume.eventing.jobs.store import Chunk

# How long a node that is behind the leader of the stream is given before it is asked again.
_BEHIND_S = 0.02


@dataclass(frozen=True, slots=True)
class _Together:
    """Chunks that were stored in one message, at a place; `after` is the one before it."""

    place: int
    after: int
    chunks: Sequence[Chunk]


class JobChunks:
    """The part of a JobStore that keeps answers."""

    def __init__(self, api: JobApi, settings: JobSettings) -> None:
        self._api = api
        self._settings = settings
        self.readers = Readers(self._written_elsewhere)
        self._followers: dict[str, set[LiveSubject[_Together]]] = {}

    async def open(self) -> None:
        """Listen to the readers at all gateways."""
        await self._api.client.subscribe(reading_subject("*"), cb=self._on_reader)

    async def append(
        self, job_id: str, chunks: Sequence[Chunk], after: int, *, lasts_s: float | None = None
    ) -> int:
        """See `JobStore.append`."""
        subject, mark = tokens_subject(job_id), self._api.mark()
        headers = {
            WRITE: mark,
            "Nats-Expected-Last-Subject-Sequence": str(after),
            **ttl(self._settings.parts_keep_s if lasts_s is None else lasts_s),
        }
        stored = await self._api.put(subject, pack_chunks(chunks), headers)
        if stored.sequence:
            self._hand_over(job_id, _Together(stored.sequence, after, chunks))
            return stored.sequence
        last = await self._api.last_at_leader(TOKENS, subject)
        if last is not None and last.headers.get(WRITE) == mark:
            return last.sequence
        raise LeaseLost(f"somebody else has appended to job {job_id} since")

    async def chunks(self, job_id: str, after: int = 0) -> tuple[Sequence[Chunk], int]:
        """See `JobStore.chunks`."""
        found: list[Chunk] = []
        place = 0
        async for message in self._stored(tokens_subject(job_id), 0):
            place = message.sequence
            found += _above(after, unpack_chunks(message.payload))
        return found, place

    async def follow(self, job_id: str, after: int = 0) -> AsyncIterator[Chunk]:
        """See `JobStore.follow`."""
        subject, place = tokens_subject(job_id), 0
        reader = Reader(self._api.clock.monotonic)
        bound = self._settings.unread_bytes
        async with live(self._api, subject, bound, _together) as messages:
            with self._following(job_id, messages):
                await self._say_that_it_is_read(job_id)
                whole = False
                while True:
                    taken: list[_Together] = []
                    if whole:
                        await messages.wait()
                        taken, whole = await messages.take()
                    for together in taken:
                        if together.place <= place:
                            continue  # the store had it already
                        if together.after != place:
                            whole = False
                            break
                        place = together.place
                        for chunk in _above(after, together.chunks):
                            if reader.is_due(chunk.generation):
                                await self._say_that_it_is_read(job_id)
                            after = chunk.position
                            yield chunk
                    if whole:
                        continue
                    async for message in self._stored(subject, place):
                        place = message.sequence
                        for chunk in _above(after, unpack_chunks(message.payload)):
                            after = chunk.position
                            yield chunk
                    whole = True

    @contextlib.contextmanager
    def _following(self, job_id: str, messages: LiveSubject[_Together]) -> Iterator[None]:
        """What is stored here is handed over to this follower while the block runs."""
        followers = self._followers.setdefault(job_id, set())
        followers.add(messages)
        try:
            yield
        finally:
            followers.discard(messages)
            if not followers and self._followers.get(job_id) is followers:
                del self._followers[job_id]

    def _hand_over(self, job_id: str, together: _Together) -> None:
        followers = self._followers.get(job_id)
        if followers and self.readers.are_of(job_id):
            size = sum(len(each.data) for each in together.chunks)
            for follower in followers:
                follower.hand(together, size)

    def _written_elsewhere(self, job_id: str) -> None:
        for follower in self._followers.get(job_id, ()):
            follower.part()

    async def _say_that_it_is_read(self, job_id: str) -> None:
        with contextlib.suppress(*NATS_ERRORS):  # it is said again
            await self._api.client.publish(reading_subject(job_id))

    async def _on_reader(self, message: Msg) -> None:
        self.readers.heard(message.subject.rpartition(".")[2])

    async def remove(self, job_id: str) -> None:
        """Nothing is left of the answer."""
        subject = tokens_subject(job_id)
        if await self._api.last_at_leader(TOKENS, subject) is not None:
            await self._api.purge(TOKENS, subject)

    async def _stored(self, subject: str, place: int) -> AsyncIterator[Message]:
        """The messages of one answer above a place, to the one that is the last now."""
        upto = 0
        if self._settings.replicas > 1:
            # A node that is behind would leave out the last ones: its leader knows them.
            if (last := await self._api.last_at_leader(TOKENS, subject)) is None:
                return
            upto = last.sequence
        while True:
            which = {"seq": place + 1, "next_by_subj": subject}
            messages = await self._api.page(TOKENS, which)
            for message in messages:
                place = message.sequence
                yield message
            if place >= upto and (not messages or messages[-1].is_last):
                return
            if not messages:
                last = await self._api.last_at_leader(TOKENS, subject)
                if last is None or last.sequence <= place:
                    return  # what was the last one was removed
                upto = last.sequence
                await self._api.clock.sleep(_BEHIND_S)


def _together(live: Msg) -> _Together:
    """What a message holds that was published again."""
    headers = live.headers or {}
    return _Together(
        int(headers["Nats-Sequence"]), int(headers["Nats-Last-Sequence"]), unpack_chunks(live.data)
    )


def _above(position: int, chunks: Sequence[Chunk]) -> list[Chunk]:
    return [each for each in chunks if each.position > position]
