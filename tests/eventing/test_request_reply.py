"""RequestReply (checklist B14): knative/eventing `pkg/requestreply` and its API."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from aiohttp import web

from relume.base.clock import SystemClock
from relume.base.limits import MIB
from relume.base.testing import VirtualClock
from relume.cloudevents.event import CloudEvent, InvalidEvent
from relume.cloudevents.http import Mode, decode, encode
from relume.config import Broker, Exact, Plan, RequestReply
from relume.eventing import request_reply
from relume.eventing.correlation import Correlation
from relume.eventing.event_log import BrokerKey
from relume.eventing.request_reply import WaitingCallers
from relume.plane.server import HttpServer
from relume.plane.subscribers import Destinations

from .stage import BrokerStage, Call, Subscriber, answer, event, trigger

FLOW = RequestReply("default", "ask", "b")
PATH = "/request-reply/default/ask"
SECRET = b"s" * 32


async def replies(call: Call) -> web.StreamResponse:
    """The last service of the event's path: it answers, and says to what."""
    came = call.event
    attributes = {
        "id": f"re-{came.id}",
        "source": f"/service{came.source}",
        "type": "reply",
        "replyid": came.attributes["correlationid"],
    }
    return answer(CloudEvent.create(attributes, b"answer to " + (came.data or b"")))


