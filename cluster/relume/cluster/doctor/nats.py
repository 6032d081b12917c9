"""A NATS cluster that is asked: whether it has what the jobs gateway needs of it."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from relume.base.limits import MIB
from relume.cluster.doctor.files import read_files
from relume.cluster.doctor.gateways import gateways
from relume.cluster.findings import Finding
from relume.cluster.reasons import REASONS
from relume.cluster.render.gateway import COPIES
from relume.config.nodes import Table
from relume.eventing.settings import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from relume.eventing.jetstream.probe import NatsFacts

#: Messages with a time to live of their own (ADR-43).
OLDEST = (2, 11, 0)
GIB = 1024 * MIB
#: What must be free for each copy: a few hours of requests and answers.
ROOM_BYTES = 1 * GIB
_FULL = 0.8


def named_nats(files: Sequence[Path]) -> tuple[tuple[str, ...], int]:
    """The URLs that the first gateway among the documents names, and the copies that it wants.

    Raises InvalidInput for files that cannot be read.
    """
    read = read_files(files) if files else ()
    documents = [(i, one.root) for i, one in enumerate(read) if isinstance(one.root, Table)]
    found = next(iter(gateways(documents)), None)
    return ((), COPIES) if found is None else (found.nats_urls, found.copies)


def examine_nats(urls: Sequence[str], credentials: Path | None, copies: int) -> list[Finding]:
    """Ask the cluster at `urls`; `copies` is how many the gateway wants of every stream."""
    from relume.eventing.jetstream.probe import NatsUnreachable, probe

    try:
        facts = asyncio.run(
            probe(urls, credentials=credentials, copies=copies, room_bytes=ROOM_BYTES)
        )
    except NatsUnreachable as error:
        return [_say("nats-unreachable", "", str(error))]
    return list(judge_nats(facts, copies))


def unreachable_from_here(findings: Sequence[Finding]) -> list[Finding]:
    """The findings, where the URLs are those of a manifest and may mean nothing outside."""
    fix = "kubectl port-forward -n nats service/nats 4222, and --nats nats://127.0.0.1:4222"
    return [
        replace(one, gravity="info", fix=fix) if one.reason == "nats-unreachable" else one
        for one in findings
    ]


def judge_nats(facts: "NatsFacts", copies: int) -> Iterator[Finding]:
    """What was found of a cluster, as findings; facts that are as they should be are notes."""
    where, version = facts.address, ".".join(map(str, facts.version))
    yield _say("cluster-fact", where, f"nats-server {version}")
    if facts.version < OLDEST:
        oldest = ".".join(map(str, OLDEST[:2]))
        yield _say("nats-old", where, f"nats-server {version} is older than {oldest}")
    for address in facts.unreachable:
        yield _say("nats-server-away", address, f"{address} does not answer")
    if facts.max_message_bytes < MAX_MESSAGE_BYTES:
        message = f"max_payload is {_size(facts.max_message_bytes)}, and not "
        yield _say("nats-small-messages", where, message + _size(MAX_MESSAGE_BYTES))
    if facts.without_jetstream is not None:
        yield _say("nats-no-jetstream", where, facts.without_jetstream)
        return
    yield from _copies(facts, copies)
    yield from _room(facts)


def _copies(facts: "NatsFacts", copies: int) -> Iterator[Finding]:
    where = facts.address
    if facts.copies < copies:
        message = f"{copies} copies of a stream find no place: {facts.why_fewer}"
        yield _say("nats-too-few-servers", where, message)
    else:
        yield _say("cluster-fact", where, f"JetStream is on and takes {copies} copies of a stream")
    kept = facts.jobs
    if kept is None:
        return
    if kept.copies < copies:
        message = f"there are {kept.copies} copies of the stream {kept.name}, and not {copies}"
        yield _say("one-copy", kept.name, message)
    for server in kept.away:
        message = f"the copy of {kept.name} on {server} is behind, or the server is away"
        yield _say("nats-server-away", server, message)


def _room(facts: "NatsFacts") -> Iterator[Finding]:
    where, used, limit = facts.address, facts.used_bytes, facts.limit_bytes
    if facts.copies and not facts.room:
        message = f"less than {_size(ROOM_BYTES)} are free for each copy"
        yield _say("nats-little-room", where, message)
    if limit is None:
        message = f"{_size(used)} are stored; the account has no limit of its own"
        yield _say("cluster-fact", where, message)
    elif used > _FULL * limit:
        message = f"{_size(used)} of the account's {_size(limit)} are used"
        yield _say("nats-little-room", where, message)
    else:
        message = f"{_size(used)} of the account's {_size(limit)} are used"
        yield _say("cluster-fact", where, message)


def _size(count: int) -> str:
    if count >= GIB:
        return f"{count / GIB:.1f} GiB"
    return f"{count / MIB:.1f} MiB"


def _say(reason: str, field: str, message: str) -> Finding:
    return Finding(reason, field, message, REASONS[reason].fix)
