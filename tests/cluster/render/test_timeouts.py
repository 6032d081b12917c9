"""All timeouts follow from the cold-start budget, and deliveries outlast it."""

from pathlib import Path
from typing import Any

import pytest

from relume.cluster.render import Options, Rendering
from relume.cluster.render.budget import backoff_s, whole_budget
from relume.cluster.render.options import BrokerClass
from tests.cluster.render.rendering import (
    GPU,
    broker,
    find,
    render_text,
    service,
    trigger,
    value_of,
)

PROGRESS = "serving.knative.dev/progress-deadline"
TEN_MINUTES = Options(cold_start_s=600)


def delivery(rendering: Rendering) -> dict[str, Any]:
    return dict(find(rendering, "Trigger")["spec"]["delivery"])


def predictor(rendering: Rendering) -> dict[str, Any]:
    return dict(find(rendering, "InferenceService")["spec"]["predictor"])


def test_the_default_budget_fits_a_cluster_as_knative_ships_it(tmp_path: Path) -> None:
    rendering = render_text(tmp_path, service())
    assert predictor(rendering)["timeout"] == 600
    assert not [name for name in rendering.files if name.startswith("cluster/")]


def test_the_timeout_is_the_budget_and_the_users_own(tmp_path: Path) -> None:
    rendering = render_text(tmp_path, service("timeout: 60"), options=TEN_MINUTES)
    assert predictor(rendering)["timeout"] == 660
    assert value_of(rendering, "InferenceService", "spec.predictor.timeout") == (
        660,
        "cold-start-budget",
    )
    assert 'max-revision-timeout-seconds: "660"' in rendering.files["cluster/config-defaults.yaml"]
    assert "Seconds: 660" in rendering.files["cluster/activator.yaml"]
    env = predictor(rendering)["model"]["env"]
    assert {"name": "RELUME_GRACE_S", "value": "660"} in env  # Knative's grace is the timeout


def test_a_service_says_its_own_budget(tmp_path: Path) -> None:
    text = service(annotations="relume.dev/cold-start-budget: 20m")
    rendering = render_text(tmp_path, text, options=TEN_MINUTES)
    assert predictor(rendering)["timeout"] == 1500
    assert find(rendering, "InferenceService")["metadata"]["annotations"][PROGRESS] == "1260s"


@pytest.mark.parametrize(
    ("given", "budget", "made"),
    [("", 300, "600s"), ("", 900, "960s"), ("400s", 300, "400s"), ("300s", 300, "360s")],
)
def test_the_progress_deadline_covers_the_budget(
    given: str, budget: int, made: str, tmp_path: Path
) -> None:
    text = service(annotations=f"{PROGRESS}: {given}" if given else "")
    rendering = render_text(tmp_path, text, options=Options(cold_start_s=budget))
    assert find(rendering, "InferenceService")["metadata"]["annotations"][PROGRESS] == made


def test_a_progress_deadline_at_the_predictor_is_raised_there(tmp_path: Path) -> None:
    """kserve buildObjectMeta: the predictor's annotations win."""
    text = service(f"annotations: {{{PROGRESS}: 400s}}")
    rendering = render_text(tmp_path, text, options=TEN_MINUTES)
    assert predictor(rendering)["annotations"] == {PROGRESS: "660s"}
    assert PROGRESS not in find(rendering, "InferenceService")["metadata"]["annotations"]


def test_the_broker_waits_longer_than_the_service(tmp_path: Path) -> None:
    rendering = render_text(tmp_path, service(), broker(), trigger(), options=TEN_MINUTES)
    assert delivery(rendering) == {
        "timeout": "PT910S",
        "retry": 5,
        "backoffPolicy": "exponential",
        "backoffDelay": "PT20S",
    }


def test_longer_times_of_the_users_stay(tmp_path: Path) -> None:
    given = "{timeout: PT1H, retry: 2, backoffPolicy: linear, backoffDelay: PT10M}"
    rendering = render_text(tmp_path, service(), broker(), trigger(f"delivery: {given}"))
    assert delivery(rendering) == {
        "timeout": "PT1H",
        "retry": 2,
        "backoffPolicy": "linear",
        "backoffDelay": "PT10M",
    }


def test_a_triggers_delivery_says_what_it_hides_of_its_brokers(tmp_path: Path) -> None:
    """The Trigger's delivery, else the Broker's; the dead letter sink falls back by itself."""
    inherited = "timeout: P20D, retry: 9, backoffPolicy: linear, backoffDelay: PT5M, format: binary"
    rendering = render_text(tmp_path, service(), broker(f"delivery: {{{inherited}}}"), trigger())
    assert delivery(rendering) == {
        "timeout": "P20D",
        "retry": 9,
        "backoffPolicy": "linear",
        "backoffDelay": "PT5M",
        "format": "binary",
    }


