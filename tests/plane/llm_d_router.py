"""A stand-in for llm-d's router with file discovery: it reads the file, chooses, and sends.

It keeps the rules of llm-d-router's plugin (pkg/epp/framework/plugins/datalayer/discovery/file/
plugin.go): a file of at most 1 MiB, IPv4 addresses, ports as strings; a file that cannot be read
changes nothing. It answers 503 itself where its pool is empty. It looks at the file only every
`poll_s`, so it is later than the real one, which is told of each change by the kernel.
"""

import asyncio
import ipaddress
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import yaml

MOST_BYTES = 1 << 20
NO_ENDPOINTS = "rejected-no-endpoints"


@dataclass(frozen=True)
class Sent:
    """One request: where it went, and what came back; `endpoint` is empty for the router's 503."""

    endpoint: str
    status: int
    body: str


def read(path: Path) -> dict[str, str]:
    """Return `address:port` by `namespace/name`. Raises ValueError for what the router refuses."""
    data = path.read_bytes()
    if len(data) > MOST_BYTES:
        raise ValueError("exceeds 1 MiB limit")
    found: dict[str, str] = {}
    for each in yaml.safe_load(data)["endpoints"]:
        ipaddress.IPv4Address(each["address"])
        if not isinstance(each["port"], str) or not 1 <= int(each["port"]) <= 65535:
            raise ValueError(f"invalid port {each['port']!r}")
        name = f"{each.get('namespace') or 'default'}/{each['name']}"
        if name in found:
            raise ValueError(f"{name} is there twice")
        found[name] = f"{each['address']}:{each['port']}"
    return found


class Router:
    """Sends each request to a random endpoint of the file; an asynchronous context manager."""

    def __init__(self, path: Path, *, poll_s: float = 0.05) -> None:
        self._path = path
        self._poll_s = poll_s
        self._pool: dict[str, str] = {}
        self._seen: tuple[int, int] | None = None
        self._rng = random.Random(15)
        self.loads = 0
        self.ever: Counter[str] = Counter()
        """How often each endpoint was chosen."""

    async def __aenter__(self) -> "Router":
        self._load()  # the router does not start without a file
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        await self._session.close()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            self._load()

    def _load(self) -> None:
        stat = self._path.stat()
        if (stat.st_ino, stat.st_mtime_ns) != self._seen:
            self._seen = (stat.st_ino, stat.st_mtime_ns)
            self._pool = read(self._path)
            self.loads += 1

    async def post(self, path: str, body: str = "{}") -> Sent:
        """Send one request as the router does, once; errors of the connection are raised."""
        if not self._pool:
            return Sent("", 503, NO_ENDPOINTS)
        name = self._rng.choice(sorted(self._pool))
        self.ever[name] += 1
        url = f"http://{self._pool[name]}{path}"
        async with self._session.post(url, data=body) as answer:
            return Sent(name, answer.status, await answer.text())
