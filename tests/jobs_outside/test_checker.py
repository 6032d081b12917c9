"""The checker finds each kind of fault; a check that cannot fail would prove nothing."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats
import pytest
from aiohttp import web
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import StreamConfig

from relume.eventing.jetstream.server import NatsServer
from tests.jobs_outside.checker import Accepted, Books, Checker, keep_history
from tests.jobs_outside.script import Script
from tests.ports import own_port


@dataclass
class Gateway:
    """What a gateway would say, written by the test."""

    folder: Path
    url: str
    nats_url: str
    jetstream: JetStreamContext
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    streams: dict[str, str] = field(default_factory=dict)
    accepted: list[Accepted] = field(default_factory=list)

    async def settle(self, name: str, state: str = "completed", **more: Any) -> None:
        """A job that was accepted and is settled, with its answer, stream, usage and record."""
        script = Script(name, tokens=3)
        self.accepted.append(Accepted(name, script.prompt(), ("completed",), **more))
        self.jobs[name] = {"id": name, "status": state}
        self.texts[name] = script.text()
        self.streams[name] = stream_of([script.token(n) for n in range(3)])
        await self.record(name, "leased")
        await self.record(name, state)
        self.event("relume.inference.usage", f"u-{name}", usage_of(name))
        if "event" in more:
            self.event("relume.inference.response", f"re-{name}", causationid=more["event"])

    async def record(self, name: str, state: str) -> None:
        record = json.dumps({"id": name, "state": state, "round": 1}).encode()
        await self.jetstream.publish(f"relume.job.{name}", record)

    def event(self, type_: str, id_: str, data: str = "{}", **attributes: str) -> None:
        told = {"id": id_, "source": "/gateway", "type": type_, **attributes}
        with (self.folder / "events.jsonl").open("a") as journal:
            journal.write(json.dumps({"path": "/", "attributes": told, "data": data}) + "\n")

    async def examine(self) -> Books:
        checker = Checker(self.url, [self.nats_url], {})
        return await checker.examine(self.accepted, self.folder / "events.jsonl")


def stream_of(tokens: list[str], *, first: int = 1) -> str:
    """The stream of a completed job."""
    blocks = [
        f"id: {first + n}\ndata: {json.dumps({'choices': [{'delta': {'content': token}}]})}\n\n"
        for n, token in enumerate(tokens)
    ]
    return "".join(blocks) + f"event: completed\nid: {first + len(tokens)}\ndata: {{}}\n\n"


def usage_of(job: str, round_: int = 1) -> str:
    """The data of a usage event."""
    return json.dumps({"job": job, "round": round_})


async def _client(url: str) -> Client:
    return await nats.connect(url)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    port = own_port()
    async with NatsServer(tmp_path) as server:
        client = await _client(server.url)
        jetstream = client.jetstream()
        for name, subject in (("relume_jobs", "relume.job.*"), ("relume_work", "relume.work.>")):
            config = StreamConfig(name=name, subjects=[subject], max_msgs_per_subject=1)
            await jetstream.add_stream(config)
        await keep_history(client)
        made = Gateway(tmp_path, f"http://127.0.0.1:{port}", server.url, jetstream)

        async def job(request: web.Request) -> web.Response:
            found = made.jobs.get(request.match_info["id"])
            return web.json_response(found, status=200 if found else 404)

        async def result(request: web.Request) -> web.Response:
            text = made.texts[request.match_info["id"]]
            return web.json_response({"choices": [{"message": {"content": text}}]})

        async def events(request: web.Request) -> web.Response:
            text = made.streams[request.match_info["id"]]
            return web.Response(text=text, content_type="text/event-stream")

        app = web.Application()
        app.router.add_get("/v1/jobs/{id}", job)
        app.router.add_get("/v1/jobs/{id}/result", result)
        app.router.add_get("/v1/jobs/{id}/events", events)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield made
        await runner.cleanup()
        await client.close()


async def test_sound_books(gateway: Gateway) -> None:
    await gateway.settle("a")
    await gateway.settle("b", event="e1")
    gateway.accepted.append(Accepted("c", Script("c").prompt()))
    gateway.jobs["c"] = {"id": "c", "status": "streaming"}
    await gateway.record("c", "streaming")
    gateway.accepted.append(Accepted("d", Script("d").prompt()))
    gateway.jobs["d"] = {"id": "d", "status": "queued"}
    await gateway.jetstream.publish("relume.work.s.normal.t.d", b"work")
    books = await gateway.examine()
    assert (books.accepted, books.queued, books.running, books.settled) == (4, 1, 1, 2), books
    assert books.sound
    assert not books.at_rest


async def test_a_job_that_nobody_knows_is_lost(gateway: Gateway) -> None:
    await gateway.settle("a")
    gateway.accepted.append(Accepted("gone", Script("gone").prompt()))
    books = await gateway.examine()
    assert books.lost == ["gone"]
    assert not books.conserved
    assert not books.sound


async def test_a_job_that_only_http_knows_is_lost(gateway: Gateway) -> None:
    gateway.accepted.append(Accepted("claimed", Script("claimed").prompt()))
    gateway.jobs["claimed"] = {"id": "claimed", "status": "queued"}
    books = await gateway.examine()
    assert books.lost == ["claimed"]


async def test_two_settlements(gateway: Gateway) -> None:
    await gateway.settle("a")
    await gateway.record("a", "failed")
    books = await gateway.examine()
    assert books.settled_twice == ["a"]
    assert not books.sound


@pytest.mark.parametrize(("id_", "data"), [("another", "{}"), ("re-a", '{"other": 1}')])
async def test_two_replies(gateway: Gateway, id_: str, data: str) -> None:
    await gateway.settle("a", event="e1")
    gateway.event("relume.inference.response", id_, data, causationid="e1")
    books = await gateway.examine()
    assert books.replied_twice == ["a"]
    assert not books.sound


async def test_the_same_reply_again_is_no_second_one(gateway: Gateway) -> None:
    await gateway.settle("a", event="e1")
    gateway.event("relume.inference.response", "re-a", causationid="e1")
    books = await gateway.examine()
    assert books.sound
    assert books.sent_again == 1


async def test_usage_that_is_told_twice(gateway: Gateway) -> None:
    await gateway.settle("a")
    gateway.event("relume.inference.usage", "of round 2", usage_of("a", 2))
    assert (await gateway.examine()).sound
    gateway.event("relume.inference.usage", "another", usage_of("a"))
    books = await gateway.examine()
    assert books.usage_twice == ["a"]
    assert not books.sound


async def test_no_rest_without_reply_and_usage(gateway: Gateway) -> None:
    await gateway.settle("a")
    assert (await gateway.examine()).at_rest
    gateway.accepted[0] = Accepted("a", Script("a", tokens=3).prompt(), event="e1")
    books = await gateway.examine()
    assert books.without_reply == ["a"]
    assert not books.at_rest


async def test_another_end_than_the_script_says(gateway: Gateway) -> None:
    await gateway.settle("a", "dead")
    assert "a is dead" in (await gateway.examine()).wrong[0]


@pytest.mark.parametrize(
    "tokens",
    [[0, 1, 1, 2], [0, 2], [0, 1], []],
    ids=["repeated", "missing", "cut", "empty"],
)
async def test_an_answer_with_other_tokens(gateway: Gateway, tokens: list[int]) -> None:
    script = Script("a", tokens=3)
    await gateway.settle("a")
    gateway.texts["a"] = "".join(script.token(n) for n in tokens)
    assert "the result is" in (await gateway.examine()).wrong[0]
    gateway.texts["a"] = script.text()
    gateway.streams["a"] = stream_of([script.token(n) for n in tokens])
    assert "the stream says" in (await gateway.examine()).wrong[0]


async def test_positions_that_do_not_follow_each_other(gateway: Gateway) -> None:
    await gateway.settle("a")
    gateway.streams["a"] = gateway.streams["a"].replace("id: 2", "id: 1")
    assert "the positions are" in (await gateway.examine()).wrong[0]


async def test_a_stream_without_an_end(gateway: Gateway) -> None:
    await gateway.settle("a")
    gateway.streams["a"] = gateway.streams["a"].partition("event: completed")[0]
    assert "the stream ends with" in (await gateway.examine()).wrong[0]
