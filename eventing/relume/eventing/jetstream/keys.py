"""API keys in JetStream: one entry `key.<id>` of the key-value bucket `relume_control` for each."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig, StorageType
from nats.js.kv import KeyValue

from relume.eventing.event_log import StoreUnavailable
from relume.eventing.jetstream.store import NATS_ERRORS
from relume.eventing.jobs.keys import StoredKey

BUCKET = "relume_control"
_PREFIX = "key."
_CONNECT_WITHIN_S = 5.0
# err_code of nats-server: replicas > 1 not supported in non-clustered mode.
_NO_CLUSTER = 10074


class JetStreamKeyStore:
    """A KeyStore over a connection that somebody else opens and closes."""

    def __init__(self, jetstream: JetStreamContext, bucket: KeyValue) -> None:
        self._jetstream = jetstream
        self._bucket = bucket

    @classmethod
    async def open(cls, jetstream: JetStreamContext, replicas: int) -> "JetStreamKeyStore":
        """Make the bucket where it is missing. Raises StoreUnavailable."""
        try:
            try:
                return cls(jetstream, await jetstream.key_value(BUCKET))
            except nats.js.errors.BucketNotFoundError:
                config = KeyValueConfig(BUCKET, replicas=replicas, storage=StorageType.FILE)
                return cls(jetstream, await jetstream.create_key_value(config))
        except nats.js.errors.APIError as error:
            if error.err_code == _NO_CLUSTER:
                raise StoreUnavailable(
                    f"this NATS is one server, and cannot keep {replicas} copies: --replicas 1"
                ) from None
            raise _unavailable(error) from None
        except NATS_ERRORS as error:
            raise _unavailable(error) from None

    async def put(self, key: StoredKey) -> None:
        try:
            await self._bucket.put(_PREFIX + key.id, key.to_json())
        except NATS_ERRORS as error:
            raise _unavailable(error) from None

    async def get(self, key_id: str) -> StoredKey | None:
        try:
            entry = await self._bucket.get(_PREFIX + key_id)
        except (nats.js.errors.KeyNotFoundError, nats.js.errors.KeyDeletedError):
            return None
        except NATS_ERRORS as error:
            raise _unavailable(error) from None
        return _read(entry.value)

    async def all(self) -> Sequence[StoredKey]:
        # Not KeyValue.watch: its mark for the end can come before the entries (nats-py 2.x asks for
        # the number of entries when they may be on their way already).
        start = f"$KV.{BUCKET}.{_PREFIX}"
        try:
            info = await self._jetstream.stream_info(f"KV_{BUCKET}", subjects_filter=f"{start}>")
        except NATS_ERRORS as error:
            raise _unavailable(error) from None
        ids = [subject.removeprefix(start) for subject in info.state.subjects or {}]
        found = [key for key_id in ids if (key := await self.get(key_id)) is not None]
        return sorted(found, key=lambda key: (key.created_at, key.id))

    async def remove(self, key_id: str) -> bool:
        if await self.get(key_id) is None:
            return False
        try:
            await self._bucket.purge(_PREFIX + key_id)
        except NATS_ERRORS as error:
            raise _unavailable(error) from None
        return True


def _read(value: bytes | None) -> StoredKey | None:
    """A damaged entry is no key: it lets nobody in."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return StoredKey.from_json(value or b"")
    return None


def _unavailable(error: BaseException) -> StoreUnavailable:
    return StoreUnavailable(f"the store of API keys does not answer: {str(error) or 'timeout'}")


@contextlib.asynccontextmanager
async def key_store(
    servers: Sequence[str], credentials: Path | None, replicas: int, *, lasting: bool = False
) -> AsyncIterator[JetStreamKeyStore]:
    """The store over a connection of its own, for as long as the block runs.

    A `lasting` connection comes back when it was lost. Raises StoreUnavailable when none of the
    servers answers.
    """
    client = Client()
    try:
        try:
            async with asyncio.timeout(_CONNECT_WITHIN_S):
                await client.connect(
                    list(servers),
                    name="relume keys",
                    allow_reconnect=lasting,
                    max_reconnect_attempts=-1,
                    user_credentials=None if credentials is None else str(credentials),
                    error_cb=_quiet,
                )
            opened = await JetStreamKeyStore.open(client.jetstream(), replicas)
        except NATS_ERRORS as error:
            # The timeout of ours says nothing.
            words = str(error) or f"no connection within {_CONNECT_WITHIN_S:g} s"
            raise StoreUnavailable(f"NATS does not answer: {words}") from None
        yield opened
    finally:
        with contextlib.suppress(*NATS_ERRORS):
            await client.close()


async def _quiet(_: Exception) -> None:
    """The error is raised to the caller as well; nats-py would print it."""
