"""`relume probe llm-d`: a server that keeps the contract of a pool, and each way to break it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from relume.cluster.llm_d.clauses import CLAUSES, KV_CACHE, LORA, RUNNING, WAITING, Verdict, judge
from relume.cluster.llm_d.probe import NoAnswer, NoModel, observe
from relume.plane.addresses import listen, url_of
from relume.plane.server import HttpServer

MODEL = "smollm2"
TOKENS = 16


class Member:
    """A server that keeps the contract, but for what `broken` names."""

    def __init__(self, broken: str = "") -> None:
        self.broken = broken
        self.running = 0
        self.read = asyncio.Semaphore(0)
        self.app = Starlette(
            routes=[
                Route("/metrics", self.metrics),
                Route("/health", lambda _: Response(status_code=self._unless("health", 503))),
                Route("/v1/models", self.models),
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/completions", self.answer, methods=["POST"]),
                Route("/v1/messages", self.answer, methods=["POST"]),
            ]
        )

    def _unless(self, broken: str, status: int) -> int:
        return status if self.broken == broken else 200

    async def metrics(self, _: Request) -> Response:
        self.read.release()
        if self.broken == "metrics":
            return Response(status_code=404)
        if self.broken == "metrics text":
            return PlainTextResponse("vllm:num_requests_running{ 3")
        running = 0 if self.broken == "running stays" else self.running
        lines = [
            f"{RUNNING} {5 if self.broken == 'running hangs' else running}",
            f"{WAITING} 0",
            f"{KV_CACHE} {70 if self.broken == 'percent' else 0.25}",
        ]
        if self.broken.startswith("without "):
            lines = [line for line in lines if not line.startswith(self.broken[8:])]
        if self.broken == "lora labels":
            lines.append(f'{LORA}{{max_lora="1"}} 1')
        return PlainTextResponse("\n".join(lines) + "\n")

    async def models(self, _: Request) -> Response:
        entry: dict[str, Any] = {"id": MODEL, "object": "model", "parent": None}
        if self.broken == "parent":
            del entry["parent"]
        return JSONResponse({"data": [] if self.broken == "no model" else [entry]})

    async def answer(self, request: Request) -> Response:
        return JSONResponse({"usage": {}}, self._unless(request.url.path, 500))

    async def chat(self, request: Request) -> Response:
        body = json.loads(await request.body())
        if body["model"] != MODEL:
            status = 400 if self.broken == "unknown" else 404
            return JSONResponse({"error": {"message": "no such model"}}, status)
        if "if-available" in request.headers.get("prefer", "") and self.broken == "prefer":
            return Response(status_code=400)
        if body.get("stream"):
            return StreamingResponse(self._parts(body), media_type="text/event-stream")
        return JSONResponse({"choices": []})

    async def _parts(self, body: dict[str, Any]) -> AsyncIterator[bytes]:
        self.running += 1
        try:
            yield b'data: {"choices": []}\n\n'
            if body["max_tokens"] == TOKENS:  # one of several: all run until they were counted
                await self.read.acquire()
            if self.broken != "done":
                yield b"data: [DONE]\n\n"
        finally:
            self.running -= 1


async def probed(member: Member) -> dict[str, Verdict]:
    with listen(0, "--port") as listening:
        server = HttpServer(member.app, listening)
        task = asyncio.create_task(server.serve())
        try:
            observed = await observe(url_of(listening), streams=3, tokens=TOKENS, every_s=0)
        finally:
            server.stop_now()
            await task
    return {each.clause.name: each for each in judge(observed)}


async def test_a_member_that_keeps_the_contract_passes_every_clause() -> None:
    verdicts = await probed(Member())
    assert [name for name, each in verdicts.items() if not each.holds] == []
    absent = {name for name, each in verdicts.items() if each.judgement.outcome == "absent"}
    assert absent == {"metric-cache-config", "metric-lora", "count-tokens"}
    assert list(verdicts) == [clause.name for clause in CLAUSES]


@pytest.mark.parametrize(
    ("broken", "clauses"),
    [
        (
            "metrics text",
            {"metrics", "metric-waiting", "metric-running", "metric-kv-cache", "metric-moves"},
        ),
        (f"without {WAITING}", {"metric-waiting"}),
        (f"without {KV_CACHE}", {"metric-kv-cache"}),
        ("percent", {"metric-kv-cache"}),
        ("running stays", {"metric-moves"}),
        ("running hangs", {"metric-moves"}),
        ("lora labels", {"metric-lora"}),
        ("health", {"health"}),
        ("parent", {"models"}),
        ("/v1/completions", {"completions"}),
        ("/v1/messages", {"messages"}),
        ("done", {"chat-stream"}),
        ("unknown", {"unknown-model"}),
        ("prefer", {"router-headers"}),
    ],
)
async def test_what_is_broken_fails_its_own_clause_and_no_other(
    broken: str, clauses: set[str]
) -> None:
    verdicts = await probed(Member(broken))
    failed = {name for name, each in verdicts.items() if not each.holds}
    assert failed == clauses
    assert all(verdicts[name].judgement.fix for name in failed)


async def test_a_server_without_a_model_needs_one_by_name() -> None:
    with pytest.raises(NoModel, match="--model"):
        await probed(Member("no model"))


async def test_where_nothing_answers_nothing_is_judged() -> None:
    with pytest.raises(NoAnswer, match="does not answer"):
        await observe("http://127.0.0.1:9")
