"""The door and the API of jobs over the store in memory, on a virtual clock, without a network."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from relume.base.testing import VirtualClock, settle
from relume.eventing.jobs.answers import Unroutable
from relume.eventing.jobs.api import JobsApi
from relume.eventing.jobs.door import Admit, Door, NeedsBody, Target
from relume.eventing.jobs.door_settings import DoorSettings
from relume.eventing.jobs.job import ServiceName
from relume.eventing.jobs.outlook import Outlook
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.state import (
    Answering,
    Attempted,
    Ended,
    Happening,
    Leased,
    Record,
    Result,
    Settled,
    step,
)
from relume.eventing.jobs.store import Chunk, Filter
from relume.eventing.jobs.stream import StreamSettings
from relume.eventing.jobs.testing import MemoryJobs
from relume.eventing.jobs.watching import Watches

SERVICE = ServiceName("default", "m")
CHAT = "/openai/v1/chat/completions"
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
ASYNC = {"prefer": "respond-async"}
ANSWER = b'{"choices":[]}'


def resolve(scope: Scope, body: bytes | None) -> Target | None:
    """One service at two addresses; the model `alias` has another name at the predictor."""
    path: str = scope["path"]
    query = scope["query_string"].decode()
    suffix = f"?{query}" if query else ""
    if path.startswith("/serving/default/m/"):
        return Target(SERVICE, path.removeprefix("/serving/default/m") + suffix)
    if path.startswith("/serving/"):
        raise Unroutable("no InferenceService has this address")
    if not path.startswith("/openai/"):
        return None
    if body is None:
        raise NeedsBody
    told = json.loads(body)
    if told.get("model") not in ("m", "alias"):
        raise Unroutable("the model does not exist", reason="model-unknown")
    renamed = json.dumps({**told, "model": "m"}).encode() if told["model"] == "alias" else None
    return Target(SERVICE, path.removeprefix("/openai") + suffix, renamed)


async def answers_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    """The application behind the door."""
    if scope["type"] == "http":
        await PlainTextResponse("answered at once")(scope, receive, send)
    else:
        await send({"type": "websocket.close"})


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Call:
    """A request that is under way. `sent` is what the application has sent so far."""

    task: "asyncio.Task[None]"
    incoming: "asyncio.Queue[Message]"
    sent: list[Message] = field(default_factory=list)
    reading: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def text(self) -> str:
        return b"".join(each.get("body", b"") for each in self.sent).decode()

    @property
    def complete(self) -> bool:
        last = self.sent[-1] if self.sent else {}
        return last.get("type") == "http.response.body" and not last.get("more_body", False)

    def leave(self) -> None:
        self.incoming.put_nowait({"type": "http.disconnect"})

    async def answer(self) -> Answer:
        await self.task
        start = self.sent[0]
        headers = {name.decode(): value.decode() for name, value in start["headers"]}
        return Answer(start["status"], headers, self.text.encode())


class Stage:
    def __init__(
        self,
        *,
        settings: JobSettings | None = None,
        limits: DoorSettings | None = None,
        admit: Admit | None = None,
        outlook: Outlook | None = None,
        streams: StreamSettings | None = None,
        store: MemoryJobs | None = None,
    ) -> None:
        self.clock = VirtualClock()
        self.settings = settings or JobSettings()
        self.store = store or MemoryJobs(self.settings, self.clock)
        self.watches = Watches(self.store, self.clock)
        door = Door(
            answers_at_once,
            self.store,
            resolve,
            self.watches,
            self.clock,
            settings=self.settings,
            limits=limits,
            admit=admit,
        )
        self.door = door
        self.api = JobsApi(
            self.store,
            self.watches,
            self.clock,
            lambda: [SERVICE],
            outlook=outlook,
            admit=admit,
            running=self.running,
            publishes=lambda _: self.publishes,
            streams=streams,
        )
        self.publishes = False  # nothing is published here, unless a test says so
        self.app = self.api.in_front_of(door)
        self.state: dict[str, str] = {}

    async def running(self, service: ServiceName) -> int:
        wanted = Filter(service=service, states=("leased", "streaming"))
        return len([each async for each in self.store.listed(wanted)])

    def begin(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        body: bytes | Sequence[bytes] = b"",
    ) -> Call:
        """Send a request; its body comes in as many pieces as given."""
        path, _, query = target.partition("?")
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        scope: Scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(n.lower().encode(), v.encode("latin-1")) for n, v in pairs],
            "state": dict(self.state),
        }
        incoming: asyncio.Queue[Message] = asyncio.Queue()
        parts = [body] if isinstance(body, bytes) else list(body)
        for number, part in enumerate(parts, 1):
            more = number < len(parts)
            incoming.put_nowait({"type": "http.request", "body": part, "more_body": more})
        sent: list[Message] = []
        reading = asyncio.Event()
        reading.set()

        async def send(message: Message) -> None:
            sent.append(message)
            await reading.wait()

        task = asyncio.ensure_future(self.app(scope, incoming.get, send))
        return Call(task, incoming, sent, reading)

    async def ask(self, *args: Any, **kwargs: Any) -> Answer:
        return await self.begin(*args, **kwargs).answer()

    async def post(
        self, headers: Mapping[str, str] | None = None, body: bytes = BODY, path: str = CHAT
    ) -> Answer:
        """An asynchronous request."""
        given = {**ASYNC, "content-type": "application/json", **(headers or {})}
        return await self.ask("POST", path, given, body)

    async def submitted(self, headers: Mapping[str, str] | None = None) -> str:
        """The id of a new job."""
        answer = await self.post(headers)
        assert answer.status == 202, answer.body
        job_id: str = answer.json["id"]
        return job_id

    async def happens(self, job_id: str, *happenings: Happening) -> Record:
        """What a worker would write."""
        for happening in happenings:
            seen = await self.store.look(job_id)
            assert seen.job is not None
            record = step(seen.record, seen.job, happening)
            await self.store.write(record, seen.revision)
        await settle()
        return record

    async def leased(self, job_id: str) -> None:
        await self.happens(job_id, Leased(1, "w", self.clock.now()), Attempted(1))

    async def streaming(self, job_id: str) -> None:
        await self.leased(job_id)
        await self.happens(job_id, Answering(1, self.clock.now()))

    async def ends(
        self, job_id: str, state: Settled = "completed", *, position: int = 0, **told: Any
    ) -> None:
        """End a job that is leased or streams."""
        if state == "completed":
            told.setdefault("result", Result(200, "application/json", ANSWER))
        end = Ended(1, self.clock.now(), state, position=position, **told)
        await self.happens(job_id, end)

    async def append(self, job_id: str, *texts: str) -> None:
        """Store parts of the answer, one position each; `restarted N` begins it again."""
        stored, place = await self.store.chunks(job_id)
        last = stored[-1].position if stored else 0
        chunks = [
            Chunk(last + number, "restarted", text.removeprefix("restarted ").encode(), 1)
            if text.startswith("restarted ")
            else Chunk(last + number, "data", text.encode(), 1)
            for number, text in enumerate(texts, 1)
        ]
        await self.store.append(job_id, chunks, place)
        await settle()


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
