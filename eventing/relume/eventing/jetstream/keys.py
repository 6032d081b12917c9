"""API keys in JetStream: one entry `key.<id>` of the key-value bucket `relume_control` for each."""

import contextlib
from collections.abc import Sequence

import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig, StorageType
from nats.js.kv import KeyValue

from relume.eventing.event_log import StoreUnavailable
from relume.eventing.jetstream.store import NATS_ERRORS
from relume.eventing.jobs.keys import StoredKey

BUCKET = "relume_control"
_PREFIX = "key."


class JetStreamKeyStore:
    """A KeyStore over a connection that somebody else opens and closes."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    @classmethod
    async def open(cls, jetstream: JetStreamContext, replicas: int) -> "JetStreamKeyStore":
        """Make the bucket where it is missing. Raises StoreUnavailable."""
        try:
            try:
                return cls(await jetstream.key_value(BUCKET))
            except nats.js.errors.BucketNotFoundError:
                config = KeyValueConfig(BUCKET, replicas=replicas, storage=StorageType.FILE)
                return cls(await jetstream.create_key_value(config))
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
        found: list[StoredKey] = []
        try:
            watcher = await self._bucket.watch(f"{_PREFIX}>", ignore_deletes=True)
            async for entry in watcher:
                if entry is None:  # from here on it would wait for changes
                    break
                if (key := _read(entry.value)) is not None:
                    found.append(key)
            await watcher.stop()  # type: ignore[no-untyped-call]
        except NATS_ERRORS as error:
            raise _unavailable(error) from None
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
    return StoreUnavailable(f"the store of API keys does not answer: {error or 'timeout'}")
