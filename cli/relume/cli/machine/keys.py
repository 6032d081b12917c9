"""`relume keys`: API keys of the jobs gateway. Only a hash of each is stored."""

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from relume.cli.errors import BadUsage
from relume.cli.machine.nats_options import nats_options
from relume.cli.options import output_option
from relume.cli.screen import Screen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from relume.eventing.jobs.keys import KeyStore, StoredKey
    from relume.plane.nats_servers import NatsServers


@click.group("keys", short_help="Make, list or revoke the API keys of a gateway.")
def command() -> None:
    """API keys with which callers identify themselves at a gateway (relume gateway --keys).

    They lie in the NATS cluster of the gateway, as hashes: a key is shown once, when it is made.

    \b
    Examples:
      relume keys create team-a --nats nats://127.0.0.1:4222
      relume keys list
      relume keys revoke KEY_ID
    """


@command.command("create")
@click.argument("owner")
@click.option(
    "--tenant", metavar="NAME", help="Whose share of the queues it takes. Default: OWNER."
)
@output_option
@nats_options
def create(*, owner: str, tenant: str | None, output: str, servers: "NatsServers") -> int:
    """Make a key for OWNER and print it; it cannot be shown again.

    All keys of one owner see the same jobs, so a key is replaced by making another one and revoking
    the first.

    \b
    Examples:
      relume keys create team-a --nats nats://127.0.0.1:4222
      export RELUME_KEY=$(relume keys create team-a -o json | jq -r .key)
    """
    from relume.eventing.jobs.keys import new_key

    key, stored = new_key(owner, tenant, datetime.now(UTC))

    async def store() -> None:
        async with _keys_at(servers) as keys:
            await keys.put(stored)

    asyncio.run(store())
    screen = Screen.stdout()
    if output == "json":
        screen.json({**_shown(stored), "key": key})
        return 0
    screen.line(key)
    Screen.stderr().line(
        f"key {stored.id} of {stored.owner}; it is not stored and cannot be shown again", "dim"
    )
    return 0


@command.command("list")
@output_option
@nats_options
def list_keys(*, output: str, servers: "NatsServers") -> int:
    """List the keys, oldest first, without their secrets.

    \b
    Examples:
      relume keys list --nats nats://127.0.0.1:4222
    """

    async def ask() -> "list[StoredKey]":
        async with _keys_at(servers) as keys:
            return list(await keys.all())

    found = asyncio.run(ask())
    screen = Screen.stdout()
    if output == "json":
        screen.json([_shown(each) for each in found])
    elif found:
        rows = [tuple(_shown(each).values()) for each in found]
        screen.table(("id", "owner", "tenant", "created"), rows)
    else:
        screen.line("no keys")
    return 0


@command.command("revoke")
@click.argument("key_ids", nargs=-1, required=True, metavar="ID…")
@nats_options
def revoke(*, key_ids: tuple[str, ...], servers: "NatsServers") -> int:
    """Revoke keys; each gateway refuses them within five seconds.

    A stream that is read with one of them ends within ten.
    ID is what `relume keys list` shows. The jobs of the owner stay.

    \b
    Examples:
      relume keys revoke KEY_ID
    """
    from relume.eventing.jobs.keys import is_key_id

    for key_id in key_ids:
        if not is_key_id(key_id):
            raise BadUsage("name a key by its id, which `relume keys list` shows")

    async def remove() -> list[str]:
        async with _keys_at(servers) as keys:
            return [each for each in dict.fromkeys(key_ids) if not await keys.remove(each)]

    missing = asyncio.run(remove())
    for key_id in missing:
        Screen.stderr().line(f"{key_id}: there is no key of this id", "red")
    Screen.stdout().line(f"{len(set(key_ids)) - len(missing)} revoked")
    return 1 if missing else 0


@contextlib.asynccontextmanager
async def _keys_at(servers: "NatsServers") -> "AsyncIterator[KeyStore]":
    """The store of keys. Raises StoreUnavailable, which names the servers."""
    from relume.eventing.event_log import StoreUnavailable
    from relume.eventing.jetstream.keys import key_store

    try:
        async with key_store(servers.urls, servers.credentials, servers.replicas) as keys:
            yield keys
    except StoreUnavailable as error:
        raise StoreUnavailable(f"--nats {servers.shown}: {error}") from None


def _shown(key: "StoredKey") -> dict[str, str]:
    return {
        "id": key.id,
        "owner": key.owner,
        "tenant": key.tenant,
        "created_at": key.created_at.isoformat(timespec="seconds"),
    }
