"""Bodies that are too large for a message: they lie in the object store, and a reference travels.

A request has its body in the job, or in the object store under `Job.payload`. An answer has it in
the record's result, or under `Result.payload`. A reply event is stored without its data, which is
the body of the result; when it is published, short data goes with it, and for long data it says by
the extension `dataref` where the data can be fetched.
"""

from collections.abc import AsyncIterator, Callable

from relume.base.vocabulary import DATAREF
from relume.cloudevents import json_format
from relume.cloudevents.event import CloudEvent
from relume.eventing.jobs.job import Job
from relume.eventing.jobs.state import Record
from relume.eventing.jobs.store import JobStore

# The absolute URL at which the result of a job can be fetched.
ResultUrl = Callable[[str], str]
_PART_BYTES = 128 * 1024


async def stow(
    store: JobStore,
    job_id: str,
    name: str,
    data: AsyncIterator[bytes],
    inline_bytes: int,
    lasts_s: float | None = None,
) -> tuple[bytes, str | None]:
    """A body of up to `inline_bytes` and None; of a longer one nothing, and its reference.

    A long body passes through without being held. Raises what `data` raises, StoreUnavailable and
    DiskFull.
    """
    held, size = list[bytes](), 0
    async for part in data:
        held.append(part)
        size += len(part)
        if size > inline_bytes:
            rest = _joined(held, data)
            return b"", await store.put_payload(job_id, name, rest, lasts_s=lasts_s)
    return b"".join(held), None


async def whole_body(store: JobStore, job: Job) -> bytes:
    """The body of a request, wherever it lies. Raises NoSuchPayload and StoreUnavailable."""
    if job.payload is None:
        return job.body
    return b"".join([part async for part in store.payload(job.payload)])


def request_event(job: Job, body: bytes) -> CloudEvent:
    """The event that a job came as, with its data, for the predictor."""
    return CloudEvent.create(job.event or {}, body or None)


def stored_reply(record: Record, result_url: ResultUrl) -> CloudEvent | None:
    """The predictor's reply event as it is published; None: there is none. Raises InvalidEvent."""
    if record.reply is None:
        return None
    reply, result = json_format.load_event(record.reply), record.result
    if reply.data is not None or result is None:
        return reply
    if result.payload is not None:
        return reply.with_attributes(**{DATAREF: result_url(record.id)})
    return CloudEvent(reply.attributes, result.body or None)


async def in_parts(body: bytes) -> AsyncIterator[bytes]:
    """A body in parts of the size that object stores use."""
    for start in range(0, len(body), _PART_BYTES):
        yield body[start : start + _PART_BYTES]


async def _joined(held: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    while held:
        yield held.pop(0)
    async for part in rest:
        yield part
