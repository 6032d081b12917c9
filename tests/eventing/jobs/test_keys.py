"""API keys: their shape, what is stored of them, and both stores by one suite."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nats
import pytest

from relume.eventing.event_log import StoreUnavailable
from relume.eventing.jetstream.keys import JetStreamKeyStore
from relume.eventing.jetstream.server import NatsServer
from relume.eventing.jobs.keys import (
    BadName,
    KeyStore,
    StoredKey,
    new_key,
    parts_of,
)
from relume.eventing.jobs.testing import MemoryKeyStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_key_fits_what_is_stored_of_it_and_nothing_else() -> None:
    key, stored = new_key("team-a", None, NOW)
    other, other_stored = new_key("team-a", None, NOW)
    key_id, secret = parts_of(key) or ("", "")
    assert key_id == stored.id
    assert stored.fits(secret)
    assert not other_stored.fits(secret)
    assert not stored.fits((parts_of(other) or ("", ""))[1])
    assert not replace(other_stored, hash=stored.hash).fits(secret), "the hash belongs to one id"
    assert key != other


def test_what_is_stored_does_not_tell_the_secret() -> None:
    key, stored = new_key("team-a", "team-b", NOW)
    _, secret = parts_of(key) or ("", "")
    assert len(secret) == 43  # 256 bits
    assert secret.encode() not in stored.to_json()
    assert StoredKey.from_json(stored.to_json()) == stored
    assert (stored.owner, stored.tenant) == ("team-a", "team-b")


@pytest.mark.parametrize(
    "text",
    [
        *("", "rk_", "rk_abc", "rk__", "rk_aaaaaaaaaaaaa_\n" * 4),
        "sk_aaaaaaaaaaaaa_" + "a" * 43,
        "rk_aaaaaaaaaaaaa_" + "a" * 44,
        "rk_aaaaaaaaaaaaa_" + "é" * 43,
        "rk_../aaaaaaaaaa_" + "a" * 43,
    ],
)
def test_a_text_of_another_shape_is_no_key(text: str) -> None:
    assert parts_of(text) is None


@pytest.mark.parametrize("name", ["", "A", "a b", "-a", "a" * 64, "a#b", "https://issuer#sub"])
def test_the_name_of_an_owner_cannot_look_like_the_subject_of_a_token(name: str) -> None:
    with pytest.raises(BadName, match="write up to 63"):
        new_key(name, None, NOW)


@pytest.fixture(params=["memory", "jetstream"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KeyStore]:
    if request.param == "memory":
        yield MemoryKeyStore()
        return
    async with NatsServer(tmp_path) as server:
        client = await nats.connect(server.url)
        try:
            yield await JetStreamKeyStore.open(client.jetstream(), replicas=1)
        finally:
            await client.close()


async def test_keys_are_kept_listed_by_age_and_removed(store: KeyStore) -> None:
    _, young = new_key("young", None, NOW + timedelta(hours=1))
    _, old = new_key("old", None, NOW)
    await store.put(young)
    await store.put(old)
    assert list(await store.all()) == [old, young]
    assert await store.get(old.id) == old
    assert await store.remove(old.id)
    assert not await store.remove(old.id)
    assert await store.get(old.id) is None
    assert list(await store.all()) == [young]


async def test_an_empty_store_lists_nothing(store: KeyStore) -> None:
    assert list(await store.all()) == []
    assert await store.get("aaaaaaaaaaaaa") is None


async def test_the_bucket_is_opened_again_and_a_damaged_entry_lets_nobody_in(
    tmp_path: Path,
) -> None:
    async with NatsServer(tmp_path) as server:
        client = await nats.connect(server.url)
        jetstream = client.jetstream()
        _, key = new_key("a", None, NOW)
        await (await JetStreamKeyStore.open(jetstream, replicas=1)).put(key)
        bucket = await jetstream.key_value("relume_control")
        await bucket.put("key.bbbbbbbbbbbbb", b"{}")
        again = await JetStreamKeyStore.open(jetstream, replicas=1)
        assert await again.get(key.id) == key
        assert await again.get("bbbbbbbbbbbbb") is None
        assert list(await again.all()) == [key]
        await client.close()
        with pytest.raises(StoreUnavailable):
            await again.get(key.id)
