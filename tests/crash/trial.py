"""One trial: events come in, somebody is killed, and in the end the books are checked from outside.

The producer does what a producer has to do: it sends an event again until somebody says 202. What
it was told 202 for is accepted, and nothing else is.
"""

import asyncio
import contextlib
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import aiohttp
import nats
import nats.errors
import orjson
from nats.js import JetStreamContext

from tests.crash.await_points import Trap
from tests.crash.processes import PlaneArguments, Victim, start_plane, start_subscriber
from tests.ports import own_port

STREAM, STREAMS, DEAD_STREAMS = "broker_default_b", "broker_", "deadletters_"
# Events of the clock, which never come to rest.
TICKING = "default_tick-kn-pingsource"
ANSWERED = {"ask", "flaky", "slow", "question"}
BURIED = {"sour", "loop"}
# Brokers that deliver by other rules, and what has one end with them: the first loses what nobody
# buries, the second also what is refused.
CLASSES = {"kafka": "Kafka", "nats": "NatsJetStreamBroker"}
_LOST = {"kafka": BURIED, "nats": BURIED | {"bitter"}}
_WITHIN_S = 300.0
_POLL_S = 0.02
_ANSWER_S = 5.0


@dataclass(slots=True)
class Books:
    """What was accepted, and what became of it."""

    accepted: dict[str, str] = field(default_factory=dict)  # id -> type
    replies: Counter[str] = field(default_factory=Counter)  # stored in the Broker
    buried: Counter[str] = field(default_factory=Counter)  # stored as dead letters
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)  # (path, id)
    waiting: int = 0

    def lost(self) -> list[str]:
        """Accepted events without their end: an answer that was told, or a dead letter."""
        return [each for each, type_ in self.accepted.items() if not self._ended(each, type_)]

    def _ended(self, id_: str, type_: str) -> bool:
        if type_ in ANSWERED:
            return self.replies[f"re-{id_}"] > 0 and self.calls["/told", f"re-{id_}"] > 0
        return self.buried[id_] > 0 if type_ in BURIED else self.calls["/sink", id_] > 0

    def settled_twice(self) -> list[str]:
        """Answers and dead letters that were stored more than once."""
        return [id_ for id_, count in (self.replies + self.buried).items() if count > 1]

    def delivered_again(self) -> int:
        """Deliveries that had been answered with success before, as at-least-once allows."""
        extra = {("/flaky", "f1"): 1, ("/sink", "b1"): 1}  # these ask for one more try
        return sum(count - 1 - extra.get(call, 0) for call, count in self.calls.items() if count)

    def conserved(self) -> bool:
        """accepted = delivered + dead-lettered + waiting, counted from the log."""
        delivered = sum(self.replies.values())
        sunk = len({id_ for path, id_ in self.calls if path == "/sink"})
        return len(self.accepted) == delivered + sum(self.buried.values()) + sunk + self.waiting


