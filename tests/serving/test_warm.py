"""A service that is started before anybody asks: on demand, and by a schedule."""

from datetime import UTC, datetime

import pytest

from relume.base.testing import settle
from relume.config.schedules import Schedule
from relume.serving.errors import PlaneStopping, ServiceUnknown
from relume.serving.warming import Alarm

from .conftest import Staging, service
from .virtual import eventually


async def test_it_starts_once_and_goes_back_to_zero_after_its_window(stage: Staging) -> None:
    async with stage() as s:
        assert s.plane.warm("default", "summarize")["state"] == "starting"
        s.plane.warm("default", "summarize")
        await s.ready()
        assert s.plane.coldstarts()[-1]["outcome"] == "ready"
        await s.clock.advance(50)
        assert s.status()["state"] == "ready"
        await s.clock.advance(20)
        await eventually(lambda: s.status()["state"] == "zero")
        assert len(s.launcher.started) == 1


async def test_what_is_ready_stays_for_another_window(stage: Staging) -> None:
    async with stage() as s:
        s.plane.warm("default", "summarize")
        await s.ready()
        await s.clock.advance(50)
        s.plane.warm("default", "summarize")
        await s.clock.advance(50)
        assert s.status()["state"] == "ready"
        await s.clock.advance(20)
        await eventually(lambda: s.status()["state"] == "zero")


async def test_a_request_finds_it_ready_and_is_told_of_no_cold_start(stage: Staging) -> None:
    async with stage() as s:
        s.plane.warm("default", "summarize")
        await s.ready()
        request = await s.ask().end()
        assert (request.status, "relume-cold-start-ms" in request.headers) == (200, False)


async def test_a_client_that_leaves_takes_nothing_away(stage: Staging) -> None:
    async with stage() as s:
        request = s.ask()
        await s.launched()
        s.plane.warm("default", "summarize")
        request.hang_up()
        await request.end()
        await s.clock.advance(10)
        assert s.status()["state"] == "starting"
        await s.ready()


async def test_a_start_that_fails_is_told_and_can_be_asked_for_again(stage: Staging) -> None:
    async with stage() as s:
        s.plane.warm("default", "summarize")
        (await s.launched()).exit(3)
        await eventually(lambda: s.status()["state"] == "failed")
        assert s.status()["desired"] == 0
        s.plane.warm("default", "summarize")
        assert s.status()["desired"] == 1
        await s.clock.advance(1)
        await s.ready(2)


async def test_a_load_that_nobody_asked_for_has_the_progress_deadline(stage: Staging) -> None:
    async with stage(service(progress_deadline_s=60)) as s:
        s.plane.warm("default", "summarize")
        predictor = await s.launched()
        await s.clock.advance(80)
        assert s.status()["state"] == "starting"
        await s.clock.advance(20)
        await eventually(lambda: predictor.terminated)


async def test_a_plane_that_stops_starts_nothing(stage: Staging) -> None:
    async with stage() as s:
        with pytest.raises(ServiceUnknown, match="default/other"):
            s.plane.warm("default", "other")
    with pytest.raises(PlaneStopping):
        s.plane.warm("default", "summarize")


async def test_a_schedule_starts_it_at_its_times(stage: Staging) -> None:
    """The clock of a stage begins at midnight, in UTC."""
    annotations = {"relume.dev/warm-at": "55 7 * * *", "relume.dev/warm-timezone": "Etc/GMT-7"}
    async with stage(service(annotations=annotations)) as s:
        assert s.status()["warm_at"] == "2026-01-01T00:55:00+00:00"
        await s.clock.advance(55 * 60 - 3)
        assert s.launcher.started == []
        await s.clock.advance(5)
        await s.ready()
        await s.clock.advance(180)
        await eventually(lambda: s.status()["state"] == "zero")
        await settle()
        assert len(s.launcher.started) == 1


def test_of_the_times_that_a_machine_slept_through_one_comes() -> None:
    alarm = Alarm(Schedule("0 * * * *"), datetime(2026, 1, 1, tzinfo=UTC))
    assert not alarm.rings(datetime(2026, 1, 1, 0, 59, tzinfo=UTC))
    assert alarm.rings(datetime(2026, 1, 1, 7, 30, tzinfo=UTC))
    assert not alarm.rings(datetime(2026, 1, 1, 7, 31, tzinfo=UTC))
    assert alarm.due == datetime(2026, 1, 1, 8, tzinfo=UTC)
