"""The samples load, alone and together, and say what one machine leaves out."""

from pathlib import Path

import pytest

from relume.config import Exact, load

SAMPLES = Path(__file__).parents[2] / "config" / "samples"


@pytest.mark.parametrize("name", ["summarize", "embed"])
def test_each_sample_is_complete_alone(name: str) -> None:
    plan = load([SAMPLES / f"{name}.yaml"])
    (service,) = plan.services
    (trigger,) = plan.triggers
    assert service.min_replicas == 0
    assert service.autoscaling.window_s == 10
    assert service.container_concurrency == 16
    assert trigger.filters == (Exact({"type": f"com.example.{name}.request"}),)
    assert trigger.subscriber.ref is not None
    assert trigger.subscriber.ref.name == service.name
    assert trigger.delivery is not None
    assert trigger.delivery.timeout_s is not None
    assert trigger.delivery.timeout_s > service.timeout_s, "a slow answer is not asked for twice"
    sink = trigger.delivery.dead_letter_sink
    assert sink is not None
    assert sink.ref is not None
    assert sink.ref.name in {broker.name for broker in plan.brokers}


def test_the_samples_load_together() -> None:
    plan = load([SAMPLES])
    assert {service.storage_uri for service in plan.services} == {
        "hf://HuggingFaceTB/SmolLM2-135M-Instruct",
        "hf://sentence-transformers/all-MiniLM-L6-v2",
    }
    assert (len(plan.brokers), len(plan.triggers)) == (4, 2)
    assert {t.subscriber.uri for t in plan.triggers} == {"/v1/chat/completions", "/v1/embeddings"}


def test_resources_are_listed_as_not_honoured() -> None:
    fields = [note.field for note in load([SAMPLES / "summarize.yaml"]).not_honoured]
    assert fields == [
        "spec.predictor.model.resources.requests",
        "spec.predictor.model.resources.limits",
    ]


def test_the_models_of_the_samples_are_those_that_the_store_can_make() -> None:
    from relume.runtimes.models.sources import known_model

    for service in load([SAMPLES]).services:
        assert known_model(service.storage_uri) is not None
