"""A runner of jobs on a virtual clock, and a predictor that is a real HTTP server with a script."""

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from relume.base.clock import Clock
from relume.base.testing import VirtualClock
from relume.eventing.delivery.dispatcher import Dispatcher
from relume.eventing.delivery.turns import Slots
from relume.eventing.jobs.job import Job, Limits, ServiceName, digest_of, id_for
from relume.eventing.jobs.job_run import World
from relume.eventing.jobs.predictor import Predictors
from relume.eventing.jobs.runner import JobRunner, route_of
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.state import Record
from relume.eventing.jobs.store import Chunk, Lane
from relume.eventing.jobs.testing import MemoryJobs
from relume.eventing.settings import EventingSettings

SERVICE = ServiceName("default", "model")
CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
QUESTION = {"model": "m", "messages": [{"role": "user", "content": "Say something"}]}
STORY = ["Once", " upon", " a", " time", ",", " a", " fox", "\n\n", "sang", "."]

Step = Callable[["Call"], Awaitable[web.StreamResponse]]


@dataclass
class Call:
    """One request as the predictor saw it."""

    http: web.Request
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        asked: dict[str, Any] = json.loads(self.raw)
        return asked


class Predictor:
    """A server on loopback that answers by its script, then for ever as its last step says.

    Entered again, it has the port that it had before.
    """

    def __init__(self, *script: Step) -> None:
        self.script = list(script) or [writes(STORY)]
        self.calls: list[Call] = []
        self.running = 0
        self.abandoned = 0
        self.reached = asyncio.Semaphore(0)
        self.url = ""
        self._port = 0

    async def __aenter__(self) -> "Predictor":
        app = web.Application(client_max_size=2**28)
        app.router.add_post("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def reached_by(self, count: int = 1) -> None:
        async with asyncio.timeout(60):
            for _ in range(count):
                await self.reached.acquire()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        call = Call(request, await request.read())
        self.calls.append(call)
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        self.running += 1
        self.reached.release()
        try:
            return await step(call)
        except asyncio.CancelledError:
            self.abandoned += 1
            raise
        finally:
            self.running -= 1


def answers(status: int = 200, body: object = None, **headers: str) -> Step:
    """A whole answer at once."""

    async def step(call: Call) -> web.StreamResponse:
        return web.json_response(body, status=status, headers=headers)

    return step


def hangs(call: Call) -> Awaitable[web.StreamResponse]:
    """No answer at all, until the client goes away."""

    async def never() -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    return never()


_ids = itertools.count(1)


def writes(
    tokens: Sequence[str],
    *,
    dies_after: int | None = None,
    pause_after: int | None = None,
    gate: asyncio.Event | None = None,
    extra: bytes = b"",
    trims: bool = False,
    counts: bool = True,
    headers: dict[str, str] | None = None,
) -> Step:
    """Writes `tokens` as vLLM does, from where the text in the request ends.

    `dies_after`: the connection breaks after so many tokens of this request. `pause_after`: `gate`
    is waited for. `extra` is written then. `trims`: the chat template cuts white space off.
    `counts`: it tells the usage in each part where it is asked to.
    """

    async def step(call: Call) -> web.StreamResponse:
        asked, number = call.body, next(_ids)
        chat = call.http.path.endswith(CHAT)
        so_far = _so_far(asked, chat)
        if trims:
            so_far = so_far.rstrip()
        first = _tokens_in(so_far, tokens)
        limit = asked.get("max_completion_tokens") or asked.get("max_tokens") or len(tokens)
        end = min(len(tokens), first + limit)
        prompt_tokens = 7 + first
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream"} | (headers or {})
        )
        await response.prepare(call.http)
        head = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{number}",
            "object": "chat.completion.chunk" if chat else "text_completion",
            "created": 1000 + number,
            "model": "m",
        }

        async def send(choices: list[Any], made: int, **beside: Any) -> None:
            options = asked.get("stream_options") or {}
            part = {**head, "choices": choices, **beside}
            if (counts and options.get("continuous_usage_stats")) or not choices:
                part["usage"] = {
                    "prompt_tokens": prompt_tokens,
                    "total_tokens": prompt_tokens + made,
                    "completion_tokens": made,
                }
            await response.write(b"data: " + json.dumps(part).encode() + b"\n\n")

        if chat:
            told = {"prompt_text": f"user: …\n{so_far}"} if asked.get("return_prompt_text") else {}
            delta = {"role": "assistant", "content": ""}
            await send([{"index": 0, "delta": delta, "finish_reason": None}], 0, **told)
        for made, token in enumerate(tokens[first:end], 1):
            last = first + made == end
            finish = ("stop" if end == len(tokens) else "length") if last else None
            said: dict[str, Any] = {"delta": {"content": token}} if chat else {"text": token}
            await send([{"index": 0, **said, "finish_reason": finish}], made)
            if made == pause_after and gate is not None:
                await gate.wait()
            if made == dies_after:
                await response.write(extra)
                assert call.http.transport is not None
                call.http.transport.close()
                return response
        if (asked.get("stream_options") or {}).get("include_usage"):
            await send([], end - first)
        await response.write(b"data: [DONE]\n\n")
        return response

    return step


