"""Real nats-server processes on loopback: one, or a cluster of them."""

import asyncio
import base64
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nkeys

from relume.eventing.jetstream.server import find_binary
from tests.ports import own_port

JETSTREAM = 'jetstream {{ store_dir: "{store}", max_file_store: {store_bytes} }}'
WIDE = 10 << 30


@dataclass(slots=True)
class NatsProcess:
    url: str
    process: asyncio.subprocess.Process

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        if number == signal.SIGSTOP:
            # Until all its threads stand still it may go on answering.
            os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    async def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


@contextlib.asynccontextmanager
async def servers(
    folder: Path,
    count: int = 1,
    *,
    more: str = "",
    jetstream: bool = True,
    store_bytes: int = WIDE,
) -> AsyncIterator[Sequence[NatsProcess]]:
    """`count` servers, in one cluster if they are several; `more` is added to each config."""
    ports = [own_port() for _ in range(2 * count)]
    clients, routes = ports[:count], ports[count:]
    started = [
        await _start(
            folder / f"n{i}",
            f"n{i}",
            clients[i],
            more
            + (JETSTREAM.format(store=folder / f"n{i}", store_bytes=store_bytes) * jetstream)
            + ("\n" + _cluster(routes, i) if count > 1 else ""),
        )
        for i in range(count)
    ]
    try:
        yield started
    finally:
        for one in started:
            with contextlib.suppress(ProcessLookupError):
                one.send(signal.SIGCONT)
            await one.stop()


def _cluster(routes: Sequence[int], number: int) -> str:
    others = ", ".join(f'"nats-route://127.0.0.1:{port}"' for port in routes)
    listen = f"127.0.0.1:{routes[number]}"
    return f'cluster {{ name: c, listen: "{listen}", routes: [{others}], no_advertise: true }}'


async def _start(folder: Path, name: str, port: int, config: str) -> NatsProcess:
    folder.mkdir()
    file = folder / "nats.conf"
    file.write_text(f'server_name: {name}\nlisten: "127.0.0.1:{port}"\n{config}\n')
    with (folder / "nats.log").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            find_binary(), "--config", file, stdout=output, stderr=output
        )
    deadline = time.monotonic() + 60
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return NatsProcess(f"nats://127.0.0.1:{port}", process)
        except OSError:
            assert process.returncode is None, (folder / "nats.log").read_text()
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Credentials:
    """An operator with one account that may use JetStream, and the file of one user of it."""

    config: str
    file: Path


def credentials(folder: Path) -> Credentials:
    """Made as `nsc` makes them: JSON Web Tokens that are signed with nkeys."""
    operator, system, account, user = (_Identity(kind) for kind in ("O", "A", "A", "U"))
    unlimited = -1
    counted = ("subs", "data", "payload", "imports", "exports", "conn", "leaf")
    limits: dict[str, object] = dict.fromkeys(counted, unlimited) | {"wildcards": True}
    stored = ("mem_storage", "disk_storage", "streams", "consumer", "max_ack_pending")
    its = {"type": "account", "version": 2}
    claims = {"type": "operator", "version": 2, "system_account": system.public}
    by_operator = operator.token(operator, claims)
    accounts = {
        system.public: operator.token(system, {**its, "limits": limits}),
        account.public: operator.token(
            account, {**its, "limits": limits | dict.fromkeys(stored, unlimited)}
        ),
    }
    unlimited_user = {"subs": unlimited, "data": unlimited, "payload": unlimited}
    by_user = account.token(user, {"type": "user", "version": 2, "pub": {}, **unlimited_user})
    file = folder / "nats.creds"
    file.write_text(
        f"-----BEGIN NATS USER JWT-----\n{by_user}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
    )
    preload = ", ".join(f"{name}: {token}" for name, token in accounts.items())
    resolver = f"resolver: MEMORY\nresolver_preload: {{ {preload} }}\n"
    return Credentials(f"operator: {by_operator}\n{resolver}", file)


class _Identity:
    def __init__(self, kind: str) -> None:
        prefix = {"O": nkeys.PREFIX_BYTE_OPERATOR, "A": nkeys.PREFIX_BYTE_ACCOUNT}
        seed = nkeys.encode_seed(os.urandom(32), prefix.get(kind, nkeys.PREFIX_BYTE_USER))
        self.seed: str = seed.decode()
        self._pair = nkeys.from_seed(bytearray(seed))
        self.public: str = self._pair.public_key.decode()

    def token(self, subject: "_Identity", claims: dict[str, object]) -> str:
        now = int(time.time())
        body = {
            "jti": subject.public,
            "iat": now,
            "iss": self.public,
            "name": "x",
            "sub": subject.public,
        }
        head = _encoded({"typ": "JWT", "alg": "ed25519-nkey"})
        text = f"{head}.{_encoded({**body, 'nats': claims})}"
        return f"{text}.{_base64(self._pair.sign(text.encode()))}"


def _encoded(value: dict[str, object]) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")
