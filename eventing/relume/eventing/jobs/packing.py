"""A record as bytes: one line of JSON, then the body of the result, then the reply, untouched.

The chunks of an answer are stored in the same way."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson

from relume.base.errors import RelumeError
from relume.eventing.jobs.job import ServiceName
from relume.eventing.jobs.state import SETTLED, Record, Result, Usage
from relume.eventing.jobs.store import Chunk

_TIMES = ("accepted_at", "leased_at", "streaming_at", "settled_at")


class DamagedRecord(RelumeError):
    """The stored bytes are not a record that `pack_record` has made."""

    reason = "damaged-record"


def pack_record(record: Record) -> bytes:
    """The stored form of a record."""
    head: dict[str, Any] = {name: getattr(record, name) for name in Record.__slots__}
    service, usage, result, reply = record.service, record.usage, record.result, record.reply
    head["service"] = (service.namespace, service.name)
    head["usage"] = {name: getattr(usage, name) for name in Usage.__slots__}
    head["reply"] = None if reply is None else len(reply)
    body = b""
    if result is not None:
        body = result.body
        head["result"] = (result.status, result.content_type, result.payload, len(body))
    return b"%b\n%b%b" % (orjson.dumps(head), body, reply or b"")


def unpack_record(stored: bytes) -> Record:
    """Raises DamagedRecord when the bytes were not written by `pack_record`."""
    end = stored.find(b"\n")
    try:
        head = orjson.loads(memoryview(stored)[:end])
        start = end + 1
        if (told := head["result"]) is not None:
            status, content_type, payload, size = told
            head["result"] = Result(status, content_type, stored[start : start + size], payload)
            start += size
        if (size := head["reply"]) is not None:
            head["reply"] = stored[start : start + size]
            start += size
        if start != len(stored):
            raise ValueError(f"{len(stored)} bytes instead of {start}")
        head["service"] = ServiceName(*head["service"])
        head["usage"] = Usage(**head["usage"])
        for name in _TIMES:
            if (at := head[name]) is not None:
                head[name] = datetime.fromisoformat(at)
        return Record(**head)
    except (KeyError, ValueError, TypeError) as error:
        raise DamagedRecord(f"the stored record is damaged: {error!r}") from None


def is_settled(stored: bytes) -> bool:
    """Whether a packed record is that of a settled job; False where it is damaged."""
    try:
        return orjson.loads(memoryview(stored)[: stored.find(b"\n")])["state"] in SETTLED
    except (KeyError, ValueError, TypeError):
        return False


def pack_chunks(chunks: Sequence[Chunk]) -> bytes:
    """Chunks that are stored as one message: one line of JSON about them, then their data."""
    head = [(each.position, each.kind, each.generation, len(each.data)) for each in chunks]
    return b"%b\n%b" % (orjson.dumps(head), b"".join([each.data for each in chunks]))


def unpack_chunks(stored: bytes) -> list[Chunk]:
    """Raises DamagedRecord when the bytes were not written by `pack_chunks`."""
    start = stored.find(b"\n") + 1
    chunks: list[Chunk] = []
    try:
        for position, kind, generation, size in orjson.loads(memoryview(stored)[:start]):
            chunks.append(Chunk(position, kind, stored[start : start + size], generation))
            start += size
    except (ValueError, TypeError) as error:
        raise DamagedRecord(f"the stored chunks are damaged: {error!r}") from None
    return chunks
