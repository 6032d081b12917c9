"""The endpoints of each model, in the files that llm-d's router discovers endpoints by.

DIR/<namespace>/<name>/endpoints.yaml   the addresses of the replicas that get requests now
DIR/<namespace>/<name>/epp.yaml         a configuration for the router; written where there is none

Each service has a folder of its own, because a router has one pool and takes all endpoints of its
file for servers of the same model.

Where no replica is ready, the one endpoint is an address that starts one and holds the request
until then. The list is never empty while the plane runs: a router with an empty pool answers 503
itself (`rejected-no-endpoints`, pkg/epp/requestcontrol/director.go), and nobody would hear of the
request. When the plane stops, the list becomes empty, and the file stays: the router does not start
without one, and does not watch again for one that was removed.
"""

import asyncio
import contextlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import yaml
from starlette.types import Receive, Scope, Send

from relume.base.errors import InvalidInput
from relume.base.vocabulary import REVISION_LABEL, SERVICE_LABEL
from relume.config.llm_d import ENGINE, ENGINE_LABEL, Endpoint, endpoints_file, picker_config
from relume.plane.addresses import HOST, PortTaken, listen
from relume.plane.grace import Grace
from relume.plane.server import HttpServer, finished
from relume.serving.doors import Door, Pool
from relume.serving.plane import ServingPlane
from relume.serving.predictor import ServiceKey
from relume.serving.service import Service
from relume.web.bodies import DecodedBodies

log = logging.getLogger(__name__)

#: `ready`: a replica answers at this address. `zero`: a request to it starts one.
STATE_LABEL = "relume.dev/state"
#: The name of the endpoint that starts a replica is that of the service with this at its end.
AT_ZERO = "zero"
_AGAIN_S = 1.0


class FolderUnusable(InvalidInput):
    """The folder for the router's files cannot be made, or not be written."""

    reason = "llm-d-folder-unusable"


class _Entrance:
    """What an address leads to: another door once another revision of the service was rolled out.

    A request stays with the door that it came to.
    """

    def __init__(self, door: Door) -> None:
        self.door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.door(scope, receive, send)


@dataclass(frozen=True, slots=True)
class _Address:
    """An entrance that listens."""

    entrance: _Entrance
    port: int
    server: HttpServer


class _Members:
    """The addresses of one service. An address that was opened stays open, so that no router that
    has not yet read the newest file meets a closed port."""

    def __init__(self, pool: Pool, group: asyncio.TaskGroup) -> None:
        self.service: Service = pool.service
        self.written: str | None = None
        """What its file says now, as far as this process knows."""
        self._pool = pool
        self._group = group
        self._addresses: list[_Address] = []

    def lead_to(self, pool: Pool) -> None:
        """Let the addresses lead to the revision of this pool from now on."""
        if pool.service is not self.service:
            self._pool, self.service = pool, pool.service
            for address in self._addresses:
                address.entrance.door = pool.door()

    def now(self) -> list[Endpoint]:
        """Return the endpoints, with an address for each replica that gets requests."""
        members = self.service.members
        behind = {a.entrance.door.preferred for a in self._addresses}
        for address in self._addresses:
            if address.entrance.door.preferred not in members:
                address.entrance.door.preferred = None
        for number in sorted(members.keys() - behind):
            free = next((a for a in self._addresses if a.entrance.door.preferred is None), None)
            (free or self._open()).entrance.door.preferred = number
        if not members:
            first = self._addresses[0] if self._addresses else self._open()
            return [self._endpoint(f"{self.service.key.name}-{AT_ZERO}", first, AT_ZERO)]
        by_number = {a.entrance.door.preferred: a for a in self._addresses}
        return [
            self._endpoint(f"{revision}-{number}", by_number[number], "ready", revision)
            for number, revision in members.items()
        ]

    def _open(self) -> _Address:
        try:
            listening = listen(0, "--llm-d")
        except PortTaken:
            raise PortTaken(f"{self.service.key}: no port of {HOST} is free for it") from None
        port = listening.getsockname()[1]
        entrance = _Entrance(self._pool.door())
        server = HttpServer(DecodedBodies(entrance), listening)
        server.start(self._group, name=f"{self.service.key} at {port}")
        self._addresses.append(_Address(entrance, port, server))
        return self._addresses[-1]

    def _endpoint(
        self, name: str, at: _Address, state: str, revision: str | None = None
    ) -> Endpoint:
        key = self.service.key
        labels = {ENGINE_LABEL: ENGINE, SERVICE_LABEL: key.name, STATE_LABEL: state}
        if revision is not None:
            labels[REVISION_LABEL] = revision
        return Endpoint(key.namespace, name, HOST, at.port, labels)

    def stop(self, grace_s: float) -> None:
        """Accept no connection any more; requests that have begun are answered."""
        for address in self._addresses:
            address.server.stop(grace_s)

    async def finished(self) -> None:
        """Return when no request is left, or the grace is over."""
        await asyncio.gather(*(address.server.finished() for address in self._addresses))


