"""The HTTP protocol binding's feature file, every scenario, read by our codec."""

import json
from collections.abc import Callable, Mapping

import pytest

from relume.cloudevents.event import CloudEvent, InvalidEvent
from relume.cloudevents.http import decode
from tests.vectors import published, vector

from .conftest import Count
from .gherkin import Scenario, Step, scenarios

pytestmark = published


class World:
    """What the steps of one scenario have said so far."""

    def __init__(self) -> None:
        self.headers: list[tuple[str, str]] = []
        self.body = b""
        self.event: CloudEvent | None = None

    def binding_is_supported(self, step: Step) -> None:
        pass

    def http_request(self, step: Step) -> None:
        head, _, body = step.text.partition("\n\n")
        lines = head.splitlines()[1:]
        self.headers = [
            (name, value) for name, _, value in (line.partition(": ") for line in lines)
        ]
        self.body = body.encode()

    def parsed(self, step: Step) -> None:
        self.event = decode(self.headers, self.body).event

    def attributes_are(self, step: Step) -> None:
        assert self.event is not None
        assert self.event.attributes == dict(step.table[1:])

    def data_is_json(self, step: Step) -> None:
        assert self.event is not None
        assert json.loads(self.event.data or b"") == json.loads(step.text)


STEPS: Mapping[str, Callable[[World, Step], None]] = {
    "HTTP Protocol Binding is supported": World.binding_is_supported,
    "an HTTP request": World.http_request,
    "parsed as HTTP request": World.parsed,
    "the attributes are:": World.attributes_are,
    "the data is equal to the following JSON:": World.data_is_json,
}


def failure(scenario: Scenario) -> str | None:
    world = World()
    try:
        for step in scenario.steps:
            STEPS[step.sentence](world, step)
    except (AssertionError, InvalidEvent, KeyError, ValueError) as error:
        return f"{scenario.name}: {error!r}"
    return None


def test_every_scenario_of_the_http_binding_holds(conformance_count: Count) -> None:
    feature = vector("cloudevents/http-protocol-binding.feature").read_text()
    found = list(scenarios(feature))
    failures = [why for scenario in found if (why := failure(scenario))]
    conformance_count("HTTP binding scenarios", len(found) - len(failures), len(found))
    assert not failures
    assert len(found) == 4


@pytest.mark.parametrize("broken", ["the attributes are:", "the data is equal"])
def test_a_scenario_that_does_not_hold_is_seen(broken: str) -> None:
    feature = vector("cloudevents/http-protocol-binding.feature").read_text()
    changed = feature.replace("| /mycontext/subcontext ", "| /other ")
    changed = changed.replace('{"message": "Hello World!"}', '{"message": "Bye"}')
    step = next(s for s in next(scenarios(changed)).steps if s.sentence.startswith(broken))
    original = next(scenarios(feature))
    steps = tuple(step if s.sentence == step.sentence else s for s in original.steps)
    assert failure(original) is None
    assert failure(Scenario("broken", steps)) is not None
