"""Events become jobs: what is stored, what is answered, and what is never stored twice."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import ASGIApp, Receive, Scope, Send

from relume.base.testing import VirtualClock
from relume.base.vocabulary import OWN_TYPES
from relume.cloudevents.event import CloudEvent, rfc3339
from relume.cloudevents.http import Mode, decode, encode, encode_batch
from relume.eventing.answer_event import reply_id
from relume.eventing.event_log import BrokerKey, DiskFull, StoreUnavailable
from relume.eventing.jobs.dataref import (
    DatarefRefused,
    DatarefRules,
    Datarefs,
    DatarefTooLarge,
    DatarefUnavailable,
    Referred,
)
from relume.eventing.jobs.events_door import EventsDoor
from relume.eventing.jobs.job import Job, ServiceName
from relume.eventing.jobs.payloads import request_event, whole_body
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.sinks import Sinks
from relume.eventing.jobs.state import Attempted, Deleted, Ended, Leased, step
from relume.eventing.jobs.store import Seen
from relume.eventing.jobs.testing import MemoryJobs
from relume.eventing.settings import EventingSettings
from tests.cloud_events import events

from .test_dataref import Names, answering, anything
from .test_dataref import rules as rules_for

CHAT = ServiceName("default", "chat")
ROUTE = "/v1/chat/completions"
URL = f"/events/default/chat{ROUTE}"
PREFER = {"prefer": "reply"}


def ask(id_: str = "1", data: bytes | None = b'{"messages": []}', **more: object) -> CloudEvent:
    attributes = {
        "id": id_,
        "source": "/shop",
        "type": "ask",
        "datacontenttype": "application/json",
    }
    return CloudEvent.create({**attributes, **more}, data)


class Refusal(Exception):
    reason = "tenant-full"
    retry_after_s = 2.4


@dataclass
class Stage:
    """A door over a store in memory."""

    settings: JobSettings = field(default_factory=JobSettings)
    eventing: EventingSettings = field(default_factory=EventingSettings)
    default: str | None = "http://sink.example/"
    datarefs: Datarefs | None = None
    full: bool = False
    asked: list[int] = field(default_factory=list)  # the sizes that the quota was told

    def __post_init__(self) -> None:
        self.clock = VirtualClock()
        self.store = MemoryJobs(self.settings, self.clock)
        brokers = {BrokerKey("default", "b")}
        self.door = EventsDoor(
            self.store,
            lambda service: service == CHAT,
            Sinks(self.clock, local=brokers, default=self.default).reply_to,
            self.clock,
            settings=self.settings,
            eventing=self.eventing,
            admit=self._admit,
            datarefs=self.datarefs,
        )
        self.app: ASGIApp = self.door

    async def _admit(self, job: Job, _: object) -> Refusal | None:
        self.asked.append(len(job.body))
        return Refusal(f"{job.tenant} has too many jobs") if self.full else None

    async def request(
        self, method: str, url: str, headers: object = None, body: bytes = b""
    ) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await client.request(method, url, headers=headers, content=body)  # type: ignore[arg-type]

    async def post(
        self,
        event: CloudEvent,
        mode: Mode = Mode.BINARY,
        url: str = URL,
        more: dict[str, str] | None = None,
    ) -> httpx.Response:
        headers, body = encode(event, mode)
        return await self.request("POST", url, [*headers, *(more or {}).items()], body)

    async def job_of(self, response: httpx.Response) -> Job:
        assert (response.status_code, response.content) == (202, b""), response.text
        job = (await self.seen(response)).job
        assert job is not None
        return job

    async def seen(self, response: httpx.Response) -> Seen:
        return await self.store.look(response.headers["location"].removeprefix("/v1/jobs/"))

    async def waiting(self) -> int:
        return sum((await self.store.lanes(CHAT)).values())

    async def settle(self, response: httpx.Response) -> None:
        seen = await self.seen(response)
        assert seen.job is not None
        now = self.clock.now()
        record = step(None, seen.job, Leased(1, "w", now))
        record = step(record, seen.job, Attempted(1))
        record = step(record, seen.job, Ended(1, now, "completed"))
        await self.store.write(record, seen.revision)


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.mark.parametrize("mode", [Mode.BINARY, Mode.STRUCTURED])
async def test_an_event_is_stored_as_a_job(stage: Stage, mode: Mode) -> None:
    event = ask(subject="s", correlationid="c", own="x", number=7)
    response = await stage.post(event, mode, more={"x-request-id": "r", "x-other": "o"})
    job = await stage.job_of(response)
    assert (job.service, job.route) == (CHAT, ROUTE)
    assert (job.tenant, job.owner, job.priority) == ("/shop", "", "normal")
    assert (json.loads(job.body), job.content_type) == ({"messages": []}, "application/json")
    assert job.headers == {"x-request-id": "r"}
    assert job.reply_to == "http://sink.example/"
    sent = request_event(job, await whole_body(stage.store, job))
    expected = {name: str(value) for name, value in event.attributes.items()}
    assert {name: str(value) for name, value in sent.attributes.items()} == expected
    assert await stage.waiting() == stage.door.accepted == 1


@given(events(), st.sampled_from([Mode.BINARY, Mode.STRUCTURED]))
async def test_any_event_reaches_the_predictor_as_it_came(event: CloudEvent, mode: Mode) -> None:
    stage = Stage(JobSettings(inline_bytes=20))
    came = decode(*encode(event, mode)).event
    job = await stage.job_of(await stage.post(event, mode))
    sent = request_event(job, await whole_body(stage.store, job))
    # In binary mode, empty data and no data are the same.
    assert (sent.attributes, sent.data or b"") == (came.attributes, came.data or b"")
    assert job.tenant == event.source


async def test_what_a_broker_adds_and_the_trace_of_its_request(stage: Stage) -> None:
    trace = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    job = await stage.job_of(await stage.post(ask(knativebrokerttl=3), more=trace))
    assert job.event is not None
    assert job.event["traceparent"] == trace["traceparent"]
    assert "knativebrokerttl" not in job.event


@pytest.mark.parametrize(
    ("url", "route"),
    [
        ("/events/default/chat", "/"),
        ("/events/default/chat/", "/"),
        ("/events/default/chat/v2/models/m/infer", "/v2/models/m/infer"),
        ("/events/default/chat/a%2Fb/c%20d", "/a%2Fb/c%20d"),
        ("/events/default/chat/v1/x?y=1&broker=default/b&z=%20", "/v1/x?y=1&z=%20"),
        ("/events/default/chat?broker=default%2Fb", "/"),
    ],
)
async def test_the_address_names_service_and_route(stage: Stage, url: str, route: str) -> None:
    job = await stage.job_of(await stage.post(ask(), url=url))
    assert (job.service, job.route) == (CHAT, route)
    assert job.reply_to == ("default/b" if "broker" in url else "http://sink.example/")


@pytest.mark.parametrize(
    ("url", "status", "reason"),
    [
        ("/events", 400, "bad-path"),
        ("/events/default", 400, "bad-path"),
        ("/events/default/", 400, "bad-path"),
        ("/events//chat", 400, "bad-path"),
        ("/events/default/other", 404, "service-unknown"),
        ("/events/default/chat%2F..%2Fx/y", 400, "bad-path"),
        ("/events/default/chat/%2e%2e/other", 400, "bad-path"),
        ("/events/default/chat/a/%2E/b", 400, "bad-path"),
        (f"{URL}?broker=default/other", 403, "broker-not-allowed"),
        (f"{URL}?broker=http://10.0.0.1/", 400, "bad-query"),
        (f"{URL}?broker=http%3A%2F%2F10.0.0.1", 400, "bad-query"),
        (f"{URL}?broker=b", 400, "bad-query"),
        (f"{URL}?broker=default/b&broker=default/b", 400, "bad-query"),
        (f"{URL}?broker=", 400, "bad-query"),
    ],
)
async def test_an_address_that_names_nothing_is_refused(
    stage: Stage, url: str, status: int, reason: str
) -> None:
    response = await stage.post(ask(), url=url)
    assert (response.status_code, response.json()["reason"]) == (status, reason)
    assert await stage.waiting() == 0


async def test_without_a_sink_the_job_can_still_be_read() -> None:
    stage = Stage(default=None)
    assert (await stage.job_of(await stage.post(ask()))).reply_to is None


@pytest.mark.parametrize("mode", [Mode.BINARY, Mode.STRUCTURED])
async def test_a_redelivered_event_is_one_job(stage: Stage, mode: Mode) -> None:
    first = await stage.post(ask())
    again = await stage.post(ask(knativebrokerttl=9, traceparent="other"), mode)
    assert again.headers["location"] == first.headers["location"]
    assert (again.status_code, await stage.waiting()) == (202, 1)
    await stage.settle(first)
    settled = await stage.post(ask(), more=PREFER)
    assert (settled.status_code, settled.content) == (202, b"")
    assert (stage.door.accepted, stage.door.duplicates) == (1, 2)


async def test_many_deliveries_at_once_are_one_job(stage: Stage) -> None:
    responses = await asyncio.gather(*(stage.post(ask()) for _ in range(20)))
    assert {each.status_code for each in responses} == {202}
    assert len({each.headers["location"] for each in responses}) == 1
    assert (await stage.waiting(), stage.door.accepted) == (1, 1)


async def test_a_deleted_job_is_not_done_again(stage: Stage) -> None:
    first = await stage.post(ask())
    await stage.settle(first)
    seen = await stage.seen(first)
    assert seen.record is not None
    deleted = step(seen.record, seen.job, Deleted(stage.clock.now()))  # type: ignore[arg-type]
    await stage.store.write(deleted, seen.revision)
    await stage.store.withdraw(deleted.id)
    assert (await stage.post(ask())).status_code == 202
    assert await stage.waiting() == 0
    assert (await stage.post(ask(data=b"{}"))).status_code == 409


@pytest.mark.parametrize(
    "other", [{"data": b'{"messages": [1]}'}, {"datacontenttype": "text/plain"}]
)
async def test_other_data_under_the_same_id_is_refused(
    stage: Stage, other: dict[str, object]
) -> None:
    await stage.post(ask())
    response = await stage.post(ask(**other))  # type: ignore[arg-type]
    assert (response.status_code, response.json()["reason"]) == (409, "key-in-use")
    assert await stage.waiting() == 1


async def test_two_triggers_may_send_one_event_to_two_places(stage: Stage) -> None:
    urls = [URL, "/events/default/chat/v1/completions", f"{URL}?broker=default/b", f"{URL}?x=y"]
    ids = [(await stage.job_of(await stage.post(ask(), url=url))).id for url in urls]
    assert len(set(ids)) == 4
    assert (await stage.job_of(await stage.post(ask(source="/other")))).id not in ids


@pytest.mark.parametrize("kind", sorted(OWN_TYPES))
async def test_our_own_answers_are_not_answered(stage: Stage, kind: str) -> None:
    response = await stage.post(ask(type=kind))
    assert (response.status_code, response.content) == (202, b"")
    assert "location" not in response.headers
    assert (stage.door.ignored, await stage.waiting()) == (1, 0)


async def test_extensions_say_how_the_job_is_done(stage: Stage) -> None:
    event = ask(
        priority="high",
        maxattempts=1,
        queuetimeout="5m",
        starttimeout="90",
        runtimeout="2h",
        keep="1d",
    )
    for mode in (Mode.BINARY, Mode.STRUCTURED):
        job = await stage.job_of(await stage.post(event.with_attributes(id=mode.value), mode))
        limits = job.limits
        assert (job.priority, limits.max_attempts) == ("high", 1)
        assert (limits.queue_s, limits.start_s) == (300, 90)
        assert (limits.run_s, limits.keep_s) == (7200, 86400)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("priority", each) for each in ("urgent", "3", "HIGHER")),
        *(("maxattempts", each) for each in ("0", "21", "-1", "1.0", "x", "²", "true")),
        *(("queuetimeout", each) for each in ("0", "-1", "soon", "1w", "31d", "1e9", "٣")),
        *((each, "x") for each in ("starttimeout", "runtimeout", "keep")),
        *(("expirytime", each) for each in ("soon", "2026-01-01", "2027-01-01T00:00:00")),
    ],
)
async def test_an_extension_that_cannot_be_honoured_is_answered_by_its_name(
    stage: Stage, name: str, value: str
) -> None:
    event = ask().with_attributes(**{name: value})
    response = await stage.post(event, more=PREFER)
    assert response.status_code == 200
    reply = decode(list(response.headers.items()), response.content).event
    data = json.loads(reply.data or b"")
    assert (data["reason"], data["retryable"]) == ("invalid-data", False)
    assert name in data["error"]["message"]
    assert (reply.id, reply.type) == (reply_id("/shop", "1"), "relume.inference.error")
    assert (await stage.post(event)).status_code == 400
    assert await stage.waiting() == 0


@pytest.mark.parametrize("mode", [Mode.BINARY, Mode.STRUCTURED])
async def test_an_expired_event_is_answered_as_the_predictor_does(stage: Stage, mode: Mode) -> None:
    past = rfc3339(stage.clock.now() - timedelta(seconds=1))
    event = ask(expirytime=past, correlationid="c")
    for more, status in ((PREFER, 200), ({}, 400)):
        response = await stage.post(event, mode, more=more)
        assert response.status_code == status
        reply = decode(list(response.headers.items()), response.content).event
        assert reply.source == "/namespaces/default/inferenceservices/chat"
        assert (reply.attributes["causationid"], reply.attributes["replyid"]) == ("1", "c")
        assert json.loads(reply.data or b"")["reason"] == "expired"
    assert await stage.waiting() == 0


async def test_a_job_waits_no_longer_than_its_event_is_wanted(stage: Stage) -> None:
    soon = rfc3339(stage.clock.now() + timedelta(seconds=30))
    first = await stage.post(ask(expirytime=soon, queuetimeout="1h"))
    assert (await stage.job_of(first)).limits.queue_s == 30
    await stage.clock.advance(40)
    # It was accepted in time: its answer comes, and must not come twice.
    again = await stage.post(ask(expirytime=soon, queuetimeout="1h"), more=PREFER)
    assert (again.status_code, again.content) == (202, b"")


async def test_batches_and_what_is_no_event_are_refused(stage: Stage) -> None:
    headers, body = encode_batch([ask("1"), ask("2")])
    response = await stage.request("POST", URL, headers, body)
    assert (response.status_code, response.json()["reason"]) == (400, "invalid-event")
    for headers in ([], [("content-type", "application/json")], [("ce-id", "1")]):
        assert (await stage.request("POST", URL, headers, b"{}")).status_code == 400
    assert await stage.waiting() == 0


async def test_options_asks_for_events_and_not_for_batches(stage: Stage) -> None:
    response = await stage.request("OPTIONS", URL)
    assert response.status_code == 200
    assert response.headers["webhook-allowed-origin"] == "*"
    assert "batch" not in response.headers["accept-post"]
    for method in ("GET", "PUT", "DELETE"):
        refused = await stage.request(method, URL)
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST, OPTIONS")


async def test_an_event_whose_reply_could_not_travel_is_refused(stage: Stage) -> None:
    for event in (
        ask(correlationid="x" * 70_000),
        ask().with_attributes(**{f"x{n}": "y" for n in range(250)}),
    ):
        response = await stage.post(event, Mode.STRUCTURED)
        assert (response.status_code, response.json()["reason"]) == (413, "attributes-too-long")


async def test_a_large_event_goes_to_the_object_store_and_a_larger_one_back() -> None:
    stage = Stage(JobSettings(inline_bytes=100), EventingSettings(max_event_bytes=1000))
    data = b'"' + b"x" * 500 + b'"'
    job = await stage.job_of(await stage.post(ask(data=data)))
    assert (job.body, job.payload is not None) == (b"", True)
    assert await whole_body(stage.store, job) == data
    refused = await stage.post(ask("2", data=bytes(1001)))
    assert (refused.status_code, refused.json()["reason"]) == (413, "event-too-large")


@pytest.mark.parametrize(
    ("error", "status"), [(StoreUnavailable("away"), 503), (DiskFull("full"), 507)]
)
@pytest.mark.parametrize("where", ["look", "submit"])
async def test_nothing_is_accepted_that_is_not_stored(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, where: str
) -> None:
    async def down(*_: object) -> object:
        raise error

    monkeypatch.setattr(stage.store, where, down)
    response = await stage.post(ask())
    assert response.status_code == status
    assert stage.door.accepted == 0


async def test_a_tenant_with_too_many_jobs_is_told_when_to_come_again() -> None:
    stage = Stage()
    first = await stage.post(ask())
    stage.full = True
    response = await stage.post(ask("2"))
    assert (response.status_code, response.headers["retry-after"]) == (429, "3")
    assert response.json()["reason"] == "tenant-full"
    # What is stored already needs no room.
    assert (await stage.post(ask())).headers["location"] == first.headers["location"]


async def test_the_data_of_an_event_counts_against_the_bound_of_its_tenant() -> None:
    stage = Stage()
    await stage.post(ask(data=b"x" * 2_000_000, datacontenttype="text/plain"))
    assert stage.asked == [2_000_000]


class Fetches(Datarefs):
    """Fetches without a network: `answer` is the data, or the error."""

    def __init__(self, answer: bytes | Exception, content_type: str | None = None) -> None:
        super().__init__(DatarefRules())
        self.answer = answer
        self.content_type = content_type
        self.asked: list[object] = []

    def fetched(self, reference: object):  # type: ignore[no-untyped-def]
        self.asked.append(reference)
        return _Fetched(self)


@dataclass
class _Fetched:
    of: Fetches

    async def __aenter__(self) -> Referred:
        if isinstance(self.of.answer, Exception):
            raise self.of.answer

        async def data() -> AsyncIterator[bytes]:
            assert isinstance(self.of.answer, bytes)
            for start in range(0, len(self.of.answer), 7):
                yield self.of.answer[start : start + 7]

        return Referred(self.of.content_type, data())

    async def __aexit__(self, *_: object) -> None: ...


REF = "https://data.example/x?signature=s"


def refers(id_: str = "1", **more: object) -> CloudEvent:
    attributes = {"id": id_, "source": "/shop", "type": "ask", "dataref": REF}
    return CloudEvent.create({**attributes, **more})


async def test_data_that_is_referred_to_becomes_the_payload() -> None:
    stage = Stage(JobSettings(inline_bytes=20), datarefs=Fetches(b"x" * 100, "text/plain"))
    response = await stage.post(refers())
    job = await stage.job_of(response)
    assert (job.payload is not None, job.content_type) == (True, "text/plain")
    sent = request_event(job, await whole_body(stage.store, job))
    assert (sent.data, sent.datacontenttype) == (b"x" * 100, "text/plain")
    assert "dataref" not in sent.attributes
    typed = await stage.post(refers("2", datacontenttype="application/json"))
    assert (await stage.job_of(typed)).content_type == "application/json"


async def test_a_redelivered_reference_is_not_fetched_again() -> None:
    fetches = Fetches(b"{}")
    stage = Stage(datarefs=fetches)
    first = await stage.post(refers())
    fetches.answer = b'{"changed": 1}'
    again = await stage.post(refers())
    assert again.headers["location"] == first.headers["location"]
    assert fetches.asked == [REF]
    other = await stage.post(refers(dataref=REF + "2"))
    assert (other.status_code, other.json()["reason"]) == (409, "key-in-use")


async def test_data_in_the_event_is_taken_before_a_reference() -> None:
    fetches = Fetches(b"other")
    stage = Stage(datarefs=fetches)
    job = await stage.job_of(await stage.post(ask(dataref=REF)))
    assert (json.loads(job.body), fetches.asked) == ({"messages": []}, [])


@pytest.mark.parametrize(
    ("error", "reason"),
    [(DatarefRefused("no"), "dataref-refused"), (DatarefTooLarge("no"), "dataref-too-large")],
)
async def test_a_reference_that_is_never_fetched_is_answered_at_once(
    error: Exception, reason: str
) -> None:
    stage = Stage(datarefs=Fetches(error))
    response = await stage.post(refers(), more=PREFER)
    assert response.status_code == 200
    assert response.json()["reason"] == reason
    assert (await stage.post(refers())).status_code == 400
    assert await stage.waiting() == 0


async def test_nothing_is_fetched_where_nothing_may_be() -> None:
    stage = Stage()
    response = await stage.post(refers(), more=PREFER)
    assert (response.status_code, response.json()["reason"]) == (200, "dataref-refused")


async def test_a_host_that_is_away_makes_the_broker_try_again() -> None:
    stage = Stage(datarefs=Fetches(DatarefUnavailable("away")))
    response = await stage.post(refers(), more=PREFER)
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert await stage.waiting() == 0


async def test_data_comes_from_a_real_host_within_its_bound() -> None:
    async with answering(body=b"x" * 5000).serving() as host:
        allowed = rules_for(host, max_bytes=4000)
        async with Datarefs(allowed, resolver=Names("127.0.0.1"), check=anything) as datarefs:
            stage = Stage(JobSettings(inline_bytes=100), datarefs=datarefs)
            url = f"http://data.example:{host.port}/"
            response = await stage.post(refers(dataref=url), more=PREFER)
            assert response.json()["reason"] == "dataref-too-large"
            datarefs.rules = replace(allowed, max_bytes=5000)
            job = await stage.job_of(await stage.post(refers("2", dataref=url)))
            assert await whole_body(stage.store, job) == b"x" * 5000
        # With the check that is always there, the same reference is refused.
        async with Datarefs(allowed, resolver=Names("127.0.0.1")) as datarefs:
            stage = Stage(datarefs=datarefs)
            response = await stage.post(refers("3", dataref=url), more=PREFER)
            assert response.json()["reason"] == "dataref-refused"
        assert host.connections == 2


async def test_a_sender_that_goes_away_leaves_nothing(stage: Stage) -> None:
    headers, _ = encode(ask(), Mode.BINARY)
    scope = {
        "type": "http",
        "method": "POST",
        "path": URL,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers],
    }
    sent: list[object] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        sent.append(message)

    await stage.door(scope, receive, send)  # type: ignore[arg-type]
    assert (sent, stage.door.intake.bytes, await stage.waiting()) == ([], 0, 0)


async def test_a_caller_with_a_key_has_the_share_of_its_tenant_and_others_of_their_source(
    stage: Stage,
) -> None:
    door = stage.app

    async def as_caller(scope: Scope, receive: Receive, send: Send) -> None:
        await door({**scope, "state": {"owner": "key:1", "tenant": "t"}}, receive, send)

    anonymous = await stage.job_of(await stage.post(ask()))
    stage.app = as_caller
    job = await stage.job_of(await stage.post(ask()))
    assert (anonymous.owner, anonymous.tenant) == ("", "/shop")
    assert (job.owner, job.tenant) == ("key:1", "t")
    assert job.id != anonymous.id
    assert replace(job, id=anonymous.id, owner="", tenant="/shop") == anonymous
