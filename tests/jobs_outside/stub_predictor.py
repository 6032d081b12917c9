"""A predictor without a model, in a process of its own: it answers by the script in the prompt.

    python stub_predictor.py PORT JOURNAL

It has the OpenAI routes for chats and completions, streamed or not, and goes on from a beginning as
vLLM does (`continue_final_message`, or a prompt with its text so far). It takes events in binary
mode. Each request leaves lines in the journal (JSON): `begin`, then `end`, `aborted` (the client
went away), `died`, `busy`, `refused` or `wrong`. The journal also tells a new process what an
earlier one has done, so that a job is refused or broken off as often as its script says.
"""

import asyncio
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.jobs_outside.script import Script


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its script, and the tokens to generate, [first, end)."""

    script: Script
    first: int
    end: int
    chat: bool
    stream: bool
    usage: bool
    request: Mapping[str, Any]

    @property
    def prompt_tokens(self) -> int:
        return len(self.script.prompt().split()) + self.first

    def usage_of(self, made: int) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": made,
            "total_tokens": self.prompt_tokens + made,
        }

    @property
    def finish(self) -> str:
        return "stop" if self.end == self.script.tokens else "length"


def read(body: Mapping[str, Any], chat: bool) -> Asked:
    """Raises ValueError and KeyError for what this predictor cannot answer."""
    if chat:
        messages = body["messages"]
        prompt = next(m["content"] for m in messages if m["role"] == "user")
        goes_on = messages[-1]["role"] == "assistant"
        if goes_on != bool(body.get("continue_final_message")):
            raise ValueError("continue_final_message does not fit the last message")
        if goes_on and body.get("add_generation_prompt", True):
            raise ValueError("add_generation_prompt and continue_final_message exclude each other")
        so_far = messages[-1]["content"] if goes_on else ""
    else:
        prompt, _, so_far = body["prompt"].partition("\n")
    script = Script.read(prompt)
    first = script.tokens_in(so_far)
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    end = script.tokens if limit is None else min(script.tokens, first + int(limit))
    stream = bool(body.get("stream"))
    options = body.get("stream_options") or {}
    return Asked(script, first, end, chat, stream, bool(options.get("include_usage")), body)


class Predictor:
    """Answers, and writes down what it does."""

    def __init__(self, journal: Path) -> None:
        self._journal = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._go = journal.with_name("go")
        self._done = Counter[tuple[str, str]]()
        for line in journal.read_text().splitlines():
            entry = json.loads(line)
            self._done[entry["what"], entry["job"]] += 1

    def note(self, what: str, job: str, **more: object) -> None:
        self._done[what, job] += 1
        line = json.dumps({"what": what, "job": job, "pid": os.getpid(), **more})
        os.write(self._journal, f"{line}\n".encode())

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/{prefix:.*}v1/chat/completions", self._answer)
        app.router.add_post("/{prefix:.*}v1/completions", self._answer)
        return app

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "stub", "object": "model"}]})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        try:
            asked = read(json.loads(body), request.path.endswith("/chat/completions"))
        except (ValueError, KeyError, StopIteration) as error:
            self.note("wrong", "?", error=repr(error), body=body[:2000].decode(errors="replace"))
            return _refusal(400, repr(error))
        script = asked.script
        self.note("begin", script.job, first=asked.first, path=request.path)
        await asyncio.sleep(script.start / 1000)
        while script.held and not self._go.exists():
            await asyncio.sleep(0.01)
        if script.status != 200:
            self.note("refused", script.job, status=script.status)
            return _refusal(script.status, "the script says so")
        if self._done["busy", script.job] < script.busy:
            self.note("busy", script.job)
            return _refusal(429, "busy", {"Retry-After": "0"})
        try:
            if asked.stream:
                return await self._stream(request, asked)
            made = [token async for token in self._tokens(request, asked)]
        except ConnectionResetError:
            return web.Response(status=500)  # nobody gets it
        self.note("end", script.job, made=len(made))
        return _whole(request, asked, "".join(made))

    async def _tokens(self, request: web.Request, asked: Asked) -> AsyncIterator[str]:
        script = asked.script
        for number in range(asked.first, asked.end):
            if number == script.die and not self._done["died", script.job]:
                self.note("died", script.job, at=number)
                if request.transport is not None:
                    request.transport.abort()
                raise ConnectionResetError
            await asyncio.sleep(script.pace / 1000)
            if request.transport is None or request.transport.is_closing():
                self.note("aborted", script.job, at=number)
                raise ConnectionResetError
            yield script.token(number)

    async def _stream(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        made = 0
        if asked.chat:
            await response.write(_event(_chunk(asked, {"role": "assistant", "content": ""})))
        async for token in self._tokens(request, asked):
            await response.write(_event(_chunk(asked, {"content": token})))
            made += 1
        await response.write(_event(_chunk(asked, {}, asked.finish)))
        if asked.usage:
            usage = {**_chunk(asked, {}), "choices": [], "usage": asked.usage_of(made)}
            await response.write(_event(usage))
        self.note("end", asked.script.job, made=made)
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response


def _chunk(asked: Asked, delta: Mapping[str, str], finish: str | None = None) -> dict[str, Any]:
    part: dict[str, Any] = {"index": 0, "finish_reason": finish}
    if asked.chat:
        part["delta"] = dict(delta)
    else:
        part["text"] = delta.get("content", "")
    kind = "chat.completion.chunk" if asked.chat else "text_completion"
    return {"id": "stub", "object": kind, "created": 0, "model": "stub", "choices": [part]}


def _event(data: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def _whole(request: web.Request, asked: Asked, text: str) -> web.Response:
    """The answer in one piece: as an event where the request was one."""
    part: dict[str, Any] = {"index": 0, "finish_reason": asked.finish}
    part |= {"message": {"role": "assistant", "content": text}} if asked.chat else {"text": text}
    kind = "chat.completion" if asked.chat else "text_completion"
    answer = {"id": "stub", "object": kind, "created": 0, "model": "stub", "choices": [part]}
    answer["usage"] = asked.usage_of(asked.end - asked.first)
    headers = {}
    if "ce-id" in request.headers:
        cause = (request.headers["ce-source"], request.headers["ce-id"])
        headers = {
            "ce-specversion": "1.0",
            "ce-id": hashlib.sha256("\0".join(cause).encode()).hexdigest()[:32],
            "ce-source": "/stub",
            "ce-type": "relume.inference.response",
            "ce-causationid": cause[1],
        }
    return web.json_response(answer, headers=headers)


def _refusal(status: int, words: str, headers: Mapping[str, str] | None = None) -> web.Response:
    error = {"message": words, "type": "stub", "code": status}
    return web.json_response({"error": error}, status=status, headers=headers)


async def serve(port: int, journal: Path) -> None:
    """Serve until the process ends."""
    runner = web.AppRunner(Predictor(journal).app(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
