"""What a NATS cluster has for jobs: asked of it over one connection, and tried.

An account cannot ask how many servers there are or what is free on their disks: only the system
account may. So a stream of the wanted size and number of copies is made, and removed at once.
"""

import asyncio
import contextlib
import math
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import StorageType, StreamConfig, StreamInfo

from relume.base.errors import RelumeError
from relume.eventing.jetstream.store import NATS_ERRORS

#: The stream that holds the jobs that wait; it tells how many copies there are.
WORK_STREAM = "relume_work"
_PREFIX = "relume_doctor_"
_WITHIN_S = 5.0
# err_code of nats-server: JetStream is not enabled for the account, or on the server.
_JETSTREAM_OFF = (10039, 10076)


class NatsUnreachable(RelumeError):
    """No server of the cluster answers, or it does not let us in; the message says which."""

    reason = "nats-unreachable"
    retryable = True


@dataclass(frozen=True, slots=True)
class KeptStream:
    """A stream that is there. `away` are the servers with a copy that is behind or not reached."""

    name: str
    copies: int
    away: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NatsFacts:
    """What was found; sizes in bytes.

    `unreachable` are addresses, without credentials, that did not answer while another one did.
    `without_jetstream` says why JetStream cannot be used, None where it can; then the rest counts.
    `copies` is how many copies of a stream were placed, at most as many as were asked for, and
    `why_fewer` what the cluster said where they were fewer. `room` is whether what was asked for is
    free. `limit_bytes` is the account's own limit, None without one; `used_bytes` what it holds.
    """

    address: str
    version: tuple[int, int, int]
    max_message_bytes: int
    unreachable: tuple[str, ...] = ()
    without_jetstream: str | None = None
    copies: int = 0
    why_fewer: str = ""
    room: bool = False
    used_bytes: int = 0
    limit_bytes: int | None = None
    jobs: KeptStream | None = None


async def probe(
    urls: Sequence[str],
    *,
    credentials: Path | None = None,
    copies: int = 3,
    room_bytes: int = 1 << 30,
    within_s: float = _WITHIN_S,
) -> NatsFacts:
    """Ask and try the cluster that `urls` name. Raises NatsUnreachable.

    `credentials` is a NATS credentials file. Each server gets `within_s` seconds to let us in.
    """
    async with _connected(urls, credentials, within_s) as (client, unreachable):
        found = client.connected_server_version
        facts = NatsFacts(
            address=address_of(client.connected_url.netloc if client.connected_url else ""),
            version=(found.major, found.minor, found.patch),
            max_message_bytes=client.max_payload,
            unreachable=unreachable,
        )
        return await _with_jetstream(client, facts, copies, room_bytes)


@contextlib.asynccontextmanager
async def _connected(
    urls: Sequence[str], credentials: Path | None, within_s: float
) -> AsyncIterator[tuple[Client, tuple[str, ...]]]:
    """A client at the first server that lets us in, and the addresses that did not."""
    refused: dict[str, str] = {}
    for url in urls:
        client, errors = Client(), list[Exception]()
        try:
            async with asyncio.timeout(within_s):
                await client.connect(
                    url,
                    error_cb=_collected(errors),
                    allow_reconnect=False,
                    connect_timeout=math.ceil(within_s),
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    user_credentials=None if credentials is None else str(credentials),
                )
        except (*NATS_ERRORS, TimeoutError, ValueError) as error:
            first = errors[0] if isinstance(error, nats.errors.NoServersError) and errors else error
            refused[address_of(url)] = _words(first, within_s)
            with contextlib.suppress(*NATS_ERRORS):
                await client.close()
            continue
        try:
            yield client, tuple(refused)
        finally:
            await client.close()
        return
    raise NatsUnreachable("; ".join(f"{where}: {why}" for where, why in refused.items()))


def _collected(errors: list[Exception]) -> Callable[[Exception], Awaitable[None]]:
    """A callback for nats-py, which itself says only that no server was left to try."""

    async def collect(error: Exception) -> None:
        errors.append(error)

    return collect


