"""Large bodies in an object store of JetStream, in the form in which NATS clients keep objects.

A body is its parts under one subject, and then one message that tells its size. Without that the
body is not there. The parts of a body that breaks off or is refused are removed; where the writer
was killed, they go when their time is over.
"""

import base64
import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress

import orjson

from relume.eventing.event_log import StoreUnavailable
from relume.eventing.jetstream.job_api import JobApi
from relume.eventing.jetstream.job_streams import PAYLOADS, job_token, ttl
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.store import NoSuchPayload

# What is not removed by then goes when its time is over.
_REMOVED_WITHIN_S = 2.0
_PARTS, _ABOUT = "$O.relume_payloads.C", "$O.relume_payloads.M"


class JobPayloads:
    """The part of a JobStore that keeps large bodies."""

    def __init__(self, api: JobApi, settings: JobSettings) -> None:
        self._api = api
        self._settings = settings

    async def put(
        self, job_id: str, name: str, data: AsyncIterator[bytes], lasts_s: float | None
    ) -> str:
        """See `JobStore.put_payload`."""
        object_id = f"{job_token(job_id)}.{name}-{secrets.token_hex(6)}"
        reference = object_id.replace(".", "/")
        headers = ttl(self._settings.parts_keep_s if lasts_s is None else lasts_s)
        digest, size, parts = hashlib.sha256(), 0, 0
        try:
            async for part in _in_parts(data, self._settings.payload_part_bytes):
                await self._api.put(f"{_PARTS}.{object_id}", part, dict(headers))
                digest.update(part)
                size, parts = size + len(part), parts + 1
        except BaseException:
            # Else whoever sends bodies that are refused would fill the disk.
            with suppress(StoreUnavailable):
                await self._api.purge(PAYLOADS, f"{_PARTS}.{object_id}", _REMOVED_WITHIN_S)
            raise
        about = {
            "name": reference,
            "bucket": "relume_payloads",
            "nuid": object_id,
            "size": size,
            "chunks": parts,
            "mtime": self._api.clock.now().isoformat(),
            "digest": "SHA-256=" + base64.urlsafe_b64encode(digest.digest()).decode(),
            "options": {"max_chunk_size": self._settings.payload_part_bytes},
        }
        await self._api.put(
            _about(reference), orjson.dumps(about), {"Nats-Rollup": "sub", **headers}
        )
        return reference

    async def read(self, reference: str) -> AsyncIterator[bytes]:
        """See `JobStore.payload`."""
        told = await self._api.last_at_leader(PAYLOADS, _about(reference))
        if told is None:
            raise NoSuchPayload(f"{reference} is not stored (any more)")
        about = orjson.loads(told.payload)
        subject, place, left = f"{_PARTS}.{about['nuid']}", 0, about["size"]
        while left > 0:
            which = {"seq": place + 1, "next_by_subj": subject}
            messages = await self._api.page(PAYLOADS, which)
            if not messages:
                raise NoSuchPayload(f"{reference} is not stored any more")
            for message in messages:
                place, left = message.sequence, left - len(message.payload)
                yield message.payload

    async def remove(self, job_id: str) -> None:
        """Nothing is left of the large bodies of a job."""
        subject = f"{_PARTS}.{job_token(job_id)}.*"
        while (part := await self._api.last_at_leader(PAYLOADS, subject)) is not None:
            reference = part.subject.removeprefix(f"{_PARTS}.").replace(".", "/")
            # What tells of the body goes first: without it nobody reads the rest.
            if await self._api.last_at_leader(PAYLOADS, _about(reference)) is not None:
                await self._api.purge(PAYLOADS, _about(reference))
            await self._api.purge(PAYLOADS, part.subject)


def _about(reference: str) -> str:
    return f"{_ABOUT}.{base64.urlsafe_b64encode(reference.encode()).decode()}"


async def _in_parts(data: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """The same bytes in parts of `size`; the last one may be smaller."""
    held = bytearray()
    async for piece in data:
        for start in range(0, len(piece), size):
            held += memoryview(piece)[start : start + size]
            while len(held) >= size:
                yield bytes(held[:size])
                del held[:size]
    if held:
        yield bytes(held)