@asynccontextmanager
async def plane(url: str, flow: RequestReply = FLOW, **spec: Any) -> AsyncIterator[BrokerStage]:
    """A Broker whose events of type ask go to `url`, with its door on a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        base = f"http://127.0.0.1:{listening.getsockname()[1]}"
        stage = BrokerStage(
            [trigger("t", url, filters=(Exact({"type": "ask"}),))],
            more=Plan(request_replies=(flow,)),
            resolve=Destinations("http://none", base).resolve,
            **spec,
        )
        async with stage:
            server = HttpServer(stage.plane.app, listening, websockets=False)
            serve = asyncio.create_task(server.serve())
            yield stage
            stage.plane.app.close()
            server.stop_now()
            await serve


async def ask(stage: BrokerStage, asked: CloudEvent, path: str = PATH) -> httpx.Response:
    return await stage.post(asked, path=path)


def said(response: httpx.Response) -> CloudEvent:
    return decode(list(response.headers.items()), response.content).event


async def until_waiting(stage: BrokerStage, count: int = 1) -> None:
    async with asyncio.timeout(60):
        while stage.plane.app.waiting(FLOW) < count:
            await asyncio.sleep(0.005)


async def test_b14_the_caller_gets_the_event_that_answers_as_the_answer_to_its_request() -> None:
    async with Subscriber(replies) as service, plane(service.url) as stage:
        response = await ask(stage, event("1", b"this"))
        assert (response.status_code, response.content) == (200, b"answer to this")
        assert (said(response).id, said(response).type) == ("re-1", "reply")
        assert "knativebrokerttl" not in said(response).attributes
        # What Knative writes: the id, what only the RequestReply reads, the number of the pod.
        parts = str(service.calls[0].event.attributes["correlationid"]).split(":")
        assert (parts[0], len(parts), parts[2]) == ("1", 3, "0")


async def test_b14_each_of_many_callers_gets_its_own_answer() -> None:
    async with Subscriber(replies) as service, plane(service.url) as stage:
        numbers = [str(number) for number in range(20)]
        responses = await asyncio.gather(
            *(ask(stage, event(number, number.encode())) for number in numbers)
        )
    assert [each.content for each in responses] == [f"answer to {n}".encode() for n in numbers]


async def test_b14_the_same_id_of_two_producers_is_two_requests() -> None:
    async with Subscriber(replies) as service, plane(service.url) as stage:
        responses = await asyncio.gather(
            ask(stage, event("1", b"mine", source="/me")),
            ask(stage, event("1", b"yours", source="/you")),
        )
    assert [each.content for each in responses] == [b"answer to mine", b"answer to yours"]


async def test_b14_a_request_without_an_answer_in_time_is_504_and_its_event_stays() -> None:
    """Knative writes nothing, which is an empty 200; nobody may take that for an answer."""
    async with Subscriber() as silent, plane(silent.url) as stage:
        asking = asyncio.create_task(ask(stage, event("1")))
        await stage.until("delivered")
        await stage.virtual.advance(29.9)
        assert not asking.done()
        await stage.virtual.advance(0.2)
        response = await asking
        assert (response.status_code, response.json()["reason"]) == (504, "no-reply")
        assert stage.plane.app.waiting(FLOW) == 0


async def test_b14_the_same_request_again_gets_the_answer_and_is_not_worked_on_twice() -> None:
    release = asyncio.Event()

    async def slow(call: Call) -> web.StreamResponse:
        await release.wait()
        return await replies(call)

    async with Subscriber(slow) as service, plane(service.url) as stage:
        first = asyncio.create_task(ask(stage, event("1", b"this")))
        await until_waiting(stage)
        await stage.virtual.advance(31)
        assert (await first).status_code == 504
        second = asyncio.create_task(ask(stage, event("1", b"this")))
        await until_waiting(stage)
        release.set()
        assert (await second).content == b"answer to this"
        third = await ask(stage, event("1", b"this"))  # when the answer is long there
        assert third.content == b"answer to this"
    assert len(service.calls) == 1


async def test_b14_when_the_broker_has_forgotten_a_request_its_answer_is_forgotten_too() -> None:
    async with Subscriber(replies) as service, plane(service.url) as stage:
        await ask(stage, event("1", b"this"))
        await stage.virtual.advance(599)
        await ask(stage, event("1", b"this"))
        assert len(service.calls) == 1
        await stage.virtual.advance(2)
        assert (await ask(stage, event("1", b"this"))).content == b"answer to this"
    assert len(service.calls) == 2


def test_b14_so_many_answers_are_remembered_and_so_much_of_them() -> None:
    async def remembered(waiting: WaitingCallers, correlation: str) -> bool:
        future = waiting.join(correlation)
        waiting.leave(correlation, future)
        return future.done()

    async def fill() -> None:
        many = WaitingCallers(VirtualClock(), 600)
        for number in range(1002):
            many.answer(str(number), event("1"))
        assert not await remembered(many, "0") and await remembered(many, "1001")
        large = WaitingCallers(VirtualClock(), 600)
        for number in range(3):
            large.answer(str(number), event("1", bytes(20 * MIB)))
        assert not await remembered(large, "0") and not await remembered(large, "1")

    asyncio.run(fill())


async def test_b14_a_request_of_a_killed_process_is_answered_by_the_next_one() -> None:
    """With the same secret, which lies in the state folder, the answer is known as one."""
    release = asyncio.Event()

    async def slow(call: Call) -> web.StreamResponse:
        await release.wait()
        return await replies(call)

    async with Subscriber(slow) as service:
        async with plane(service.url, secret=SECRET) as stage:
            asking = asyncio.create_task(ask(stage, event("1", b"this")))
            await until_waiting(stage)
            log, clock = stage.log, stage.clock
            stage.plane.app.close()
            response = await asking
            assert (response.status_code, response.json()["reason"]) == (503, "stopping")
            assert response.headers["retry-after"] == "1"
        async with plane(service.url, secret=SECRET, log=log, clock=clock) as again:
            asking = asyncio.create_task(ask(again, event("1", b"this")))
            await until_waiting(again)
            release.set()
            assert (await asking).content == b"answer to this"
    assert {call.event.id for call in service.calls} == {"1"}


async def test_b14_a_caller_that_goes_away_is_waited_for_no_longer() -> None:
    async with Subscriber() as silent, plane(silent.url, clock=SystemClock()) as stage:
        headers, body = encode(event("1"), Mode.BINARY)
        triggers = stage.plane.status()["triggers"]
        assert isinstance(triggers, list)
        url = triggers[-1]["subscriber"].removesuffix("/reply")
        async with httpx.AsyncClient() as client:
            asking = asyncio.create_task(client.post(url, headers=headers, content=body))
            await until_waiting(stage)
            asking.cancel()
            await asyncio.wait([asking])
        async with asyncio.timeout(60):
            while stage.plane.app.waiting(FLOW):
                await asyncio.sleep(0.005)


async def test_b14_an_event_that_only_claims_to_be_an_answer_reaches_nobody() -> None:
    async with Subscriber() as silent, plane(silent.url) as stage:
        asking = asyncio.create_task(ask(stage, event("1")))
        await until_waiting(stage)
        made_up = event(
            "x", type="reply", replyid="1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:0"
        )
        assert (await stage.post(made_up)).status_code == 202
        response = await ask(stage, made_up, f"{PATH}/reply")
        assert (response.status_code, response.json()["reason"]) == (400, "invalid-event")
        assert response.json()["error"].startswith("replyid: ")
        assert stage.status("ask-kn-requestreply")["delivered"] == 0
        assert not asking.done()
        stage.plane.app.close()
        await asking


async def test_b14_the_names_of_the_attributes_are_those_of_the_spec() -> None:
    async def own(call: Call) -> web.StreamResponse:
        attributes = {"id": "re", "source": "/s", "type": "reply"}
        asked = call.event.attributes["question"]
        return answer(CloudEvent.create({**attributes, "response": asked}, b"yes"))

    flow = RequestReply("default", "ask", "b", "question", "response")
    async with Subscriber(own) as service, plane(service.url, flow) as stage:
        assert (await ask(stage, event("1"))).content == b"yes"


@pytest.mark.parametrize(
    "path, method, status, reason",
    [
        ("/request-reply/default/other", "POST", 404, "unknown-request-reply"),
        ("/request-reply/default", "POST", 400, "bad-path"),
        (PATH, "GET", 405, "method-not-allowed"),
        (f"{PATH}/else", "POST", 400, "bad-path"),
    ],
)
async def test_b14_what_is_no_request_to_one_is_refused_as_at_a_broker(
    path: str, method: str, status: int, reason: str
) -> None:
    async with plane("http://127.0.0.1:1/") as stage:
        response = await stage.request(method, path)
    assert (response.status_code, response.json()["reason"]) == (status, reason)


async def test_b14_options_grants_everybody_and_what_is_no_event_is_refused() -> None:
    async with plane("http://127.0.0.1:1/") as stage:
        granted = await stage.request("OPTIONS", PATH)
        assert granted.status_code == 200 and granted.headers["webhook-allowed-origin"] == "*"
        assert "accept-post" not in granted.headers
        response = await stage.request("POST", PATH, [], b"{}")
        assert (response.status_code, response.json()["reason"]) == (400, "invalid-event")
        # Two parts too many for a cluster, which would never find the answer.
        response = await ask(stage, event("urn:1"))
        assert response.json()["error"].startswith("id: 'urn:1' has a colon")
        assert stage.plane.status()["brokers"][0]["accepted"] == 0  # type: ignore[index]


async def test_b14_a_broker_that_takes_no_events_says_so_here_too() -> None:
    async with plane("http://127.0.0.1:1/") as stage:
        stage.plane._ingress.close()
        response = await ask(stage, event("1"))
    assert (response.status_code, response.json()["reason"]) == (503, "stopping")


async def test_b14_the_status_tells_how_many_wait() -> None:
    async with Subscriber() as silent, plane(silent.url) as stage:
        asking = asyncio.create_task(ask(stage, event("1")))
        await until_waiting(stage)
        [told] = stage.plane.status()["request_replies"]  # type: ignore[misc]
        assert (told["name"], told["broker"], told["waiting"]) == ("ask", "b", 1)
        stage.plane.app.close()
        await asking


# ---- correlations


def test_a_correlation_is_known_by_its_own_request_reply_and_secret_alone() -> None:
    own = Correlation(FLOW, SECRET)
    reply = event("2", replyid=own.of(event("1")))
    assert own.is_answer(reply)
    assert not Correlation(FLOW, b"t" * 32).is_answer(reply)
    other = RequestReply("default", "other", "b")
    assert not Correlation(other, SECRET).is_answer(reply)


@pytest.mark.parametrize("value", ["", "1", "1:2", "1:!:0", "1:AAAA:0", "1::0", "a:b:c:d", 7, True])
def test_what_is_no_correlation_answers_nothing(value: str | int | bool) -> None:
    assert not Correlation(FLOW, SECRET).is_answer(event("2", replyid=value))


def test_another_id_in_front_of_the_signature_is_noticed() -> None:
    own = Correlation(FLOW, SECRET)
    moved = own.of(event("1")).replace("1:", "2:", 1)
    assert not own.is_answer(event("2", replyid=moved))


def test_an_id_with_a_colon_is_refused() -> None:
    with pytest.raises(InvalidEvent, match="has a colon"):
        Correlation(FLOW, SECRET).of(event("a:b"))


def test_the_broker_of_a_request_reply_is_in_its_namespace() -> None:
    assert BrokerKey(FLOW.namespace, FLOW.broker) == BrokerKey(
        "default", Broker("default", "b").name
    )


def test_the_answers_that_are_remembered_are_bounded() -> None:
    waiting, event = (
        request_reply.WaitingCallers(VirtualClock(), 60),
        CloudEvent.create({"id": "1", "source": "/s", "type": "t"}, b"x" * MIB),
    )
    for number in range(request_reply._REMEMBERED + 10):
        waiting.answer(str(number), event)
    most = request_reply._REMEMBERED_BYTES // MIB
    assert len(waiting._answers) == most
    assert str(request_reply._REMEMBERED + 9) in waiting._answers


@pytest.mark.parametrize(
    "headers, body",
    [
        ([("content-type", "application/cloudevents-batch+json")], b"[]"),
        (
            [("content-type", "application/cloudevents-batch+json")],
            b'[{"specversion": "1.0", "id": "1", "source": "/s", "type": "ask"}]',
        ),
        ([("content-type", "application/cloudevents+json")], b"[]"),
        ([("ce-id", "1")], b""),
    ],
    ids=["an empty batch", "a batch", "a list", "half an event"],
)
@pytest.mark.parametrize("path", [PATH, f"{PATH}/reply"])
async def test_b14_only_one_whole_event_is_a_request_or_an_answer(
    path: str, headers: list[tuple[str, str]], body: bytes
) -> None:
    async with plane("http://127.0.0.1:1/") as stage:
        response = await stage.request("POST", path, headers, body)
    assert (response.status_code, response.json()["reason"]) == (400, "invalid-event")
