"""The answers of jobs as they came: chunks, several in one message when they came together.

Each message is stored only where the writer knows the one before it. So nobody can write behind the
back of a worker that has taken a job over.
"""

import contextlib
from collections.abc import AsyncIterator, Sequence

from nats.aio.msg import Msg

from relume.eventing.jetstream.job_api import JobApi, Message
from relume.eventing.jetstream.job_live import live
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


class JobChunks:
    """The part of a JobStore that keeps answers."""

    def __init__(self, api: JobApi, settings: JobSettings) -> None:
        self._api = api
        self._settings = settings
        self.readers = Readers()

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
            found += _above(after, message)
        return found, place

    async def follow(self, job_id: str, after: int = 0) -> AsyncIterator[Chunk]:
        """See `JobStore.follow`."""
        subject, place = tokens_subject(job_id), 0
        reader = Reader(self._api.clock.monotonic)
        async with live(self._api, subject, self._settings.unread_bytes) as messages:
            await self._say_that_it_is_read(job_id)
            whole = False
            while True:
                taken: list[Message] = []
                if whole:
                    await messages.wait()
                    taken, whole = messages.take()
                for message in taken:
                    if message.sequence <= place:
                        continue  # the store had it already
                    if int(message.headers["Nats-Last-Sequence"]) != place:
                        whole = False
                        break
                    place = message.sequence
                    for chunk in _above(after, message):
                        if reader.is_due(chunk.generation):
                            await self._say_that_it_is_read(job_id)
                        after = chunk.position
                        yield chunk
                if whole:
                    continue
                async for message in self._stored(subject, place):
                    place = message.sequence
                    for chunk in _above(after, message):
                        after = chunk.position
                        yield chunk
                whole = True

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


def _above(position: int, message: Message) -> list[Chunk]:
    return [each for each in unpack_chunks(message.payload) if each.position > position]
