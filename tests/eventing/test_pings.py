"""PingSources (checklist B15): knative/eventing `pkg/adapter/mtping`, on a clock that is moved."""

from datetime import UTC, datetime
from typing import Any

import pytest

from relume.base.testing import VirtualClock
from relume.base.vocabulary import KNATIVE_EVENTING_V1, PING
from relume.config import Destination, PingSource, Plan, Ref
from relume.eventing.settings import EventingSettings
from relume.eventing.testing import MemoryLog

from .stage import BrokerStage, Subscriber, answer, trigger

TO_BROKER = Destination(ref=Ref("Broker", "default", "b", KNATIVE_EVENTING_V1))
START = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)


def source(sink: Destination = TO_BROKER, **spec: Any) -> Plan:
    return Plan(ping_sources=(PingSource("default", "p", sink, **spec),))


def stage(plan: Plan, url: str, **more: Any) -> BrokerStage:
    return BrokerStage([trigger("t", url)], more=plan, clock=VirtualClock(START), **more)


async def test_b15_at_each_time_of_the_schedule_one_event_comes() -> None:
    plan = source(data=b'{"a": 1}', content_type="application/json", extensions={"kind": "nightly"})
    async with Subscriber() as reader, stage(plan, reader.url) as plane:
        await plane.virtual.advance(29)
        assert not reader.calls
        await plane.virtual.advance(1)
        await plane.until("delivered")
        await plane.virtual.advance(60)
        await plane.until("delivered")
    came = reader.calls[0].event
    assert (came.type, came.data) == (PING, b'{"a": 1}')
    assert came.source == "/apis/v1/namespaces/default/pingsources/p"
    assert (came.attributes["kind"], came.attributes["datacontenttype"]) == (
        "nightly",
        "application/json",
    )
    assert reader.ids == ["2026-01-01T12:01:00.000Z", "2026-01-01T12:02:00.000Z"]
    assert came.attributes["time"] == "2026-01-01T12:01:00.000Z"


async def test_b15_six_fields_have_seconds_in_front() -> None:
    async with (
        Subscriber() as reader,
        stage(source(schedule="*/20 * * * * *"), reader.url) as plane,
    ):
        await plane.virtual.advance(50)
        await plane.until("delivered", 3)
    assert [id_[17:19] for id_ in reader.ids] == ["40", "00", "20"]


async def test_b15_times_that_pass_while_no_process_runs_are_not_made_up_for() -> None:
    async with Subscriber() as reader:
        async with stage(source(), reader.url) as plane:
            await plane.virtual.advance(30)
            await plane.until("delivered")
            log, clock = plane.log, plane.virtual
        await clock.advance(600)
        async with BrokerStage(
            [trigger("t", reader.url)], more=source(), clock=clock, log=log
        ) as again:
            await again.virtual.advance(59)
            await again.virtual.advance(1)
            await again.until("delivered")
    assert reader.ids == ["2026-01-01T12:01:00.000Z", "2026-01-01T12:12:00.000Z"]


async def test_b15_of_the_times_that_pass_while_the_machine_sleeps_one_comes_late() -> None:
    """robfig/cron v3: what is due runs once, and the next time is counted from now."""
    async with Subscriber() as reader, stage(source(), reader.url) as plane:
        await plane.virtual.advance(1)
        plane.virtual._start = plane.virtual._start.replace(hour=15)  # three hours at once
        await plane.virtual.advance(29)
        await plane.until("delivered")
        await plane.virtual.advance(60)
        await plane.until("delivered")
    assert reader.ids == ["2026-01-01T12:01:00.000Z", "2026-01-01T15:02:00.000Z"]


async def test_b15_one_time_has_one_event_however_often_a_process_begins_anew() -> None:
    async with Subscriber() as reader:
        async with stage(source(), reader.url) as plane:
            await plane.virtual.advance(30)
            await plane.until("delivered")
            log = plane.log
        # The wall clock is a little behind in the next process.
        async with stage(source(), reader.url, log=log) as again:
            await again.virtual.advance(30)
            await again.until("duplicate")
    assert reader.ids == ["2026-01-01T12:01:00.000Z"]


async def test_b15_for_a_service_or_a_uri_the_event_waits_in_a_log_of_its_own() -> None:
    script = [answer(status=503) for _ in range(5)]
    async with Subscriber(*script, answer()) as sink:
        plan = source(Destination(uri=sink.url))
        async with stage(plan, "http://127.0.0.1:1/") as plane:
            await plane.virtual.advance(30)
            for _ in script:  # five retries, from 50 ms
                await plane.until("retrying")
                await plane.virtual.advance(2)
            [record] = await plane.until("delivered")
    assert (record.trigger, record.broker) == ("p-kn-pingsource", "default/p-kn-pingsource")


async def test_b15_an_event_for_which_there_is_no_room_is_lost_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings, clock = EventingSettings(max_log_events=0), VirtualClock(START)
    log = MemoryLog(settings, clock)
    async with BrokerStage([], more=source(), clock=clock, settings=settings, log=log) as plane:
        await plane.virtual.advance(31)
        assert plane.plane.status()["brokers"][0]["accepted"] == 0  # type: ignore[index]
    assert "PingSource default/p: the event of 2026-01-01T12:01:00.000Z is lost" in caplog.text


async def test_b15_a_plane_that_stops_sends_no_more() -> None:
    async with Subscriber() as reader, stage(source(), reader.url) as plane:
        pass
    await plane.virtual.advance(600)
    assert not reader.calls
