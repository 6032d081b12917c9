"""What is published of settled jobs: once, to its sink, whatever becomes of sink and process."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from relume.base.clock import SystemClock
from relume.base.testing import VirtualClock, settle
from relume.cloudevents.event import CloudEvent
from relume.eventing.answer_event import reply_id
from relume.eventing.dead_letters import redrive
from relume.eventing.delivery.courier import Subscribers
from relume.eventing.delivery.outcome import Answered, Outcome, Unanswered
from relume.eventing.envelope import Envelope
from relume.eventing.event_log import BrokerKey, EventLog
from relume.eventing.jetstream.log import JetStreamLog
from relume.eventing.jetstream.server import NatsServer
from relume.eventing.jobs.outbox import OUTBOX, Outbox
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.sinks import BrokerNotAllowed, Sinks
from relume.eventing.jobs.state import Record, Result
from relume.eventing.jobs.testing import MemoryJobs
from relume.eventing.settings import EventingSettings
from relume.eventing.testing import MemoryLog
from tests.eventing.stage import Subscriber, answer

from .test_settled_events import record, result_url

BROKER = BrokerKey("default", "b")
Answering = Callable[[str, CloudEvent], Awaitable[Outcome] | Outcome]


class Plane:
    """A store, a log, and an outbox whose posts are answered by `answers`."""

    def __init__(self, usage: str | None = None, settings: EventingSettings | None = None) -> None:
        self.clock = VirtualClock()
        self.settings = settings or EventingSettings()
        self.store = MemoryJobs(JobSettings(), self.clock)
        self.log = MemoryLog(self.settings, self.clock)
        self.posted: list[tuple[str, CloudEvent]] = []
        self.answers: Answering = lambda url, event: Answered(202)
        self.usage = usage
        self.letters: EventLog | None = self.log
        self.revisions: dict[str, int] = {}
        self.stored: list[tuple[BrokerKey, str, bool]] = []

    async def post(
        self, url: str, envelope: Envelope, *, namespace: str, timeout_s: float | None
    ) -> Outcome:
        assert (namespace, dict(envelope.headers)) == ("default", {})
        self.posted.append((url, envelope.event))
        outcome = self.answers(url, envelope.event)
        return await outcome if isinstance(outcome, Awaitable) else outcome

    def sinks(self) -> Sinks:
        return Sinks(
            self.clock,
            self.log,
            {BROKER},
            lambda broker: f"http://ingress/{broker}" if broker.name == "far" else None,
            usage=self.usage,
            stored=lambda broker, events, news: self.stored.extend(
                (broker, event.id, new) for event, new in zip(events, news, strict=True)
            ),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Outbox]:
        await self.log.open_broker(BROKER, ["reader"])
        outbox = Outbox(
            self.store,
            self.sinks(),
            self.letters,
            self.post,
            result_url,
            self.clock,
            self.settings,
        )
        await outbox.open()
        task = asyncio.create_task(outbox.run())
        try:
            yield outbox
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def settled(self, number: int, **more: Any) -> Record:
        request = {**(record().event or {}), "id": str(number)}
        told = {"reply_to": "http://sink/", "event": request, "state": "failed", **more}
        made = record(id=f"job_{number}", **told)
        made = replace(made, settled_at=self.clock.now())
        self.revisions[made.id] = await self.store.write(made, self.revisions.get(made.id, 0))
        await settle()
        return made

    async def in_broker(self) -> list[CloudEvent]:
        cursor = self.log.cursor(BROKER, "reader")
        if not cursor.waiting:
            return []
        return [Envelope.unpack(each.payload).event for each in await cursor.fetch(100)]

    async def letter_list(self) -> list[Any]:
        return [each async for each in self.log.dead_letters.letters(OUTBOX)]


async def test_each_job_has_a_usage_event_and_each_event_a_reply() -> None:
    plane = Plane(usage="http://usage/")
    async with plane.running() as outbox:
        await plane.settled(1)
        await plane.settled(2, event=None, reply_to=None)
        by_sink = {
            url: [event.type for u, event in plane.posted if u == url] for url, _ in plane.posted
        }
        assert by_sink == {
            "http://usage/": ["relume.inference.usage"] * 2,
            "http://sink/": ["relume.inference.error"],
        }
        assert (outbox.tally.delivered, outbox.waiting) == (3, 0)
        await plane.clock.advance(60)
        assert len(plane.posted) == 3


async def test_a_predictor_may_give_its_reply_any_source() -> None:
    plane = Plane()
    reply = CloudEvent.create({"id": "r", "source": "m", "type": "answer"})
    head = json.dumps(dict(reply.attributes)).encode()
    plane.answers = lambda url, event: Answered(400 if len(plane.posted) == 1 else 202)
    async with plane.running():
        await plane.settled(1, state="completed", reply=head, result=Result(200, "text/plain"))
        [letter] = await plane.letter_list()
        await redrive(plane.log.dead_letters, OUTBOX, letter.sequence)
        await settle()
        assert plane.posted == [("http://sink/", reply)] * 2


async def test_a_local_broker_takes_replies_and_is_told_of_them() -> None:
    plane = Plane(usage="default/b")
    async with plane.running():
        await plane.settled(1, reply_to="default/b")
        taken = await plane.in_broker()
        assert {each.type for each in taken} == {"relume.inference.usage", "relume.inference.error"}
        assert all("knativearrivaltime" in each.attributes for each in taken)
        assert [(broker, new) for broker, _, new in plane.stored] == [(BROKER, True)] * 2
        assert plane.posted == []


async def test_a_broker_elsewhere_is_found_by_its_name() -> None:
    plane = Plane()
    async with plane.running():
        await plane.settled(1, reply_to="default/far")
        assert [url for url, _ in plane.posted] == ["http://ingress/default/far"]


def test_only_allowed_brokers_are_replied_to() -> None:
    sinks = replace(Plane().sinks(), default="http://k-sink/")
    assert sinks.reply_to(None) == "http://k-sink/"
    assert sinks.reply_to(BROKER) == "default/b"
    assert sinks.reply_to(BrokerKey("any", "far")) == "any/far"
    for name in (BrokerKey("default", "other"), BrokerKey("other", "b"), BrokerKey("http:", "/x")):
        with pytest.raises(BrokerNotAllowed):
            sinks.reply_to(name)


async def test_a_sink_that_is_away_keeps_its_events_waiting_and_no_others() -> None:
    plane = Plane(usage="http://away/")
    plane.answers = lambda url, event: Unanswered("refused") if "away" in url else Answered(202)
    async with plane.running() as outbox:
        for number in range(20):
            await plane.settled(number)
        replies = [event.attributes["causationid"] for url, event in plane.posted if "sink" in url]
        assert replies == [str(number) for number in range(20)]
        tried = len([url for url, _ in plane.posted if "away" in url])
        await plane.clock.advance(3600)
        again = len([url for url, _ in plane.posted if "away" in url]) - tried
        # One asks for all, every 25.6 s in the end.
        assert 130 <= again <= 160
        assert len([url for url, _ in plane.posted if "sink" in url]) == 20
        assert await plane.letter_list() == []
        plane.answers = lambda url, event: Answered(202)
        await plane.clock.advance(60)
        assert outbox.waiting == 0
        arrived = {event.id for url, event in plane.posted[-20:] if "away" in url}
        assert len(arrived) == 20


async def test_more_events_than_a_process_holds_may_wait_for_a_sink() -> None:
    plane = Plane(settings=EventingSettings(held=4))
    away = {"http://away/", "http://later/"}
    plane.answers = lambda url, event: Unanswered("refused") if url in away else Answered(202)
    async with plane.running() as outbox:
        for number in range(20):
            await plane.settled(number, reply_to="http://away/")
        await plane.settled(20, reply_to="http://later/")
        await plane.clock.advance(100)
        away.remove("http://later/")
        await plane.clock.advance(60)
        await plane.settled(21)
        came = [event.attributes["causationid"] for url, event in plane.posted if url not in away]
        assert set(came) == {"20", "21"}
        assert outbox.waiting == 20


async def test_a_sink_that_hangs_does_not_hold_the_slots() -> None:
    plane = Plane(settings=EventingSettings(in_flight=2))

    async def hang() -> Outcome:
        await plane.clock.sleep(30)
        return Unanswered("no answer in time", timed_out=True)

    plane.answers = lambda url, event: hang() if "away" in url else Answered(202)
    async with plane.running():
        for number in range(40):
            await plane.settled(number, reply_to="http://away/")
        await plane.clock.advance(600)
        for number in range(40, 50):
            before = len(plane.posted)
            await plane.settled(number)
            await plane.clock.advance(61)
            posted = [
                event.attributes["causationid"]
                for url, event in plane.posted[before:]
                if "sink" in url
            ]
            assert posted == [str(number)]


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 503])
async def test_what_may_succeed_later_is_tried_again_under_the_same_id(status: int) -> None:
    plane = Plane()
    script: list[Outcome] = [Answered(status), Answered(status), Answered(200)]
    plane.answers = lambda url, event: script.pop(0)
    async with plane.running():
        await plane.settled(1)
        await plane.clock.advance(30)
        assert [event.id for _, event in plane.posted] == [reply_id("/shop", "1")] * 3


async def test_a_sink_that_asks_for_time_gets_it() -> None:
    plane = Plane()
    script: list[Outcome] = [Answered(503, retry_after="40"), Answered(202)]
    plane.answers = lambda url, event: script.pop(0)
    async with plane.running():
        await plane.settled(1)
        await plane.clock.advance(39)
        assert len(plane.posted) == 1
        await plane.clock.advance(2)
        assert len(plane.posted) == 2


@pytest.mark.parametrize("body", [b"", b"not an event"])
async def test_what_a_sink_answers_is_nobodys_reply(body: bytes) -> None:
    plane = Plane()
    plane.answers = lambda url, event: Answered(200, malformed="no event", body=body)
    async with plane.running() as outbox:
        await plane.settled(1)
        assert (outbox.tally.delivered, outbox.waiting) == (1, 0)
        assert await plane.letter_list() == []


@pytest.mark.parametrize("status", [301, 400, 401, 403, 413])
async def test_a_refused_event_is_a_dead_letter_that_can_be_put_back(status: int) -> None:
    plane = Plane()
    plane.answers = lambda url, event: Answered(status, body=b"no such thing")
    async with plane.running() as outbox:
        await plane.settled(1, reply_to="http://user:secret@sink/")
        [letter] = await plane.letter_list()
        assert (letter.reason, letter.code, letter.said) == ("rejected", status, b"no such thing")
        assert letter.destination == "http://***@sink/"
        assert letter.event == plane.posted[0][1]
        assert outbox.waiting == 0
        plane.answers = lambda url, event: Answered(202)
        await redrive(plane.log.dead_letters, OUTBOX, letter.sequence)
        await settle()
        assert plane.posted[-1] == ("http://user:secret@sink/", letter.event)
        assert await plane.letter_list() == []


async def test_a_dead_letter_that_is_put_back_too_early_is_one_again() -> None:
    plane = Plane()
    plane.answers = lambda url, event: Answered(500)
    async with plane.running():
        made = await plane.settled(1, keep_s=100.0)
        await plane.clock.advance(89)
        assert await plane.letter_list() == []
        await plane.clock.advance(30)
        [letter] = await plane.letter_list()
        assert (letter.reason, letter.code) == ("retries-exhausted", 500)
        assert letter.at - (made.settled_at or letter.at) < timedelta(seconds=119)
        await redrive(plane.log.dead_letters, OUTBOX, letter.sequence)
        before = len(plane.posted)
        await plane.clock.advance(300)
        [second] = await plane.letter_list()
        assert second.sequence > letter.sequence
        assert len(plane.posted) - before == 4


async def test_all_that_wait_for_a_sink_are_given_up_in_time() -> None:
    plane = Plane()
    plane.answers = lambda url, event: Unanswered("refused")
    async with plane.running():
        for number in range(30):
            await plane.settled(number, keep_s=200.0)
        await plane.clock.advance(175)
        assert await plane.letter_list() == []
        await plane.clock.advance(30)
        letters = await plane.letter_list()
        assert {each.event.attributes["causationid"] for each in letters} == set(
            map(str, range(30))
        )


async def test_a_clock_that_jumps_ends_nothing_at_its_first_failure() -> None:
    plane = Plane()
    script: list[Outcome] = [Answered(503), Answered(503), Answered(503), Answered(202)]
    plane.answers = lambda url, event: script.pop(0)
    async with plane.running() as outbox:
        long_ago = plane.clock.now() - timedelta(days=300)
        made = await plane.settled(1, state="streaming")
        await plane.store.write(replace(made, state="dead", settled_at=long_ago), 1)
        await plane.clock.advance(10)
        assert (outbox.tally.delivered, await plane.letter_list()) == (1, [])


async def test_a_broker_that_is_gone_and_an_event_that_does_not_fit_are_dead_letters() -> None:
    plane = Plane()
    async with plane.running():
        await plane.settled(1, reply_to="default/gone")
        long = {**(record().event or {}), "id": "2", "correlationid": "x" * 70_000}
        await plane.settled(2, event=long, reply_to="default/b")
        gone, large = await plane.letter_list()
        assert (gone.reason, gone.said) == ("rejected", b"there is no Broker default/gone any more")
        assert (large.reason, large.code) == ("rejected", 413)
        assert await plane.in_broker() == []


async def test_without_a_log_a_dead_letter_is_told(caplog: pytest.LogCaptureFixture) -> None:
    plane = Plane()
    plane.letters = None
    plane.answers = lambda url, event: Answered(400, body=b"why")
    async with plane.running() as outbox:
        await plane.settled(1)
        assert (outbox.tally.dead_lettered, outbox.waiting) == (1, 0)
        assert "rejected: why" in caplog.text


async def test_a_damaged_record_is_a_dead_letter_and_stops_nobody() -> None:
    plane = Plane()
    async with plane.running():
        await plane.settled(1, reply=b"not an event")
        await plane.settled(2)
        assert [event.attributes["causationid"] for _, event in plane.posted] == ["2"]
        [letter] = await plane.letter_list()
        assert letter.reason == "internal"


async def test_what_was_under_way_when_the_process_ended_is_published_by_the_next() -> None:
    plane = Plane(usage="http://usage/")
    hung: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    plane.answers = lambda url, event: hung if "sink" in url else Answered(202)
    async with plane.running():
        await plane.settled(1)
        assert len(plane.posted) == 2
    plane.answers = lambda url, event: Answered(202)
    async with plane.running() as outbox:
        await plane.clock.advance(11)
        assert outbox.waiting == 0
    ids = {url: {event.id for u, event in plane.posted if u == url} for url, _ in plane.posted}
    assert {url: len(each) for url, each in ids.items()} == {"http://usage/": 1, "http://sink/": 1}


async def test_two_gateways_publish_each_job_once() -> None:
    plane = Plane()
    async with plane.running(), plane.running():
        for number in range(30):
            await plane.settled(number)
        await plane.clock.advance(30)
        ids = [event.id for _, event in plane.posted]
        assert (len(ids), len(set(ids))) == (30, 30)


async def test_stopping_gives_back_what_waits_for_its_sink() -> None:
    plane = Plane()
    plane.answers = lambda url, event: Unanswered("refused")
    async with plane.running() as outbox:
        await plane.settled(1)
        await outbox.stop(5)
    plane.answers = lambda url, event: Answered(202)
    async with plane.running() as outbox:
        await settle()
        assert [event.attributes["causationid"] for _, event in plane.posted] == ["1", "1"]
        assert outbox.waiting == 0


async def test_a_running_job_is_not_published() -> None:
    plane = Plane(usage="http://usage/")
    async with plane.running():
        await plane.settled(1, state="streaming")
        assert plane.posted == []
        await plane.settled(1, state="dead")
        assert len(plane.posted) == 2


async def test_a_dead_letter_lies_in_the_log_of_nats_and_is_put_back_by_another_process(
    tmp_path: Path,
) -> None:
    plane = Plane()
    plane.answers = lambda url, event: Answered(400, body=b"why")
    async with NatsServer(tmp_path) as server:
        for process in (1, 2):
            log = await JetStreamLog.connect(server.url, plane.settings, SystemClock())
            plane.letters = log
            async with plane.running() as outbox:
                if process == 1:
                    await plane.settled(1)
                    await _until(lambda: outbox.tally.dead_lettered == 1 and not outbox.waiting)
                else:
                    plane.answers = lambda url, event: Answered(202)
                    [letter] = [each async for each in log.dead_letters.letters(OUTBOX)]
                    assert (letter.reason, letter.said) == ("rejected", b"why")
                    await redrive(log.dead_letters, OUTBOX, letter.sequence)
                    await _until(lambda: outbox.tally.delivered == 1)
                    assert [url for url, _ in plane.posted] == ["http://sink/"] * 2
                    assert plane.posted[0][1] == plane.posted[1][1]
            await log.close()


async def _until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not there():
            await asyncio.sleep(0.02)


async def test_a_real_sink_gets_the_event_in_binary_mode() -> None:
    plane = Plane()
    async with Subscriber(answer(status=503), answer(status=202)) as sink:
        async with Subscribers(1000) as subscribers:
            plane.post = subscribers.post  # type: ignore[method-assign]
            async with plane.running() as outbox:
                await plane.settled(1, reply_to=sink.url)
                await _until(lambda: len(sink.calls) == 1 and bool(plane.clock.sleeping))
                await plane.clock.advance(1)
                await _until(lambda: outbox.tally.delivered == 1)
        assert len(sink.calls) == 2
        event = sink.calls[1].event
        assert event.id == reply_id("/shop", "1")
        assert json.loads(event.data or b"")["reason"] == "failed"
        assert sink.calls[1].header("relume-sink") is None