class Trial:
    """`scenario` is life, stop, outage, redrive, flows, or one of CLASSES.

    With a trap, its victim is killed there.
    """

    def __init__(
        self, folder: Path, scenario: str, trap: Trap | None = None, victim: Victim = "plane"
    ) -> None:
        self._folder = folder
        self._scenario = scenario
        self._trap = trap
        self._victim: Victim = victim
        self._port, self._subscriber_port = own_port(), own_port()
        self._subscriber: ForkServerProcess
        self._plane: ForkServerProcess
        self.books = Books()

    @property
    def fired(self) -> bool:
        """Whether the trap was reached."""
        return (self._folder / "fired").exists()

    def last_words(self) -> str:
        """What the plane said at its end."""
        log = self._folder / "plane.log"
        return log.read_text()[-2000:] if log.exists() else ""

    def reached(self) -> Counter[str]:
        """How often each point was reached, by the planes that ended in order."""
        total = Counter[str]()
        for file in self._folder.glob("reached.*"):
            total.update(orjson.loads(file.read_bytes()))
        return total

    async def run(self) -> Books:
        """Play the scenario to its end; raises TimeoutError when the events do not come to rest."""
        self._subscriber = self._start_subscriber()
        try:
            self._plane = self._start_plane(self._trap)
            async with (
                asyncio.timeout(_WITHIN_S),
                asyncio.TaskGroup() as group,
                aiohttp.ClientSession() as client,
            ):
                watch = group.create_task(self._keep_alive())
                await self._play(client)
                watch.cancel()
            return self.books
        finally:
            for process in (self._plane, self._subscriber):
                process.kill()
                process.join()

    async def _play(self, client: aiohttp.ClientSession) -> None:
        if self._scenario == "flows":
            return await self._play_flows(client)
        events = [("f1", "flaky"), ("s1", "sour"), ("b1", "bitter"), ("l1", "loop")]
        events = [each for each in events if each[1] not in _LOST.get(self._scenario, ())]
        events += [(f"a{number}", "ask") for number in range(4)]  # more than there are slots
        if self._scenario == "stop":
            events.append(("w1", "slow"))
        await asyncio.gather(
            self._post_batch(client, "a7", "a8"), *(self._post(client, *each) for each in events)
        )
        if self._scenario == "stop":
            await self._called("/slow")
            await self._stop_plane()
        (self._folder / "release").touch()
        if self._scenario == "outage":
            await self._kill_nats()
            await self._post(client, "a9", "ask")
        await self._rest()
        if self._scenario == "redrive":
            (self._folder / "redrive").touch()
            while not (self._folder / "redriven").exists():
                await asyncio.sleep(_POLL_S)
            await self._rest()
        await self._stop_plane(last=True)

    async def _play_flows(self, client: aiohttp.ClientSession) -> None:
        sequence, parallel = "/default/s-kn-sequence-0", "/default/p-kn-parallel"
        await asyncio.gather(
            *(self._post(client, f"s{number}", "ask", sequence) for number in range(3)),
            *(self._post(client, f"p{number}", "ask", parallel) for number in range(3)),
            self._post(client, "x1", "sour", sequence),
            self._ask(client, "q1"),
        )
        await self._called("/pinged")
        await self._rest()
        await self._stop_plane(last=True)

    async def _ask(self, client: aiohttp.ClientSession, id_: str) -> None:
        """Ask until there is an answer, or the answer was told to another.

        A process that is killed between taking an answer and giving it to its caller has told it
        to nobody, and the next one does not know it.
        """
        headers = _headers(id_, "question")
        url, told = f"http://127.0.0.1:{self._port}/request-reply/default/q", ("/told", f"re-{id_}")
        self.books.accepted[id_] = "question"
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with client.post(url, headers=headers) as answer:
                    if answer.status == 200 and answer.headers["ce-id"] == f"re-{id_}":
                        return
            if self._calls()[told]:
                return
            await asyncio.sleep(_POLL_S)

    async def _post(
        self, client: aiohttp.ClientSession, id_: str, type_: str, path: str = "/default/b"
    ) -> None:
        headers = _headers(id_, type_)
        if type_ == "loop":
            headers["ce-knativebrokerttl"] = "2"  # a reply to it is one passage too many
        await self._until_accepted(client, headers, b"", path)
        self.books.accepted[id_] = type_

    async def _post_batch(self, client: aiohttp.ClientSession, *ids: str) -> None:
        headers = {"content-type": "application/cloudevents-batch+json"}
        batch = [{"specversion": "1.0", "id": id_, "source": "/s", "type": "ask"} for id_ in ids]
        await self._until_accepted(client, headers, orjson.dumps(batch))
        self.books.accepted.update(dict.fromkeys(ids, "ask"))

    async def _until_accepted(
        self,
        client: aiohttp.ClientSession,
        headers: dict[str, str],
        body: bytes,
        path: str = "/default/b",
    ) -> None:
        url = f"http://127.0.0.1:{self._port}{path}"
        timeout = aiohttp.ClientTimeout(total=5)
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with client.post(url, data=body, headers=headers, timeout=timeout) as answer:
                    if answer.status == 202:
                        return
            await asyncio.sleep(_POLL_S)

    async def _keep_alive(self) -> None:
        """Start again who was killed, as a service manager does."""
        while True:
            if not self._subscriber.is_alive():
                self._subscriber.join()
                self._subscriber = self._start_subscriber()
            if not self._plane.is_alive():
                self._plane.join()
                self._plane = self._start_plane(None)
            await asyncio.sleep(_POLL_S)

    async def _stop_plane(self, last: bool = False) -> None:
        """SIGTERM, and the end of that process; `last`: of whichever process runs then."""
        while True:
            plane = self._plane
            if plane.pid is not None and plane.is_alive():
                os.kill(plane.pid, signal.SIGTERM)
            while plane.is_alive():
                await asyncio.sleep(_POLL_S)
            if plane.exitcode == 0 or not last:
                return
            await self._rest()

    async def _kill_nats(self) -> None:
        """nats-server is killed once, as soon as there is one."""
        while True:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                path = Path(f"/proc/{self._plane.pid}/task/{self._plane.pid}/children")
                if children := path.read_text().split():
                    return os.kill(int(children[0]), signal.SIGKILL)
            await asyncio.sleep(_POLL_S)

    async def _called(self, path: str) -> None:
        while not any(called == path for called, _ in self._calls()):
            await asyncio.sleep(_POLL_S)

    def _calls(self) -> Counter[tuple[str, str]]:
        file = self._folder / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return Counter((path, id_) for path, _, id_ in (line.partition(" ") for line in lines))

    async def _rest(self) -> None:
        """Until no consumer has anything left; then the books are filled from the log."""
        while True:
            with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
                async with self._jetstream() as jetstream:
                    # Twice: while the logs of a flow are counted, an event may pass from one that
                    # is counted later into one that was counted before.
                    while await _waiting(jetstream) or await _waiting(jetstream):
                        await asyncio.sleep(_POLL_S)
                    return await self._read_books(jetstream)
            await asyncio.sleep(_POLL_S)

    @contextlib.asynccontextmanager
    async def _jetstream(self) -> AsyncIterator[JetStreamContext]:
        """The trial's own way to the log: the address lies in the state folder."""
        path = self._folder / "nats" / "nats.conf"
        config = path.read_text() if path.exists() else ""
        port, token = re.search(r":(\d+)\"", config), re.search(r'token: "([^"]+)"', config)
        if port is None or token is None:
            raise OSError("nats-server is not configured yet")
        url = f"nats://{token[1]}@127.0.0.1:{port[1]}"
        async with asyncio.timeout(_ANSWER_S):
            client = await nats.connect(
                url, max_reconnect_attempts=1, reconnect_time_wait=_POLL_S, error_cb=_ignore
            )
        try:
            yield client.jetstream(timeout=_ANSWER_S)
        finally:
            await client.close()

    async def _read_books(self, jetstream: JetStreamContext) -> None:
        replies = await _stored(jetstream, STREAM)
        self.books.replies = Counter(id_ for id_ in replies if id_.startswith("re-"))
        self.books.buried = Counter[str]()
        for stream in await _streams(jetstream, DEAD_STREAMS):
            self.books.buried.update(await _stored(jetstream, stream))
        self.books.waiting = await _waiting(jetstream)
        self.books.calls = self._calls()

    def _start_plane(self, trap: Trap | None) -> ForkServerProcess:
        arguments = PlaneArguments(
            self._folder,
            self._port,
            f"http://127.0.0.1:{self._subscriber_port}",
            self._subscriber.pid or 0,
            trap,
            self._victim,
            CLASSES.get(self._scenario),
            self._scenario == "flows",
        )
        return start_plane(arguments)

    def _start_subscriber(self) -> ForkServerProcess:
        return start_subscriber(self._folder, self._subscriber_port)


