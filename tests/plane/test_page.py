"""The page at `/`: who gets it, what its stream tells, and what it keeps to itself."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse

from relume.base.testing import VirtualClock
from relume.cloudevents.event import CloudEvent
from relume.cloudevents.http import decode
from relume.config import Broker, Plan
from relume.eventing.jobs.job import JOB
from relume.eventing.observer import Observer, Record
from relume.plane.local import LocalPlane, PlaneSettings
from relume.plane.page import door
from relume.plane.page.assets import POLICY, read_assets
from relume.plane.page.door import MOST_PAGES, Page
from relume.plane.page.feed import Feed
from relume.plane.page.history import EVERY_S, KEPT, KEPT_BYTES, MIB, MOST_EACH, History, Sampler
from relume.plane.page.live_events import TOLD, LiveEvents
from relume.plane.page.reader import SLOW_S, TICK_S
from relume.runtimes.models.store import ModelStore
from relume.serving.predictor import ServiceKey

Json = dict[str, Any]
SERVICE: Json = {
    **{"namespace": "ns", "name": "it", "state": "zero", "replicas": 0, "desired": 0},
    **{"held": 0, "in_flight": 0, "pids": [], "log_tail": ["a secret prompt"]},
}
BROKER: Json = {"namespace": "ns", "name": "b", "accepted": 0, "dead_letters": 0}
TRIGGER: Json = {
    **{"namespace": "ns", "name": "t", "broker": "b", "pending": 0, "in_flight": 0},
    **{"delivered": 0, "retried": 0, "dead_lettered": 0},
}
COLD_START: Json = {
    **{"at": "2026-01-01T00:00:00+00:00", "namespace": "ns", "service": "it", "queue": 1.0},
    **{"weights": 300.0, "engine": None, "total": 900.0, "outcome": "ready", "started": "fresh"},
}
BROWSER = {"accept": "text/html,*/*;q=0.8"}


class Watched:
    """A page over a status that a test sets, and a clock that it moves."""

    def __init__(self, *, prompts: bool = False) -> None:
        self.clock = VirtualClock()
        self.observer = Observer()
        self.services: list[Json] = [SERVICE]
        self.brokers: list[Json] = [BROKER]
        self.triggers: list[Json] = [TRIGGER]
        self.stored: list[tuple[str, CloudEvent]] = []
        self.looks = 0
        self.feed = Feed(
            self._status,
            lambda: [COLD_START],
            self.clock,
            prompts=prompts,
            measure=lambda pids: dict.fromkeys(pids, 3 * MIB),
        )
        self.page = Page(
            self.feed,
            self.observer,
            self.clock,
            services=lambda: [ServiceKey("ns", "it")],
            ingress=lambda: self._take,
            prompts=prompts,
        )
        self.app = self.page.in_front_of(PlainTextResponse("behind"))

    def _status(self) -> Json:
        self.looks += 1
        return {
            "version": "1",
            "serving": {"services": self.services},
            "eventing": {"brokers": self.brokers, "triggers": self.triggers},
            "jobs": {"queues": [{"service": "ns/it", "waiting": 1}], "unpublished": 0},
        }

    async def _take(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(name.decode(), value.decode()) for name, value in scope["headers"]]
        event = decode(headers, (await receive())["body"]).event
        self.stored.append((scope["path"], event))
        await PlainTextResponse("", 202)(scope, receive, send)

    def client(self, host: str = "127.0.0.1:8080", peer: str = "127.0.0.1") -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, client=(peer, 1))
        return httpx.AsyncClient(transport=transport, base_url=f"http://{host}")

    def tell(self, stage: str = "accepted", **attributes: str) -> None:
        given = {"id": "1", "source": "/s", "type": "t"} | attributes
        detail = 'retries-exhausted: {"error": "a secret prompt"} (no sink)'
        event = CloudEvent.create(given, b'"a secret prompt"')
        self.observer.publish(Record("", stage, "ns/b", event, detail=detail))  # type: ignore[arg-type]


class Stream:
    """One open page, read in process."""

    def __init__(self, watched: Watched, query: str = "") -> None:
        self.watched = watched
        self.messages: list[Json] = []
        self.status = 0
        self.ended = False
        self.blocked = False
        self._left = asyncio.Event()
        scope = {"type": "http", "method": "GET", "path": "/relume/page/stream"}
        scope |= {"headers": [(b"host", b"localhost")], "query_string": query.encode()}
        self.task = asyncio.create_task(watched.app(scope, self._receive, self._send))

    @property
    def id(self) -> str:
        return str(self.messages[0]["hello"]["stream"])

    async def next(self) -> Json:
        """What the next tick tells; {} where that is nothing."""
        before = len(self.messages)
        await self.watched.clock.advance(TICK_S)
        return self.messages[-1] if len(self.messages) > before else {}

    async def leave(self) -> None:
        self._left.set()
        await self.watched.clock.advance(TICK_S)
        await self.task

    async def _receive(self) -> Json:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        if self.blocked:
            await asyncio.Event().wait()
        self.status = message.get("status", self.status)
        body = message.get("body", b"")
        if body.startswith(b"data: "):
            self.messages.append(json.loads(body[6:]))
        self.ended = self.ended or message.get("more_body") is False


@contextlib.asynccontextmanager
async def opened(watched: Watched, query: str = "") -> AsyncIterator[Stream]:
    stream = Stream(watched, query)
    await stream.next()
    yield stream
    await stream.leave()


# ---- the door


async def test_a_browser_on_this_machine_gets_the_page_under_a_strict_policy() -> None:
    for host in ("127.0.0.1:8080", "localhost:8080", "[::1]:8080"):
        async with Watched().client(host) as client:
            answer = await client.get("/", headers=BROWSER)
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            assert answer.headers["content-security-policy"] == POLICY
            assert "default-src 'self'" in POLICY and "unsafe" not in POLICY
            known = {**BROWSER, "if-none-match": answer.headers["etag"]}
            assert (await client.get("/", headers=known)).status_code == 304


@pytest.mark.parametrize(
    ("method", "path", "host", "headers"),
    [
        ("GET", "/", "it.ns.example.com", BROWSER),
        ("GET", "/", "it-predictor.ns", BROWSER),
        ("GET", "/", "127.0.0.1", {"accept": "*/*"}),
        ("POST", "/", "127.0.0.1", BROWSER),
        ("GET", "/v1/models", "127.0.0.1", BROWSER),
        ("GET", "/relume/status", "127.0.0.1", BROWSER),
    ],
    ids=["a service's Host", "its predictor's", "a program", "an event", "a route", "control"],
)
async def test_everything_else_passes_untouched(
    method: str, path: str, host: str, headers: dict[str, str]
) -> None:
    async with Watched().client(host) as client:
        assert (await client.request(method, path, headers=headers)).text == "behind"


@pytest.mark.parametrize(
    ("host", "peer"), [("evil.example:8080", "127.0.0.1"), ("127.0.0.1:8080", "192.0.2.7")]
)
@pytest.mark.parametrize("path", ["/", "/relume/page/stream", "/relume/page/main.js"])
async def test_others_are_refused_and_told_what_to_do(host: str, peer: str, path: str) -> None:
    async with Watched().client(host, peer) as client:
        answer = await client.get(path, headers=BROWSER)
    assert answer.status_code == 403
    assert "open http://127.0.0.1" in answer.text and "ssh -L" in answer.text


async def test_a_caller_who_has_shown_a_key_sees_the_page_from_anywhere() -> None:
    watched = Watched()

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        await watched.app({**scope, "state": {"owner": "me"}}, receive, send)

    transport = httpx.ASGITransport(guarded, client=("192.0.2.7", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://plane.example") as client:
        assert (await client.get("/", headers=BROWSER)).status_code == 200


async def test_all_files_that_the_page_names_are_served_and_no_other() -> None:
    files = read_assets()
    index = files["index.html"].body.decode()
    named = set(re.findall(r'(?:src|href)="/relume/page/([^"]+)"', index))
    for asset in files.values():
        named |= set(re.findall(r'from "\./([^"]+)"', asset.body.decode()))
    assert named == set(files) - {"index.html"}
    async with Watched().client() as client:
        for name in named:
            answer = await client.get(f"/relume/page/{name}")
            assert (
                answer.status_code == 200 and answer.headers["x-content-type-options"] == "nosniff"
            )
        assert (await client.get("/relume/page/../door.py")).text == "behind"
        assert (await client.get("/relume/page/door.py")).status_code == 404


def test_the_files_make_no_markup_of_text_and_ask_nobody_else() -> None:
    files = {name: asset.body.decode() for name, asset in read_assets().items()}
    scripts = {name: text for name, text in files.items() if name.endswith(".js")}
    assert len("".join(scripts.values()).splitlines()) < 1500
    for name, script in scripts.items():
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", script
        ), name
    for name, text in files.items():
        urls = set(re.findall(r"https?://[^\s\"'`]+", text))
        assert urls <= {"http://www.w3.org/2000/svg"}, name
    assert not re.search(r"<script(?![^>]*\bsrc=)|\bon\w+=|style=", files["index.html"])


# ---- the stream


async def test_the_first_message_has_everything_and_the_next_only_what_has_changed() -> None:
    watched = Watched()
    async with opened(watched) as stream:
        first = stream.messages[0]
        assert first["services"]["order"] == ["ns/it"]
        assert first["coldstarts"]["items"]["ns/it 2026-01-01T00:00:00+00:00"]["phases"] == {
            "queue": 1.0,
            "weights": 300.0,
        }
        assert first["hello"]["prompts"] is False
        assert await stream.next() == {}
        watched.services = [{**SERVICE, "state": "ready", "replicas": 1}]
        watched.feed.look()
        second = await stream.next()
        assert set(second) == {"services"} and set(second["services"]) == {"items"}
        assert second["services"]["items"]["ns/it"]["state"] == "ready"
        watched.services = []
        watched.feed.look()
        assert (await stream.next())["services"] == {"items": {}, "order": []}


async def test_two_revisions_that_share_the_requests_are_told_and_counted_together() -> None:
    share = {**SERVICE, "tag": "prev", "percent": 80, "revision": "it-1", "replicas": 2}
    watched = Watched()
    watched.services = [{**SERVICE, "traffic": [share, {**share, "tag": "latest", "percent": 20}]}]
    async with opened(watched) as stream:
        (told, _) = stream.messages[0]["services"]["items"]["ns/it"]["traffic"]
        assert told["percent"] == 80 and "log_tail" not in told
    status = {"serving": {"services": watched.services}, "eventing": {}}
    assert json.loads(Sampler().sample(0, status, {}))[1] == {"s:ns/it": [4, 0, 0, 0]}


async def test_a_look_is_taken_often_only_while_a_page_is_open_and_a_service_starts() -> None:
    watched = Watched()
    running = asyncio.create_task(watched.feed.run())
    await watched.clock.advance(20 * EVERY_S)
    assert watched.looks <= 21
    async with opened(watched):
        before = watched.looks
        await watched.clock.advance(4)
        assert 4 <= watched.looks - before <= 6
        watched.services = [{**SERVICE, "state": "starting"}]
        before = watched.looks
        await watched.clock.advance(4)
        assert watched.looks - before >= 12
    before = watched.looks
    await watched.clock.advance(20 * EVERY_S)
    assert watched.looks - before <= 22
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("prompts", [False, True])
async def test_no_prompt_is_told_without_show_prompts(prompts: bool) -> None:
    watched = Watched(prompts=prompts)
    watched.tell()
    watched.tell("dead-lettered")
    watched.tell("retrying")
    watched.tell("dropped")
    watched.tell("failed", type=JOB)
    async with opened(watched) as stream:
        watched.tell("accepted", causationid="another's")
        await stream.next()
        told = json.dumps(stream.messages)
    assert ("a secret prompt" in told) is prompts
    assert "retries-exhausted" in told
    assert '"bytes": 17' in told


async def test_a_filter_is_evaluated_here_and_a_wrong_one_changes_nothing() -> None:
    watched = Watched()
    watched.tell(type="old")
    watched.tell(type="wanted", id="before")
    async with opened(watched, "filter=type = 'wanted'") as stream, watched.client() as client:
        events = stream.messages[0]["events"]
        assert [each["id"] for each in events["records"]] == ["before"]
        watched.tell(type="other")
        watched.tell(type="wanted", id="after")
        events = (await stream.next())["events"]
        assert [each["id"] for each in events["records"]] == ["after"]
        assert (events["matched"], events["seen"], events["reset"]) == (1, 2, False)
        url = f"/relume/page/streams/{stream.id}/filter"
        refused = await client.put(url, content="type = =")
        assert (refused.status_code, refused.json()["reason"]) == (422, "invalid-cesql")
        watched.tell(type="other")
        assert "events" not in await stream.next()
        assert (await client.put(url, content="")).status_code == 204
        events = (await stream.next())["events"]
        assert events["reset"] and len(events["records"]) == 5


async def test_a_long_filter_is_refused_and_others_have_a_turn_after_each_event() -> None:
    watched = Watched()
    async with watched.client() as client:
        long = await client.get("/relume/page/stream", params={"filter": "x" * 8193})
        assert (long.status_code, long.json()["reason"]) == (413, "too-large")
    events = LiveEvents(watched.observer, prompts=False)
    events.want("type = 't'")
    for _ in range(50):
        watched.tell()
    reading, turns = asyncio.create_task(events.news()), 0
    while not reading.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 50
    events.close()


async def test_of_many_events_the_newest_are_told_and_the_others_counted() -> None:
    watched = Watched()
    async with opened(watched) as stream:
        for number in range(500):
            watched.tell(id=str(number))
        events = (await stream.next())["events"]
        assert [each["id"] for each in events["records"]] == [
            str(n) for n in range(500 - TOLD, 500)
        ]
        assert events["matched"] == 500
        for number in range(3000):
            watched.tell(id=str(number))
        events = (await stream.next())["events"]
        assert (events["matched"], events["lost"]) == (2000, 1000)


async def test_an_event_of_the_page_gets_its_own_id_and_is_followed_with_its_data() -> None:
    watched = Watched()
    async with opened(watched) as stream, watched.client() as client:
        url = f"/relume/page/streams/{stream.id}/send/ns/b"
        body = {"type": "ask", "data": {"text": "mine"}, "id": "another's"}
        answer = await client.post(url, json=body)
        assert answer.status_code == 202
        sent = answer.headers["relume-event-id"]
        ((path, event),) = watched.stored
        assert (path, event.id, event.type, event.source) == ("/ns/b", sent, "ask", "/relume/page")
        assert sent != "another's" and event.data == b'{"text":"mine"}'
        watched.tell(causationid=sent)
        (followed,) = (await stream.next())["followed"]
        assert followed["data"] == '"a secret prompt"'
        for wrong, reason in (
            ("[]", "no-event"),
            ("{", "no-event"),
            ('{"type": ""}', "invalid-event"),
        ):
            refused = await client.post(url, content=wrong)
            assert (refused.status_code, refused.json()["reason"]) == (422, reason)
        large = await client.post(url, content=b" " * (door._MOST_EVENT + 1))
        assert large.status_code == 413
        gone = await client.post("/relume/page/streams/x/send/ns/b", json=body)
        assert gone.status_code == 404


@pytest.mark.parametrize(
    "headers", [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}]
)
async def test_a_page_of_another_origin_changes_nothing(headers: dict[str, str]) -> None:
    watched = Watched()
    async with opened(watched) as stream, watched.client() as client:
        for method, path in (("PUT", "filter"), ("POST", "send/ns/b")):
            url = f"/relume/page/streams/{stream.id}/{path}"
            answer = await client.request(method, url, headers=headers, content="{}")
            assert (answer.status_code, answer.json()["reason"]) == (403, "not-allowed")
        foreign = {"sec-fetch-site": "cross-site"}
        answer = await client.get("/relume/page/stream", headers=foreign)
        assert answer.status_code == 403
    assert watched.stored == []


# ---- bounds


async def test_so_many_pages_may_be_open_and_a_place_is_free_again() -> None:
    watched = Watched()
    streams = [Stream(watched) for _ in range(MOST_PAGES)]
    await streams[-1].next()
    one_more = Stream(watched)
    await one_more.task
    assert one_more.status == 503
    await streams[0].leave()
    async with opened(watched) as another:
        assert another.status == 200
        watched.page.close()
        await another.next()
        assert another.ended
    await asyncio.gather(*(stream.task for stream in streams))
    assert watched.observer._subscriptions == set()


async def test_a_page_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SLOW_S <= 10
    monkeypatch.setattr("relume.plane.page.reader.SLOW_S", 0.01)
    watched = Watched()
    stream = Stream(watched)
    await stream.next()
    stream.blocked = True
    watched.tell()
    await watched.clock.advance(TICK_S)
    await asyncio.wait_for(stream.task, 5)
    assert not stream.ended and watched.observer._subscriptions == set()


def test_an_hour_is_kept_and_what_is_idle_takes_next_to_nothing() -> None:
    history, sampler = History(), Sampler()
    idle = {"serving": {"services": [SERVICE]}, "eventing": {"brokers": [BROKER]}}
    for number in range(KEPT + 100):
        history.add(sampler.sample(number * EVERY_S, idle, {}))
    assert len(history.since(0)) == KEPT == 3600 / EVERY_S
    assert history.bytes < 15_000
    assert len(history.since(history.count - 2)) == 2
    assert history.since(history.count) == []


def test_history_is_bounded_by_bytes_and_the_newest_sample_stays() -> None:
    history = History(most_bytes=1000)
    for _ in range(10):
        history.add(b"x" * 400)
    assert history.bytes == 800
    history.add(b"x" * 2000)
    assert len(history.since(0)) == 1
    many = [{**SERVICE, "name": str(n), "replicas": 1} for n in range(10 * MOST_EACH)]
    sample = Sampler().sample(0, {"serving": {"services": many}, "eventing": {}}, {})
    assert len(json.loads(sample)[1]) == MOST_EACH
    assert KEPT * len(sample) <= KEPT_BYTES


def test_a_sample_has_what_was_added_since_the_one_before() -> None:
    sampler = Sampler()

    def sample(accepted: int, delivered: int) -> Any:
        status = {
            "serving": {"services": [{**SERVICE, "replicas": 1}]},
            "eventing": {
                "brokers": [{**BROKER, "accepted": accepted, "dead_letters": 2}],
                "triggers": [{**TRIGGER, "delivered": delivered, "pending": 3}],
            },
        }
        return json.loads(sampler.sample(7.2, status, {"s:ns/it": 5 * MIB + 1}))

    assert sample(100, 50) == [
        7,
        {"s:ns/it": [1, 0, 0, 6], "b:ns/b": [0, 2], "t:ns/t": [0, 0, 0, 3]},
    ]
    assert sample(110, 54)[1] == {
        "s:ns/it": [1, 0, 0, 6],
        "b:ns/b": [10, 2],
        "t:ns/t": [4, 0, 0, 3],
    }
    assert sample(0, 0)[1]["b:ns/b"] == [0, 2]


# ---- over a real plane


async def test_a_plane_serves_its_page_and_stops_with_the_stream_open(tmp_path: Path) -> None:
    plan = Plan(brokers=(Broker("ns", "b"),))
    settings = PlaneSettings(tmp_path, port=0, broker_port=0, template=False, grace_s=20.0)
    store = ModelStore(tmp_path / "models")
    async with (
        httpx.AsyncClient(timeout=30, trust_env=False) as http,
        LocalPlane(plan, settings, store).running() as plane,
    ):
        answer = await http.get(f"{plane.http}/", headers=BROWSER)
        assert answer.status_code == 200 and "<title>Relume" in answer.text
        stream = http.stream("GET", f"{plane.http}/relume/page/stream")
        lines = (await stream.__aenter__()).aiter_lines()
        hello = json.loads((await anext(lines)).removeprefix("data: "))
        assert hello["brokers"]["order"] == ["ns/b"] and hello["plane"]["items"]["plane"]["nats"]
        url = f"{plane.http}/relume/page/streams/{hello['hello']['stream']}/send/ns/b"
        sent = (await http.post(url, json={"type": "ask"})).headers["relume-event-id"]
        async with asyncio.timeout(30):
            async for line in lines:
                if sent in line and "followed" in line:
                    break
        refused = await http.post(url.replace("/ns/b", "/ns/other"), json={"type": "ask"})
        assert (refused.status_code, refused.json()["reason"]) == (404, "unknown-broker")
        stopping = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - stopping < settings.grace_s