@pytest.mark.parametrize(
    ("kind", "own", "kept"),
    [
        ("mt", "delivery: {timeout: PT1S}", set()),
        ("kafka", "delivery: {timeout: PT1S}", set()),
        ("rabbitmq", "delivery: {timeout: PT1S}", {"deadLetterSink"}),
        ("nats", "delivery: {timeout: PT1S}", {"deadLetterSink"}),
        ("rabbitmq", "", set()),  # without one of its own it takes the Broker's as a whole
        ("nats", "", {"deadLetterSink", "retry"}),
    ],
)
@pytest.mark.parametrize("asks_a_service", [True, False])
def test_a_trigger_keeps_what_its_class_of_broker_would_not_give_it(
    kind: BrokerClass, own: str, kept: set[str], asks_a_service: bool, tmp_path: Path
) -> None:
    given = broker("delivery: {retry: 9, deadLetterSink: {uri: 'http://lost.example/'}}")
    asked = trigger(own)
    if not asks_a_service:
        asked = asked.replace(
            "{ref: {apiVersion: serving.kserve.io/v1beta1, kind: InferenceService, name: chat}}",
            "{uri: 'http://a.example/'}",
        )
    rendering = render_text(tmp_path, service(), given, asked, options=Options(broker=kind))
    if asks_a_service:  # it has a delivery then, made of the budget
        sink = kind in ("rabbitmq", "nats")
        assert ("deadLetterSink" in delivery(rendering)) == sink
    else:
        written = find(rendering, "Trigger")["spec"].get("delivery", {})
        assert written.keys() - {"timeout"} == kept


def test_a_subscriber_that_is_no_service_keeps_its_delivery(tmp_path: Path) -> None:
    text = trigger("delivery: {retry: 1}").replace(
        "{ref: {apiVersion: serving.kserve.io/v1beta1, kind: InferenceService, name: chat}}",
        "{uri: 'http://a.example/'}",
    )
    rendering = render_text(tmp_path, broker(), text, options=Options(broker="kafka"))
    assert delivery(rendering) == {"retry": 1}
    assert not [d for d in rendering.decisions if d.document == "Trigger/t"]
    assert "base/addressable.yaml" not in rendering.files


@pytest.mark.parametrize("policy", ["linear", "exponential"])
@pytest.mark.parametrize("retries", [1, 2, 5, 10])
@pytest.mark.parametrize("budget", [1, 300, 3600])
def test_the_retries_outlast_the_cold_start_by_no_more_than_needed(
    policy: Any, retries: int, budget: int
) -> None:
    delay = backoff_s(budget, retries, policy)
    steps = [2**n if policy == "exponential" else n for n in range(retries)]
    if delay is None:
        assert sum(steps) == 0
    else:
        assert sum(delay * step for step in steps) >= budget
        assert delay == 1 or sum((delay - 1) * step for step in steps) < budget


def test_no_retry_needs_no_delay() -> None:
    assert backoff_s(300, 0, "exponential") is None


@pytest.mark.parametrize(("text", "seconds"), [("0s", 0), ("90s", 90), ("1h", 3600), ("1m5s", 65)])
def test_a_budget_is_whole_seconds(text: str, seconds: int) -> None:
    assert whole_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "1.5s", "61m", "-1s", "ten"])
def test_other_budgets_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|seconds"):
        whole_budget(text)


@pytest.mark.parametrize("route", ["extended-resource", "admission"])
def test_a_service_with_a_device_starts_at_zero_and_waits_for_a_node(
    route: Any, tmp_path: Path
) -> None:
    text = service("minReplicas: 0", GPU)
    rendering = render_text(tmp_path, text, options=Options(route))
    notes = find(rendering, "InferenceService")["metadata"]["annotations"]
    assert notes["autoscaling.knative.dev/initial-scale"] == "0"
    assert "allow-zero-initial-scale" in rendering.files["cluster/config-autoscaler.yaml"]
    assert "pod-is-always-schedulable" in rendering.files["cluster/config-deployment.yaml"]


def test_one_that_stays_up_starts_at_once(tmp_path: Path) -> None:
    rendering = render_text(tmp_path, service("minReplicas: 1", GPU))
    notes = find(rendering, "InferenceService")["metadata"]["annotations"]
    assert "autoscaling.knative.dev/initial-scale" not in notes
    assert "cluster/config-autoscaler.yaml" not in rendering.files


def test_standard_mode_is_told_about_the_deadline_that_nobody_can_set(tmp_path: Path) -> None:
    rendering = render_text(tmp_path, service(), options=Options("standard", cold_start_s=600))
    assert any("reported as failed after 600 s" in note.message for note in rendering.notes)
    env = predictor(rendering)["model"]["env"]
    assert {"name": "RELUME_GRACE_S", "value": "300"} in env
    assert predictor(rendering)["terminationGracePeriodSeconds"] == 300


@pytest.mark.parametrize("longer", ["chat", "other"])
def test_the_longest_service_decides_for_the_cluster(longer: str, tmp_path: Path) -> None:
    texts = [
        service("timeout: 500" if name == longer else "").replace("name: chat", f"name: {name}")
        for name in ("chat", "other")
    ]
    rendering = render_text(tmp_path, *texts, options=TEN_MINUTES)
    assert '"1100"' in rendering.files["cluster/config-defaults.yaml"]
    assert f"default/{longer} has" in rendering.files["cluster/config-defaults.yaml"]
    assert "Seconds: 1100" in rendering.files["cluster/activator.yaml"]
