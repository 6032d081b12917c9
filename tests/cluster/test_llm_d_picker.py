"""The header protocol of an endpoint picker, from the router's side to the predictor and back.

`ext_proc/trial.py` plays the picker and Envoy in a process of its own, which finds Envoy's API in
the folder that `make venv` fills from `ext_proc/envoy.txt`.
"""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from relume.base.vocabulary import LLM_D_HEADERS
from relume.cloudevents.event import CloudEvent
from relume.cluster.llm_d.probe import REQUESTS, ROUTER_HEADERS
from relume.eventing.delivery.llm_d import FreeRetry, decide_routed, refused, router_headers
from relume.eventing.delivery.route import DeliveryPolicy
from tests.plane.llm_d_router import read
from tests.plane.test_llm_d import CHAT, ONE, staged
from tests.plane.test_llm_d import answer as answering

ROOT = Path(__file__).parents[2]
TRIAL = ROOT / "tests" / "cluster" / "ext_proc" / "trial.py"
ENVOY = ROOT / ".venv" / "envoy"
DESTINATION = "x-gateway-destination-endpoint"
EVENT = CloudEvent.create(
    {"id": "1", "source": "/s", "type": "t", **dict.fromkeys(LLM_D_HEADERS, "7")}
)
Json = dict[str, Any]


async def trial(
    endpoints: list[str],
    *requests: Json,
    saturated: bool = False,
    sheddable: tuple[str, ...] = (),
) -> list[Json]:
    """What the picker makes of the requests."""
    if not ENVOY.is_dir():
        pytest.fail(f"{ENVOY} is missing: run make venv")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(TRIAL)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ENVOY)},
    )
    told = {"endpoints": endpoints, "saturated": saturated, "sheddable": list(sheddable)}
    text = json.dumps({**told, "requests": [{"body": "{}", **each} for each in requests]})
    async with asyncio.timeout(60):
        out, errors = await process.communicate(text.encode())
    assert process.returncode == 0, errors.decode()
    found: list[Json] = json.loads(out)
    return found


async def test_a_request_through_the_picker_wakes_a_service_at_zero(tmp_path: Path) -> None:
    service = REQUESTS["router headers"]
    assert service.body is not None and service.headers is not None
    body = json.dumps(service.body("one"))
    async with (
        staged(tmp_path, answering, ONE) as stage,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        listed = list(read(stage.file).values())
        (told,) = await trial(listed, {"headers": dict(service.headers), "body": body})
        assert told["body"] == body
        assert told["headers"][DESTINATION] == told["metadata"] == listed[0]
        url = f"http://{told['headers'].pop(DESTINATION)}{CHAT}"
        asked = asyncio.create_task(http.post(url, content=told["body"], headers=told["headers"]))
        predictor = await stage.ready(1)
        assert (await asked).status_code == 200
        (arrived,) = predictor.seen
        # The router keeps its own headers, and passes on the preference, which is not only its own.
        assert not [name for name in arrived.headers if name.lower().startswith("x-llm-d-")]
        assert arrived.headers["prefer"] == "if-available"


async def test_what_the_router_is_told_and_what_its_drops_mean() -> None:
    endpoints = ["127.0.0.1:8001", "127.0.0.1:8002"]
    background = {"x-llm-d-inference-objective": "background"}
    of_probe, of_event, first, second, subset, nothing, shed = await trial(
        endpoints,
        {"headers": ROUTER_HEADERS},
        {"headers": dict(router_headers(EVENT))},
        {"headers": {}},
        {"headers": {}},
        {"headers": {}, "subset": endpoints[1:]},
        {"headers": {}, "subset": []},
        {"headers": background},
        saturated=True,
        sheddable=("background",),
    )
    # Every name that we send is one that the router takes, and takes out.
    assert of_probe["headers"].keys() - {DESTINATION} == {"prefer"}
    assert of_event["headers"].keys() == {DESTINATION}
    assert len(router_headers(EVENT)) == len(LLM_D_HEADERS) == 5
    for told in (first, second, subset):
        assert told["metadata"] == told["headers"][DESTINATION]
    assert {first["metadata"], second["metadata"]} == {
        ",".join(endpoints),
        ",".join(reversed(endpoints)),
    }
    assert subset["metadata"] == endpoints[1]

    policy, now = DeliveryPolicy(retry=0), datetime(2026, 1, 1, tzinfo=UTC)
    drops = {"rejected-no-endpoints": nothing, "rejected-saturated": shed}
    for reason, told in drops.items():
        outcome = refused(told["status"], b"", told["answer"].items())
        assert outcome.dropped == reason
        assert isinstance(decide_routed(outcome, 1, 0, policy, now), FreeRetry)
    assert (nothing["status"], shed["status"]) == (503, 429)
