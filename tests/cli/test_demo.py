"""What `relume demo` builds on; the demo itself runs with the real model in tests/e2e."""

import json

from relume.cli.machine.demo import EVENT_TYPE, _event, sample
from relume.cli.machine.demo_plane import MODEL
from relume.config import Exact, load
from relume.runtimes.models.sources import known_model


def test_the_sample_of_the_demo_takes_its_event_and_runs_its_model() -> None:
    plan = load([sample()])
    (service,) = plan.services
    (trigger,) = plan.triggers
    known = known_model(MODEL)
    assert known is not None
    assert service.storage_uri == known.uri
    assert (service.min_replicas, service.autoscaling.window_s) == (0, 10)
    assert trigger.filters == (Exact({"type": EVENT_TYPE}),)
    assert trigger.broker == service.name


def test_the_event_of_the_demo_is_a_chat() -> None:
    event = _event()
    assert event.datacontenttype == "application/json"
    assert json.loads(event.data or b"")["messages"][0]["role"] == "user"
