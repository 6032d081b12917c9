"""A bucket of JetStream's key-value store, in the three ways in which functions use it.

Every function that keeps state holds the same copy of this file. Each write says what it expects
to be there, so that of two processes that write at once one is refused and reads again.
"""

import asyncio
from dataclasses import dataclass

import nats
from nats.aio.client import Client
from nats.errors import Error
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig, StorageType
from nats.js.errors import BucketNotFoundError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from .events import HttpAnswer

_FAILURES = (Error, OSError, TimeoutError)


@dataclass(frozen=True)
class Entry:
    value: bytes
    revision: int


class Store:
    """Connected at its first use. Raises HttpAnswer (503) where nats-server does not answer."""

    def __init__(self, url: str, bucket: str, ttl_s: float) -> None:
        self._url, self._bucket, self._ttl_s = url, bucket, ttl_s
        self._client: Client | None = None
        self._kv: KeyValue | None = None
        self._jetstream: JetStreamContext | None = None
        self._lock = asyncio.Lock()

    async def get(self, key: str) -> Entry | None:
        """What is under `key`, or None."""
        kv = await self._open()
        try:
            found = await kv.get(key)
        except KeyNotFoundError:  # also where it was deleted
            return None
        except _FAILURES as error:
            raise _unavailable(error) from None
        return Entry(found.value or b"", found.revision or 0)

    async def create(self, key: str, value: bytes) -> bool:
        """Write where nothing is. False: something is there already, and stays."""
        kv = await self._open()
        try:
            await kv.create(key, value)
        except KeyWrongLastSequenceError:
            return False
        except _FAILURES as error:
            raise _unavailable(error) from None
        return True

    async def update(self, key: str, value: bytes, revision: int) -> bool:
        """Write over the revision that was read. False: somebody wrote in between."""
        kv = await self._open()
        try:
            await kv.update(key, value, revision)
        except KeyWrongLastSequenceError:
            return False
        except _FAILURES as error:
            raise _unavailable(error) from None
        return True

    async def keys(self, pattern: str) -> list[str]:
        """The keys that match a subject pattern, such as `job.*`; none is ever deleted.

        The stream behind the bucket tells them, without a consumer that would stay for minutes.
        """
        await self._open()
        assert self._jetstream is not None
        prefix = f"$KV.{self._bucket}."
        try:
            found = await self._jetstream.stream_info(f"KV_{self._bucket}", prefix + pattern)
        except _FAILURES as error:
            raise _unavailable(error) from None
        return [subject.removeprefix(prefix) for subject in found.state.subjects or {}]

    async def _open(self) -> KeyValue:
        async with self._lock:
            if self._kv is not None and self._client is not None and not self._client.is_closed:
                return self._kv
            try:
                self._client = await nats.connect(
                    self._url,
                    connect_timeout=2,
                    allow_reconnect=True,
                    max_reconnect_attempts=5,
                    reconnect_time_wait=0.5,
                    error_cb=_ignore,
                )
                self._jetstream = self._client.jetstream(timeout=5)
                self._kv = await self._bucket_of(self._jetstream)
            except _FAILURES as error:
                raise _unavailable(error) from None
            return self._kv

    async def _bucket_of(self, jetstream: JetStreamContext) -> KeyValue:
        try:
            return await jetstream.key_value(self._bucket)
        except BucketNotFoundError:
            config = KeyValueConfig(
                bucket=self._bucket, history=1, ttl=self._ttl_s, storage=StorageType.FILE
            )
            return await jetstream.create_key_value(config)


async def _ignore(error: Exception) -> None:
    """What goes wrong is told to whoever asked."""


def _unavailable(error: BaseException) -> HttpAnswer:
    told = f"the key-value store does not answer: {type(error).__name__}: {error}"
    return HttpAnswer(503, "store-unavailable", told, 2)
