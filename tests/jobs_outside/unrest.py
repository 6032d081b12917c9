"""Why jobs do not come to rest: what NATS says of each that is left, and of who should bring it on.

This shares no code with relume.
"""

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import nats.errors
from nats.aio.client import Client

from tests.jobs_outside.checker import JOBS, SETTLED, WORK, Accepted, record_of
from tests.jobs_outside.nats_cluster import connected

UNSENT = "relume_unsent"
_WITHIN_S = 20.0
_ANSWER_S = 2.0
_MOST = 10
_OF_RECORD = ("state", "round", "generation", "attempt", "worker", "leased_at", "position")


async def unrest(urls: Sequence[str], accepted: Iterable[Accepted]) -> str:
    """Lines about each job that has not settled, and about every consumer with something to do."""
    lines: list[str] = []
    try:
        async with asyncio.timeout(_WITHIN_S), connected(list(urls)) as client:
            for stream in (WORK, JOBS, UNSENT):
                lines += await _consumers(client, stream)
            left = 0
            for job in accepted:
                record = await _record(client, job.id)
                if record is not None and record.get("state") in SETTLED:
                    continue
                left += 1
                if left <= _MOST:
                    lines.append(f"{job.id}: {await _told(client, job.id, record)}")
            lines.append(f"{left} accepted jobs have not settled")
    except (nats.errors.Error, OSError, TimeoutError) as error:
        lines.append(f"nats-server does not answer: {error!r}")
    return "\n".join(lines)


async def _consumers(client: Client, stream: str) -> list[str]:
    listed = await _asked(client, f"CONSUMER.LIST.{stream}", {})
    return [
        f"consumer {each['name']} of {stream}: {each['num_pending']} were never given out, "
        f"{each['num_ack_pending']} are on lease, {each['num_redelivered']} came again, "
        f"{each['num_waiting']} requests wait; given out up to {each['delivered']['stream_seq']}, "
        f"acknowledged up to {each['ack_floor']['stream_seq']}"
        for each in listed.get("consumers") or ()
        if each["num_pending"] or each["num_ack_pending"]
    ]


async def _told(client: Client, job: str, record: Mapping[str, Any] | None) -> str:
    work = await _last(client, WORK, f"relume.work.*.*.*.{job}")
    lies = "no work message" if work is None else f"its work message lies at {work['seq']}"
    if record is None:
        return f"{lies}, and nobody has leased it"
    return f"{lies}; {', '.join(_fields(record))}"


def _fields(record: Mapping[str, Any]) -> Iterator[str]:
    return (f"{name} {record.get(name)}" for name in _OF_RECORD)


async def _record(client: Client, job: str) -> Mapping[str, Any] | None:
    found = await _last(client, JOBS, f"relume.job.{job}")
    return None if found is None else record_of(found["data"])


async def _last(client: Client, stream: str, subject: str) -> dict[str, Any] | None:
    """The last message under a subject: its `seq` and its `data`."""
    answer = await client.request(
        f"$JS.API.DIRECT.GET.{stream}",
        json.dumps({"multi_last": [subject], "batch": 1}).encode(),
        _ANSWER_S,
    )
    headers = answer.headers or {}
    if "Nats-Sequence" not in headers:
        return None
    return {"seq": headers["Nats-Sequence"], "data": answer.data}


async def _asked(client: Client, what: str, request: Mapping[str, Any]) -> dict[str, Any]:
    answer = await client.request(f"$JS.API.{what}", json.dumps(request).encode(), _ANSWER_S)
    told: dict[str, Any] = json.loads(answer.data)
    return told
