"""`relume keys` on a real nats-server."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relume.base.clock import SystemClock
from relume.cli.main import run
from relume.eventing.jetstream.keys import key_store
from relume.eventing.jetstream.server import NatsServer
from relume.eventing.jobs.access import Access, Unauthorized
from relume.plane.nats_servers import BadServers, NatsServers

Output = pytest.CaptureFixture[str]


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NatsServer]:
    async with NatsServer(tmp_path) as running:
        monkeypatch.setenv("RELUME_NATS", running.url)
        yield running


async def keys(*line: str) -> int:
    replicas = [] if "--replicas" in line else ["--replicas", "1"]
    return await asyncio.to_thread(run, ["keys", *line, *replicas])


async def test_a_key_is_shown_once_works_and_is_revoked(server: NatsServer, capsys: Output) -> None:
    assert await keys("create", "team-a", "--tenant", "shared") == 0
    shown = capsys.readouterr()
    key = shown.out.strip()
    assert key.startswith("rk_") and key not in shown.err
    assert await keys("create", "team-b", "-o", "json") == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["owner"], made["tenant"]) == ("team-b", "team-b")
    async with key_store([server.url], None, 1) as store:
        access = Access(SystemClock(), store)
        caller = await access.caller(f"Bearer {key}")
        assert (caller.owner, caller.tenant) == ("team-a", "shared")
    assert await keys("list", "-o", "json") == 0
    out = capsys.readouterr().out
    listed = json.loads(out)
    assert [each["owner"] for each in listed] == ["team-a", "team-b"]
    assert key.rpartition("_")[2] not in out and "hash" not in out
    assert await keys("revoke", listed[0]["id"]) == 0
    assert capsys.readouterr().out == "1 revoked\n"
    async with key_store([server.url], None, 1) as store:
        with pytest.raises(Unauthorized):
            await Access(SystemClock(), store).caller(f"Bearer {key}")
    assert await keys("revoke", listed[0]["id"]) == 1
    assert await keys("list") == 0
    assert "team-b" in capsys.readouterr().out


async def test_no_keys_and_wrong_names_are_told(server: NatsServer, capsys: Output) -> None:
    assert await keys("list") == 0
    assert capsys.readouterr().out == "no keys\n"
    assert await keys("create", "Team A") == 2
    assert "lower-case letters" in capsys.readouterr().err
    assert await keys("revoke", "rk_whole_key") == 2
    assert "rk_whole" not in capsys.readouterr().err


async def test_more_copies_than_servers_name_the_option(server: NatsServer, capsys: Output) -> None:
    assert await keys("create", "team-a", "--replicas", "3") == 1
    assert "--replicas 1" in capsys.readouterr().err


def test_a_server_that_is_away_is_one_line_without_its_token(
    monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setenv("RELUME_NATS", "nats://token@127.0.0.1:9")
    monkeypatch.setattr("relume.eventing.jetstream.keys._CONNECT_WITHIN_S", 0.5)
    assert run(["keys", "list"]) == 1
    shown = capsys.readouterr().err
    assert "NATS does not answer" in shown and "token" not in shown and shown.count("\n") == 1
    assert "--nats nats://127.0.0.1:9:" in shown and "no connection within 0.5 s" in shown


def test_without_a_server_the_option_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.delenv("RELUME_NATS", raising=False)
    assert run(["keys", "list"]) == 2
    assert "--nats nats://" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["http://h", "h:4222", "nats://", "nats://h:0x", "nats://s@:4222"])
def test_a_url_that_is_none_of_nats_is_refused_without_its_secret(url: str) -> None:
    with pytest.raises(BadServers, match="write nats://HOST:PORT") as refused:
        NatsServers((url,))
    assert "s@" not in str(refused.value)


def test_credentials_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadServers, match="--nats-creds"):
        NatsServers(("nats://h",), tmp_path / "none.creds")
    assert NatsServers(("nats://name:secret@h:4222",)).shown == "nats://h:4222"