def _so_far(asked: dict[str, Any], chat: bool) -> str:
    if not chat:
        return str(asked["prompt"]).partition("|")[2]
    if not asked.get("continue_final_message"):
        return ""
    assert asked["add_generation_prompt"] is False
    return str(asked["messages"][-1]["content"])


def _tokens_in(text: str, tokens: Sequence[str]) -> int:
    for number in range(len(tokens) + 1):
        if "".join(tokens[:number]) == text:
            return number
    if (whole := text) and (
        number := next((n for n in range(len(tokens)) if "".join(tokens[:n]).rstrip() == whole), 0)
    ):
        return number - 1  # the white space that was cut off is written again
    raise AssertionError(f"{text!r} is no beginning of the answer")


@dataclass
class JobStage:
    """Everything that runs jobs, on one store; `again` is another worker on the same store."""

    predictor: Predictor
    store: MemoryJobs = None  # type: ignore[assignment]
    clock: VirtualClock = field(default_factory=VirtualClock)
    settings: JobSettings = field(default_factory=JobSettings)
    slots: int = 4
    worker: str = "w1"

    def __post_init__(self) -> None:
        if self.store is None:
            self.store = MemoryJobs(self.settings, self.clock)

    async def __aenter__(self) -> "JobStage":
        self.predictors = await Predictors().__aenter__()
        slots = Slots(lambda: self.slots, self.clock.monotonic)
        clock: Clock = self.clock
        world = World(
            self.predictor.url, self.store, self.predictors, clock, self.settings, slots.pause
        )
        self.runner = JobRunner(world, slots, self.worker)
        cursor = await self.store.open_lane(Lane(SERVICE, "normal", "t"))
        self.dispatcher = Dispatcher(
            route_of(SERVICE, self.predictor.url),
            cursor,
            self.runner,
            slots,
            clock,
            EventingSettings(),
        )
        self.running = asyncio.create_task(self.dispatcher.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self.running.done():
            await self.stop(0)
        await self.predictors.__aexit__()

    async def stop(self, grace_s: float) -> None:
        """Drain, as a process does that was told to end."""
        await self.dispatcher.stop(grace_s)
        await asyncio.wait([self.running])

    async def kill(self) -> None:
        """End as with `kill -9`: nothing is given back; the lease runs out."""
        for flight in self.dispatcher._flights.values():
            flight.leased.give_back = _nothing  # type: ignore[method-assign]
        self.running.cancel()
        await asyncio.wait([self.running])

    def again(self, worker: str = "w2") -> "JobStage":
        return replace(self, worker=worker)

    async def submit(self, job: Job) -> str:
        await self.store.submit(job, 0)
        return job.id

    async def ended(self, job_id: str, seconds: float = 60) -> Record:
        """The record when the job is settled, in real seconds."""
        async with asyncio.timeout(seconds):
            async for record in self.store.watch(job_id):
                if record.settled:
                    return record
        raise AssertionError

    async def shown(self, job_id: str, count: int) -> None:
        """Return when so many parts are stored."""
        async with asyncio.timeout(60):
            while len((await self.store.chunks(job_id))[0]) < count:
                await asyncio.sleep(0.001)

    async def passes(self, seconds: float, steps: int = 20) -> None:
        """Let virtual time pass, with real time for the network in between."""
        for _ in range(steps):
            await self.clock.advance(seconds / steps)
            await asyncio.sleep(0.005)


async def _nothing() -> None:
    return None


def job_of(
    stage: JobStage,
    asked: object = None,
    *,
    route: str = CHAT,
    name: str = "1",
    body: bytes | None = None,
    limits: Limits | None = None,
    **more: Any,
) -> Job:
    body = json.dumps(QUESTION if asked is None else asked).encode() if body is None else body
    return Job(
        id=id_for("", name),
        service=SERVICE,
        route=route,
        tenant="t",
        owner="",
        priority="normal",
        limits=limits or Limits(),
        accepted_at=stage.clock.now(),
        digest=digest_of(SERVICE, route, "application/json", body),
        body=body,
        **more,
    )


def text_of(chunks: Sequence[Chunk]) -> str:
    """What a reader has read, beginning again where the stream says so."""
    text = ""
    for chunk in chunks:
        if chunk.kind == "restarted":
            text = ""
            continue
        for choice in json.loads(chunk.data)["choices"]:
            text += choice.get("text") or choice.get("delta", {}).get("content") or ""
    return text


def body_of(record: Record) -> dict[str, Any]:
    assert record.result is not None
    body: dict[str, Any] = json.loads(record.result.body)
    return body