class RouterFiles:
    """Keeps the files in step with the plane. Without a folder it does nothing."""

    def __init__(
        self, folder: Path | None, serving: ServingPlane, group: asyncio.TaskGroup, grace: Grace
    ) -> None:
        self._folder = folder
        self._serving = serving
        self._group = group
        self._grace = grace
        self._changed = asyncio.Event()
        self._members: dict[ServiceKey, _Members] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._following: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Write the files, and follow the plane from now on. Raises FolderUnusable."""
        if self._folder is None:
            return
        self._serving.changed = self._changed.set
        try:
            await self._write()
        except OSError as error:
            told = f"{error.filename or self._folder}: {error.strerror}"
            raise FolderUnusable(f"{told}; choose another folder with --llm-d DIR") from None
        self._following = self._group.create_task(self._follow(), name="llm-d endpoints")

    async def close(self) -> None:
        """Say that there is no endpoint any more, and accept no connection from here on."""
        if self._following is None:
            return
        self._serving.changed = lambda: None
        self._following.cancel()
        await finished(self._following)
        for key, members in self._members.items():
            with contextlib.suppress(OSError):
                await self._say(key, members, [])
            members.stop(self._grace.left())

    async def finished(self) -> None:
        """Return when no request is left behind the addresses, or the grace is over."""
        for members in self._members.values():
            await self._grace.bound(members.finished())
        for closing in tuple(self._closing):
            await self._grace.bound(finished(closing))

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._write()
            except (OSError, PortTaken) as error:
                log.warning("--llm-d: %s; it is tried again", error)
                asyncio.get_running_loop().call_later(_AGAIN_S, self._changed.set)

    async def _write(self) -> None:
        """Write the file of each service whose endpoints are others than before.

        A file that cannot be written, or a service that gets no port, keeps no other from its own:
        the first error is raised when all were tried. Raises OSError and PortTaken.
        """
        pools = {pool.service.key: pool for pool in self._serving.pools()}
        errors: list[OSError | PortTaken] = []
        for key in [*(self._members.keys() - pools.keys()), *pools]:
            try:
                await self._write_of(key, pools.get(key))
            except (OSError, PortTaken) as error:
                errors.append(error)
        if errors:
            raise errors[0]

    async def _write_of(self, key: ServiceKey, pool: Pool | None) -> None:
        """Write the file of one service; None: it was removed."""
        if pool is None:
            await self._say(key, self._members[key], [])
            self._leave(self._members.pop(key))
            return
        members = self._members.setdefault(key, _Members(pool, self._group))
        members.lead_to(pool)
        await self._say(key, members, members.now())

    def _leave(self, members: _Members) -> None:
        """Close the addresses of a service that was removed."""
        members.stop(0)
        closing = self._group.create_task(members.finished(), name="llm-d endpoints leave")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _say(self, key: ServiceKey, members: _Members, endpoints: list[Endpoint]) -> None:
        """Put these endpoints into the file of a service, if it says others now."""
        assert self._folder is not None
        text = yaml.safe_dump(endpoints_file(endpoints), sort_keys=False)
        if text != members.written:
            folder = self._folder / key.namespace / key.name
            await asyncio.to_thread(_write_files, folder, text)
            members.written = text


def _write_files(folder: Path, endpoints: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / "endpoints.yaml", endpoints)
    config = folder / "epp.yaml"
    if not config.exists():
        path = str((folder / "endpoints.yaml").absolute())
        replace_file(config, yaml.safe_dump(picker_config(path), sort_keys=False))


def replace_file(path: Path, text: str) -> None:
    """Put a file in the place of another in one step: a reader sees the old text or the new one.

    The text is on the disk before it has the name, so that a power cut leaves no half of it. It is
    a new file, so that nothing is written through a link that somebody has put there.
    Raises OSError.
    """
    half_made = path.with_name(f".{path.name}.new")
    half_made.unlink(missing_ok=True)
    with half_made.open("x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    half_made.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
