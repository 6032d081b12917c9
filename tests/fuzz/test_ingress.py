"""Whatever is posted to a Broker: no 5xx, nothing logged, nothing kept that was not accepted."""

import asyncio
import gc
import logging
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings

from relume.cloudevents.event import CloudEvent
from relume.cloudevents.http import Mode, encode

from .door import Complaint, Door
from .messages import Request, volleys

TRIED: list[Request] = []


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    door = Door()
    logging.getLogger().addHandler(door)
    yield door
    logging.getLogger().removeHandler(door)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    with asyncio.Runner() as runner:
        yield runner.get_loop()


@given(volleys())
@settings(max_examples=300)
def test_no_request_makes_a_5xx_or_a_traceback(
    door: Door, loop: asyncio.AbstractEventLoop, volley: tuple[Request, ...]
) -> None:
    TRIED.extend(volley)
    for request in volley:
        loop.run_until_complete(door.try_out(request))


def test_the_requests_reach_every_answer(door: Door) -> None:
    missing = {"202", "400 invalid-event", "413 event-too-large", "gone", "200"} - set(door.seen)
    assert not missing, door.seen


def test_what_was_answered_leaves_nothing_in_memory(
    door: Door, loop: asyncio.AbstractEventLoop
) -> None:
    def replay() -> tuple[int, int]:
        for request in TRIED[-500:]:
            loop.run_until_complete(door.try_out(request))
        gc.collect()
        return tracemalloc.get_traced_memory()[0], len(gc.get_objects())

    tracemalloc.start()
    try:
        replay()  # fills the observer's ring and every cache
        first = replay()
        for _ in range(3):
            last = replay()
    finally:
        tracemalloc.stop()
    assert last[0] - first[0] < 64 * 1024, "bytes"
    assert last[1] - first[1] < 500, "objects"


async def test_a_door_that_breaks_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door()
    monkeypatch.setattr("relume.eventing.ingress.decode", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await door.try_out(Request(()))
    door.app.close()
    monkeypatch.undo()
    headers, _ = encode(CloudEvent.create({"id": "1", "source": "/", "type": "t"}), Mode.BINARY)
    with pytest.raises(Complaint, match="503"):
        await door.try_out(Request(tuple((n.encode(), v.encode()) for n, v in headers)))


def test_the_coverage_guided_run_starts_and_ends() -> None:
    command = [sys.executable, "-m", "tests.fuzz.coverage_guided", "-runs=300"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "number_of_executed_units" in done.stderr