async def _ignore(_: Exception) -> None:
    """nats-py tells of each failed try; the next one is ours."""


def _headers(id_: str, type_: str) -> dict[str, str]:
    return {"ce-specversion": "1.0", "ce-id": id_, "ce-source": "/s", "ce-type": type_}


async def _streams(jetstream: JetStreamContext, prefix: str) -> Sequence[str]:
    names = [info.config.name or "" for info in await jetstream.streams_info()]
    return [name for name in names if name.startswith(prefix) and not name.endswith(TICKING)]


async def _waiting(jetstream: JetStreamContext) -> int:
    """What the consumers of every log have not settled; 1 where there are none yet."""
    if not await jetstream.consumers_info(STREAM):
        return 1
    waiting = 0
    for stream in await _streams(jetstream, STREAMS):
        for each in await jetstream.consumers_info(stream):
            waiting += (each.num_pending or 0) + (each.num_ack_pending or 0)
    return waiting


async def _stored(jetstream: JetStreamContext, stream: str) -> Sequence[str]:
    """The ids of every event in a stream, read one by one from the log itself."""
    state = (await jetstream.stream_info(stream)).state
    ids = []
    for sequence in range(state.first_seq, state.last_seq + 1) if state.messages else ():
        message = await jetstream.get_msg(stream, sequence)
        head, _, _ = (message.data or b"").partition(b"\n")
        ids.append(str(orjson.loads(head)[0]["id"]))
    return ids


@dataclass(slots=True)
class Tally:
    """The sum of many trials."""

    points: set[str] = field(default_factory=set)
    untried: list[str] = field(default_factory=list)
    tried: int = 0
    lost: int = 0
    settled_twice: int = 0
    delivered_again: int = 0

    def add(self, trap: Trap, books: Books) -> None:
        self.points.add(trap.point)
        self.tried += 1
        self.lost += len(books.lost())
        self.settled_twice += len(books.settled_twice())
        self.delivered_again += books.delivered_again()

    def __str__(self) -> str:
        return (
            f"kill points tried: {self.tried}, at {len(self.points)} places in the code; "
            f"lost: {self.lost}, settled twice: {self.settled_twice}; "
            f"delivered again after a kill, as at-least-once allows: {self.delivered_again}\n"
            f"places that no scenario gets to: {' '.join(self.untried)}"
        )
