"""Flows from a YAML file, on a whole plane with its ports and its nats-server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from relume.cloudevents.event import CloudEvent
from relume.cloudevents.http import Mode, encode
from relume.config import Destination, Plan, Ref, SinkBinding, load
from relume.plane.addresses import StateFolder
from relume.plane.local import LocalPlane, PlaneSettings
from relume.plane.sink_bindings import sink_environment
from relume.plane.subscribers import Destinations
from relume.runtimes.models.store import ModelStore
from tests.eventing.stage import Call, Subscriber, answer, event

PIPELINE = """\
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {{name: inbox}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: in}}
spec:
  broker: inbox
  filters: [{{exact: {{type: ask}}}}]
  subscriber: {{ref: {{apiVersion: flows.knative.dev/v1, kind: Sequence, name: work}}}}
---
apiVersion: flows.knative.dev/v1
kind: Sequence
metadata: {{name: work}}
spec:
  steps: [{{uri: {url}one}}, {{uri: {url}two}}]
  reply: {{ref: {{apiVersion: eventing.knative.dev/v1, kind: Broker, name: inbox}}}}
---
apiVersion: eventing.knative.dev/v1alpha1
kind: RequestReply
metadata: {{name: desk}}
spec: {{brokerRef: {{apiVersion: eventing.knative.dev/v1, kind: Broker, name: inbox}}}}
"""
SERVICE = Ref("Service", "default", "s", "serving.knative.dev/v1")


async def works(call: Call) -> web.StreamResponse:
    """A function that keeps the correlation and gives the answer when it is the second one."""
    came = call.event
    attributes: dict[str, object] = {
        "id": f"{came.id}+",
        "source": "/works",
        "type": "half" if came.type == "ask" else "done",
        "correlationid": came.attributes["correlationid"],
    }
    if came.type == "half":
        attributes["replyid"] = came.attributes["correlationid"]
    return answer(CloudEvent.create(attributes, (came.data or b"") + b"."))


@asynccontextmanager
async def running(folder: Path, plan: Plan) -> AsyncIterator[LocalPlane]:
    settings = PlaneSettings(folder / "state", port=0, broker_port=0, template=False)
    plane = LocalPlane(plan, settings, ModelStore(folder / "models"))
    async with plane.running():
        yield plane


def written(folder: Path, text: str) -> Plan:
    (folder / "m.yaml").write_text(text)
    return load([folder / "m.yaml"])


async def test_a_pipeline_from_one_file_answers_over_http(tmp_path: Path) -> None:
    async with Subscriber(works) as functions:
        plan = written(tmp_path, PIPELINE.format(url=functions.url))
        async with running(tmp_path, plan) as plane, httpx.AsyncClient(timeout=60) as client:
            headers, body = encode(event("1", b"x"), Mode.BINARY)
            url = plane.destinations.flow("RequestReply", "default", "desk")
            response = await client.post(url, headers=headers, content=body)
            assert (response.status_code, response.content) == (200, b"x..")
            assert response.headers["ce-type"] == "done"
            brokers = {each["name"]: each for each in plane.status()["eventing"]["brokers"]}  # type: ignore[index]
    assert brokers["work-kn-sequence-1"]["of"] == "Sequence default/work"
    assert len(functions.calls) == 2


async def test_a_caller_that_waits_does_not_hold_up_the_end_of_a_plane(tmp_path: Path) -> None:
    async with Subscriber() as silent, httpx.AsyncClient(timeout=60) as client:
        plan = written(tmp_path, PIPELINE.format(url=silent.url))
        async with asyncio.timeout(60), running(tmp_path, plan) as plane:
            headers, body = encode(event("1"), Mode.BINARY)
            url = plane.destinations.flow("RequestReply", "default", "desk")
            asking = asyncio.create_task(client.post(url, headers=headers, content=body))
            while not silent.calls:
                await asyncio.sleep(0.01)
        response = await asking
    assert (response.status_code, response.json()["reason"]) == (503, "stopping")


def test_b16_what_is_bound_to_a_service() -> None:
    sink = Destination(Ref("Sequence", "default", "work", "flows.knative.dev/v1"))
    plan = Plan(sink_bindings=(SinkBinding("default", "sb", sink, SERVICE),))
    bound = sink_environment(plan, Destinations("http://h", "http://b").resolve)
    assert bound == {
        ("default", "s"): {"K_SINK": "http://b/default/work-kn-sequence-0", "K_CE_OVERRIDES": ""}
    }


def test_the_secret_of_a_state_folder_is_made_once_and_for_its_owner(tmp_path: Path) -> None:
    made = StateFolder(tmp_path).secret()
    assert len(made) == 32
    assert StateFolder(tmp_path).secret() == made
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    (tmp_path / "secret").write_bytes(b"torn")
    assert len(StateFolder(tmp_path).secret()) == 32


# ---- addresses


@pytest.mark.parametrize(
    "kind, uri, url",
    [
        ("Sequence", None, "http://b/ns/it-kn-sequence-0"),
        ("Parallel", None, "http://b/ns/it-kn-parallel"),
        ("RequestReply", None, "http://b/request-reply/ns/it"),
        ("RequestReply", "/reply", "http://b/request-reply/ns/it/reply"),
    ],
)
def test_a_flow_has_an_address_for_producers(kind: str, uri: str | None, url: str) -> None:
    destination = Destination(Ref(kind, "ns", "it", "v1"), uri)
    assert Destinations("http://h", "http://b").resolve(destination, "own") == url


# ---- SinkBinding (checklist B16): knative/eventing pkg/apis/sources/v1/sinkbinding_lifecycle.go


@pytest.mark.parametrize(
    "extensions, overrides",
    [
        (None, ""),
        ({}, "{}"),
        ({"b": "2", "a": "1"}, '{"extensions":{"a":"1","b":"2"}}'),
    ],
)
def test_b16_a_sink_binding_gives_its_subject_the_address_of_the_sink(
    extensions: dict[str, str] | None, overrides: str
) -> None:
    sink = Destination(Ref("Broker", "default", "inbox", "eventing.knative.dev/v1"))
    plan = Plan(sink_bindings=(SinkBinding("default", "sb", sink, SERVICE, extensions),))
    resolve = Destinations("http://h", "http://b").resolve
    assert sink_environment(plan, resolve) == {
        ("default", "s"): {"K_SINK": "http://b/default/inbox", "K_CE_OVERRIDES": overrides}
    }
