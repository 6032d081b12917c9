"""The helper modules of this folder, importable; a server that plays vLLM, and its producer."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from collections.abc import AsyncIterator, Iterator

import pytest
from event_client import Producer
from stub_vllm import Stub

from relume.runtimes.drain import IN_FLIGHT
from relume.runtimes.phases import PROCESS


@pytest.fixture
def process() -> Iterator[None]:
    """This process as a predictor that is ready; afterwards nothing may be in flight."""
    PROCESS.renew()
    PROCESS.state = "ready"
    yield
    in_flight, IN_FLIGHT.requests = IN_FLIGHT.requests, 0
    PROCESS.renew()
    assert in_flight == 0


@pytest.fixture
async def stub(process: None) -> Stub:
    """A server that generates, behind our middleware."""
    return Stub()


@pytest.fixture
async def producer(stub: Stub) -> AsyncIterator[Producer]:
    """Who posts events to the stub."""
    producer = Producer(stub)
    async with producer.http:
        yield producer


@pytest.fixture(scope="module")
def process_for_fuzz() -> Iterator[None]:
    """As `process`, once for all examples of a property."""
    PROCESS.renew()
    PROCESS.state = "ready"
    yield
    PROCESS.renew()
    assert IN_FLIGHT.requests == 0