def _words(error: Exception, within_s: float) -> str:
    if isinstance(error, TimeoutError | nats.errors.TimeoutError):
        return f"no answer within {within_s:g} s"
    if isinstance(error, FileNotFoundError):
        return f"there is no credentials file {error.filename}"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    text = str(error).removeprefix("nats: ").strip("'\" ")
    return re.sub(r"\s+", " ", text) or type(error).__name__


def address_of(url: str) -> str:
    """Host and port of a URL, without the user and the password that may be in it."""
    return urlsplit(url if "://" in url else f"nats://{url}").netloc.rpartition("@")[2]


async def _with_jetstream(
    client: Client, facts: NatsFacts, copies: int, room_bytes: int
) -> NatsFacts:
    jetstream = client.jetstream(timeout=_WITHIN_S)
    try:
        account = await jetstream.account_info()
    except (nats.js.errors.Error, *NATS_ERRORS, TimeoutError) as error:
        return replace(facts, without_jetstream=_why_not(error))
    limit = account.limits.max_storage
    placed, why, room = await _tried(jetstream, copies, room_bytes)
    return replace(
        facts,
        copies=placed,
        why_fewer=why,
        room=room,
        used_bytes=account.storage,
        limit_bytes=None if limit < 0 else limit,
        jobs=await _kept(jetstream),
    )


def _why_not(error: Exception) -> str:
    code = getattr(error, "err_code", None)
    if code in _JETSTREAM_OFF or isinstance(error, nats.js.errors.ServiceUnavailableError):
        return "JetStream is not enabled for this account"
    if isinstance(error, nats.errors.NoRespondersError):
        return "JetStream is off, or this user may not ask it"
    return f"JetStream did not answer: {_words(error, _WITHIN_S)}"


async def _tried(
    jetstream: JetStreamContext, copies: int, room_bytes: int
) -> tuple[int, str, bool]:
    """How many copies are placed, why not more, and whether there is room for each.

    First everything at once, then without the size, then one copy alone.
    """
    why = await _try(jetstream, copies, room_bytes)
    if why is None:
        return copies, "", True
    if copies > 1 and (few := await _try(jetstream, copies, None)) is not None:
        alone = await _try(jetstream, 1, room_bytes)
        return (0 if alone and await _try(jetstream, 1, None) else 1), few, alone is None
    return copies, "", False


async def _try(jetstream: JetStreamContext, copies: int, size: int | None) -> str | None:
    """Make and remove a stream; what nats-server says where it refuses, else None."""
    name = _PREFIX + secrets.token_hex(8)
    config = StreamConfig(
        name=name,
        subjects=[f"relume.doctor.{name}"],
        storage=StorageType.FILE,
        num_replicas=copies,
        max_bytes=size,
    )
    try:
        await jetstream.add_stream(config)
    except (nats.js.errors.Error, *NATS_ERRORS, TimeoutError) as error:
        # A cluster that was too slow to answer may have made it.
        why = getattr(error, "description", None) or _words(error, _WITHIN_S)
        await _remove(jetstream, name)
        return str(why)
    await _remove(jetstream, name)
    return None


async def _remove(jetstream: JetStreamContext, name: str) -> None:
    with contextlib.suppress(nats.js.errors.Error, *NATS_ERRORS, TimeoutError):
        await jetstream.delete_stream(name)


async def _kept(jetstream: JetStreamContext) -> KeptStream | None:
    """The stream of the jobs that wait, None where there is none yet."""
    try:
        info = await jetstream.stream_info(WORK_STREAM)
    except (nats.js.errors.Error, *NATS_ERRORS, TimeoutError):
        return None
    return KeptStream(WORK_STREAM, info.config.num_replicas or 1, _away(info))


def _away(info: StreamInfo) -> tuple[str, ...]:
    peers = (info.cluster.replicas or []) if info.cluster is not None else []
    return tuple(sorted(one.name or "?" for one in peers if one.offline or not one.current))
