"""A pool of llm-d as the subscriber of a Trigger: the router's headers, and what its drops mean."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from aiohttp import web

from relume.base.vocabulary import LLM_D_HEADERS
from relume.cloudevents.event import CloudEvent
from relume.config import Delivery
from relume.eventing.delivery.decision import DeadLetter, Retry
from relume.eventing.delivery.llm_d import (
    DROPPED_HEADER,
    DROPS,
    MOST_FREE,
    FreeRetry,
    decide_routed,
    refused,
    router_headers,
)
from relume.eventing.delivery.outcome import Answered
from relume.eventing.delivery.profiles import KAFKA, MT, NATS, RABBITMQ
from relume.eventing.delivery.route import DeliveryPolicy
from tests.eventing.stage import BrokerStage, Call, Subscriber, answer, event, trigger

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = DeliveryPolicy(retry=2, backoff_delay_s=0.5)
FREE, SPENT, FINAL = "no attempt spent", "attempt spent", "final"

# Reason, the router's status, what follows, and after how many seconds (landscape: llm-d-router
# pkg/common/error/error.go, pkg/epp/requestcontrol/admission.go).
TABLE = [
    ("rejected-saturated", 429, FREE, 2.0),
    ("rejected-no-endpoints", 503, FREE, 5.0),
    ("rejected-ttl-expired", 429, FREE, 1.0),
    ("rejected-context-cancelled", 503, FREE, 1.0),
    ("rejected-shutting-down", 503, FREE, 1.0),
    ("evicted", 429, SPENT, 0.5),
    ("evicted-queue-pressure", 429, SPENT, 0.5),
    ("evicted-priority", 429, SPENT, 0.5),
    # Words of a later router, and none, are judged by the status.
    ("rejected-by-moonlight", 503, SPENT, 0.5),
    ("rejected-by-moonlight", 400, FINAL, None),
    (None, 503, SPENT, 0.5),
    (None, 400, FINAL, None),
    (None, 403, FINAL, None),
    (None, 412, FINAL, None),
]


@pytest.mark.parametrize(("reason", "status", "follows", "after_s"), TABLE)
def test_what_follows_from_a_drop(
    reason: str | None, status: int, follows: str, after_s: float | None
) -> None:
    action = decide_routed(Answered(status, dropped=reason), 1, 0, POLICY, NOW)
    match action:
        case FreeRetry():
            found: tuple[str, float | None] = FREE, action.after_s
        case Retry():
            found = SPENT, action.after_s
        case _:
            assert action == DeadLetter("rejected", status, b"")
            found = FINAL, None
    assert found == (follows, after_s)


def test_the_table_has_every_reason() -> None:
    assert {reason for reason, *_ in TABLE if reason in DROPS} == DROPS.keys()


def test_free_attempts_leave_the_retries_where_they_are() -> None:
    asleep = Answered(503, dropped="rejected-no-endpoints")
    for free in (0, 1, 500, MOST_FREE - 1):
        assert isinstance(decide_routed(asleep, free + 1, free, POLICY, NOW), FreeRetry)
    # Then each costs a retry, and there are two.
    after = [decide_routed(asleep, MOST_FREE + n, MOST_FREE, POLICY, NOW) for n in (1, 2, 3)]
    assert after == [
        Retry(0.5, "status 503"),
        Retry(1.0, "status 503"),
        DeadLetter("retries-exhausted", 503, b""),
    ]


def test_a_retry_after_lengthens_the_wait_where_the_delivery_heeds_it() -> None:
    outcome = Answered(503, retry_after="30", dropped="rejected-no-endpoints")
    for most, wait in ((None, 5.0), (10.0, 10.0), (60.0, 30.0)):
        policy = DeliveryPolicy(retry_after_max_s=most)
        assert decide_routed(outcome, 1, 0, policy, NOW) == FreeRetry(
            wait, "the router: rejected-no-endpoints"
        )


@pytest.mark.parametrize("profile", [MT, KAFKA, RABBITMQ, NATS], ids=lambda p: p.name)
def test_a_broker_of_a_cluster_knows_no_reason(profile: object) -> None:
    policy = DeliveryPolicy(retry=1, profile=profile)  # type: ignore[arg-type]
    for reason in DROPS:
        action = decide_routed(Answered(429, dropped=reason), 1, 0, policy, NOW)
        assert type(action) is Retry


@pytest.mark.parametrize(
    ("headers", "outcome"),
    [
        ([], Answered(503, body=b"x")),
        ([("Retry-After", "3")], Answered(503, body=b"x", retry_after="3")),
        (
            [("X-LLM-D-Request-Dropped-Reason", "evicted"), ("retry-after", "")],
            Answered(503, body=b"x", dropped="evicted"),
        ),
        (
            [(DROPPED_HEADER, "evicted"), (DROPPED_HEADER, "rejected-saturated")],
            Answered(503, body=b"x", dropped="evicted"),
        ),
    ],
)
def test_what_the_headers_of_a_refusal_say(
    headers: list[tuple[str, str]], outcome: Answered
) -> None:
    assert refused(503, b"x", headers) == outcome


def test_extensions_of_an_event_are_headers_of_the_router() -> None:
    told = {
        "llmdobjective": "summarize",
        "llmdfairnessid": "tenant a",
        "llmdmodel": "smollm2-lora",
        "llmdttftms": 200,
        "llmdtpotms": "50",
    }
    assert told.keys() == LLM_D_HEADERS.keys()
    base = {"id": "1", "source": "/s", "type": "t"}
    assert router_headers(CloudEvent.create({**base, **told})) == [
        ("x-llm-d-inference-objective", "summarize"),
        ("x-llm-d-inference-fairness-id", "tenant a"),
        ("x-llm-d-model-name-rewrite", "smollm2-lora"),
        ("x-llm-d-slo-ttft-ms", "200"),
        ("x-llm-d-slo-tpot-ms", "50"),
    ]
    assert router_headers(CloudEvent.create(base)) == []
    assert router_headers(CloudEvent.create({**base, "llmdfairnessid": "Zoë"})) == []


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


def router(*drops: str) -> Handler:
    """A router that drops the first requests, one for each reason, and then answers."""
    left = list(drops)

    async def handle(call: Call) -> web.StreamResponse:
        if not left:
            return answer()
        reason = left.pop(0)
        status = 503 if reason == "rejected-no-endpoints" else 429
        return web.Response(status=status, headers={DROPPED_HEADER: reason})

    return handle


async def test_an_event_outlasts_a_pool_at_zero_without_a_retry_of_its_own() -> None:
    asleep = router(*["rejected-no-endpoints"] * 20)
    async with (
        Subscriber(asleep) as pool,
        BrokerStage([trigger("t", pool.url, delivery=Delivery(retry=0))]) as stage,
    ):
        asked = event("1").with_attributes(llmdobjective="summarize")
        await stage.post(asked)
        for _ in range(20):
            await stage.until("retrying")
            await stage.virtual.advance(5)
        await stage.until("delivered")
        assert pool.ids == ["1"] * 21
        assert pool.calls[-1].header("x-llm-d-inference-objective") == "summarize"


async def test_an_evicted_event_spends_its_retries() -> None:
    evicting = router(*["evicted"] * 3)
    async with (
        Subscriber(evicting) as pool,
        BrokerStage([trigger("t", pool.url, delivery=Delivery(retry=1))]) as stage,
    ):
        await stage.post(event("1"))
        await stage.until("retrying")
        await stage.virtual.advance(60)
        [record] = await stage.until("dead-lettered")
        assert record.detail is not None and "retries-exhausted" in record.detail
        assert pool.ids == ["1"] * 2
