"""What a plane takes over of changed manifests, and what it says of the rest."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from relume.base.errors import InvalidManifest
from relume.cloudevents.http import Mode, encode
from relume.config import (
    Broker,
    Delivery,
    Destination,
    Function,
    InferenceService,
    Plan,
    Ref,
    SinkBinding,
    Trigger,
    load,
)
from relume.config.function import ConfigObject, FromObject, Variable
from relume.config.resources import Origin
from relume.plane.launch import Command, LocalLauncher
from relume.plane.local import LocalPlane, PlaneSettings
from relume.plane.reloading import Reload, at_once, reload
from relume.runtimes import spawn
from relume.runtimes.models.errors import ModelMissing
from relume.runtimes.models.store import ModelStore
from tests.eventing.stage import Subscriber, event

ONE = InferenceService("ns", "one", "vLLM", "hf://org/model", min_replicas=0)
TWO = replace(ONE, name="two")

TO_URI = Destination(uri="http://127.0.0.1:1/")
FUNCTION_REF = Ref("Service", "ns", "f", "serving.knative.dev/v1")
ORIGIN = Origin(Path("x.yaml"), 7, "metadata.name")

BROKER = """\
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: b}
---
"""
SERVICE = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {{name: {name}}}
spec:
  predictor:
    minReplicas: 0
    timeout: {timeout}
    model: {{modelFormat: {{name: vLLM}}, storageUri: {uri}}}
---
"""


def test_a_changed_service_is_its_next_revision_and_the_others_stay() -> None:
    running = Plan(services=(replace(ONE, generation=3), TWO))
    found = reload(running, Plan(services=(replace(ONE, timeout_s=60), TWO)))
    plan = Plan(services=(replace(ONE, timeout_s=60, generation=4), TWO))
    assert found == Reload(plan, changed=("ns/one",))
    again = reload(found.plan, Plan(services=(replace(ONE, timeout_s=60), TWO)))
    assert again == Reload(found.plan)


def test_another_share_of_the_requests_makes_no_new_revision() -> None:
    running = Plan(services=(replace(ONE, generation=2, canary_percent=10),))
    found = reload(running, Plan(services=(replace(ONE, canary_percent=50),)))
    assert found.plan.services == (replace(ONE, generation=2, canary_percent=50),)
    assert found.changed == ("ns/one",)
    assert found.to_json()["shares"] == {"ns/one": 50}
    all_of_it = reload(running, Plan(services=(ONE,)))
    assert (all_of_it.changed, all_of_it.shares) == (("ns/one",), (("ns/one", 100),))
    again = reload(all_of_it.plan, Plan(services=(replace(ONE, canary_percent=100),)))
    assert (again.changed, again.shares) == ((), ())
    other = reload(running, Plan(services=(replace(ONE, timeout_s=60, canary_percent=50),)))
    assert (other.changed, "shares" in other.to_json()) == (("ns/one",), False)


def test_two_revisions_that_share_the_requests_are_there_at_once() -> None:
    running = Plan(services=(replace(ONE, generation=2), TWO))
    canary = replace(ONE, timeout_s=60, canary_percent=10)
    found = at_once(running, Plan(services=(canary, TWO)))
    assert found.services == (running.services[0], canary, TWO)
    for read in (replace(canary, canary_percent=100), replace(canary, canary_percent=None), ONE):
        assert at_once(running, Plan(services=(read, TWO))).services == (read, TWO)


def test_services_come_and_go() -> None:
    found = reload(Plan(services=(ONE,)), Plan(services=(TWO,)))
    assert (found.plan.services, found.added, found.removed) == ((TWO,), ("ns/two",), ("ns/one",))


def test_all_other_kinds_come_change_and_go_too() -> None:
    before = Plan(
        brokers=(Broker("ns", "b"), Broker("ns", "same"), Broker("ns", "kept")),
        sink_bindings=(SinkBinding("ns", "s", TO_URI, FUNCTION_REF),),
    )
    after = Plan(
        brokers=(Broker("ns", "kept", delivery=Delivery(retry=1)), Broker("ns", "same")),
        triggers=(Trigger("ns", "t", "kept", TO_URI),),
    )
    found = reload(before, after)
    assert (found.plan, found.added) == (after, ("Trigger ns/t",))
    assert (found.changed, found.removed) == (
        ("Broker ns/kept",),
        ("Broker ns/b", "SinkBinding ns/s"),
    )


def test_a_function_is_its_next_revision_when_what_its_process_gets_is_another() -> None:
    """Its own document, a Secret that it uses, and where a SinkBinding sends its events."""
    secret = ConfigObject("Secret", "ns", "s", {"key": b"old"})
    variable = Variable("KEY", FromObject("Secret", "s", "key"))
    function = Function("ns", "f", Path("f"), variables=(variable,), generation=3)
    running = Plan(functions=(function,), objects=(secret,))
    now = replace(function, generation=1)

    def found(**read: Any) -> tuple[int, tuple[str, ...]]:
        it = reload(running, Plan(**{"functions": (now,), "objects": (secret,), **read}))
        return it.plan.functions[0].generation, it.changed

    assert found() == (3, ())
    assert found(functions=(replace(now, timeout_s=9.0),)) == (4, ("function ns/f",))
    other = replace(secret, data={"key": b"new"})
    assert found(objects=(other,)) == (4, ("function ns/f", "Secret or ConfigMap ns/s"))
    assert found(sink_bindings=(SinkBinding("ns", "s", TO_URI, FUNCTION_REF),))[0] == 4
    gone = reload(running, Plan(objects=(secret,)))
    assert (gone.plan.functions, gone.removed) == ((), ("function ns/f",))


@pytest.mark.parametrize(
    ("field", "before", "after"),
    [
        (
            "metadata.annotations[eventing.knative.dev/broker.class]: the Broker runs as Kafka",
            Plan(brokers=(Broker("ns", "x", "Kafka"),)),
            Plan(brokers=(Broker("ns", "x", origin=ORIGIN),)),
        ),
        (
            "spec.broker: the Trigger reads b",
            Plan(triggers=(Trigger("ns", "x", "b", TO_URI),)),
            Plan(triggers=(Trigger("ns", "x", "c", TO_URI, origin=ORIGIN),)),
        ),
        (
            "metadata.annotations[kafka.eventing.knative.dev/delivery.order]: the Trigger runs as "
            "unordered",
            Plan(triggers=(Trigger("ns", "x", "b", TO_URI),)),
            Plan(triggers=(Trigger("ns", "x", "b", TO_URI, ordered=True, origin=ORIGIN),)),
        ),
    ],
)
def test_what_cannot_change_while_it_runs_is_refused_with_its_line_and_what_to_do(
    field: str, before: Plan, after: Plan
) -> None:
    with pytest.raises(InvalidManifest, match=re.escape(f"x.yaml:7: {field}")) as caught:
        reload(before, after)
    assert "another name" in str(caught.value)


@asynccontextmanager
async def up(
    folder: Path, *, template: bool = False
) -> AsyncIterator[tuple[LocalPlane, httpx.AsyncClient]]:
    """A plane of the manifest in `folder`, with a store of models that need no bytes."""
    file = folder / "it.yaml"
    settings = PlaneSettings(folder / "state", port=0, broker_port=0, template=template, grace_s=2)
    plane = LocalPlane(load([file]), settings, ModelStore(folder), lambda: load([file]))
    async with plane.running(), httpx.AsyncClient(base_url=plane.http, trust_env=False) as client:
        yield plane, client


async def test_a_running_plane_takes_over_its_files_and_a_bad_one_changes_nothing(
    tmp_path: Path,
) -> None:
    (tmp_path / "model").mkdir()
    uri = f"file://{tmp_path}/model"
    file = tmp_path / "it.yaml"
    file.write_text(BROKER + SERVICE.format(name="one", timeout=30, uri=uri))
    async with up(tmp_path) as (plane, client):
        assert (await client.get("/serving/default/two/x")).status_code == 404
        file.write_text(
            SERVICE.format(name="one", timeout=60, uri=uri)
            + SERVICE.format(name="two", timeout=30, uri=uri)
        )
        answer = await client.post("/relume/reload")
        assert (answer.status_code, answer.json()) == (
            200,
            {
                "added": ["default/two"],
                "changed": ["default/one"],
                "removed": ["Broker default/b"],
            },
        )
        services = (await client.get("/relume/status")).json()["serving"]["services"]
        revisions = {each["name"]: each["revision"] for each in services}
        assert revisions == {"one": "one-predictor-00002", "two": "two-predictor-00001"}
        models = (await client.get("/openai/v1/models")).json()["data"]
        assert [each["id"] for each in models] == ["one", "two"]

        for name, status in (("two", 202), ("gone", 404)):
            job = await client.post(
                f"/serving/default/{name}/v1/chat/completions",
                json={"messages": []},
                headers={"prefer": "respond-async"},
            )
            assert job.status_code == status, job.text
        queues = (await client.get("/relume/status")).json()["jobs"]["queues"]
        assert [each["service"] for each in queues] == ["default/one", "default/two"]

        file.write_text(SERVICE.format(name="one", timeout=9999, uri=uri))
        refused = await client.post("/relume/reload")
        assert refused.status_code == 422
        assert "it.yaml:7: spec.predictor.timeout: expected 0 <= 9999" in refused.json()["error"]
        assert [each.timeout_s for each in plane.plan.services] == [60, 30]
        page = {"origin": "https://evil.example"}
        assert (await client.post("/relume/reload", headers=page)).status_code == 403


@pytest.mark.parametrize("wrong", ["", "no: manifest"])
async def test_a_file_without_a_manifest_is_told(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "it.yaml").write_text(BROKER)
    async with up(tmp_path) as (_, client):
        (tmp_path / "it.yaml").write_text(wrong)
        assert (await client.post("/relume/reload")).status_code == 422


async def test_the_template_loads_when_a_service_that_wants_it_comes_and_the_status_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    may_load = asyncio.Event()

    async def interpreter(
        argv: Sequence[str], env: object, log: Path, pass_fds: Sequence[int] = ()
    ) -> asyncio.subprocess.Process:
        await may_load.wait()
        code = f"import os, time; os.write({argv[2]}, b'1'); os.close({argv[2]}); time.sleep(60)"
        return await asyncio.create_subprocess_exec(sys.executable, "-c", code, pass_fds=pass_fds)

    monkeypatch.setattr(spawn, "_interpreter", interpreter)
    file, service = tmp_path / "it.yaml", {"timeout": 30, "uri": f"file://{tmp_path}/model"}
    cold = SERVICE.format(name="cold", **service).replace(
        "{name: cold}", "{name: cold, annotations: {relume.dev/zero: process}}"
    )
    file.write_text(BROKER)
    async with up(tmp_path, template=True) as (_, client):

        async def state() -> object:
            return (await client.get("/relume/status")).json()["template"]["state"]

        assert await state() == "stopped"
        file.write_text(BROKER + cold)
        assert (await client.post("/relume/reload")).json()["added"] == ["default/cold"]
        assert await state() == "stopped"
        file.write_text(BROKER + cold + SERVICE.format(name="warm", **service))
        assert (await client.post("/relume/reload")).json()["added"] == ["default/warm"]
        assert await state() == "loading"
        may_load.set()
        async with asyncio.timeout(30):
            while await state() != "ready":
                await asyncio.sleep(0.01)


async def test_a_job_whose_service_was_removed_can_be_looked_at_while_it_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise spawn.LaunchFailed("no process")

    monkeypatch.setattr(spawn.FreshLauncher, "start", fails)
    (tmp_path / "model").mkdir()
    file = tmp_path / "it.yaml"
    services = [
        SERVICE.format(name=name, timeout=30, uri=f"file://{tmp_path}/model")
        for name in ("one", "two")
    ]
    file.write_text("".join(services))
    async with up(tmp_path) as (_, client):

        async def asked() -> str:
            job = await client.post(
                "/serving/default/two/v1/chat/completions",
                json={"messages": []},
                headers={"prefer": "respond-async"},
            )
            return job.headers["location"]

        first = await asked()
        async with asyncio.timeout(30):
            while (await client.get(first)).json()["status"] == "queued":
                await asyncio.sleep(0.01)
        await client.post("/v1/queues/default/two/pause")
        second = await asked()
        file.write_text(services[0])
        assert (await client.post("/relume/reload")).json()["removed"] == ["default/two"]
        await client.post("/v1/queues/default/two/resume")
        for path in (first, second, "/v1/jobs", "/v1/queues", "/relume/status"):
            seen = await client.get(path)
            assert seen.status_code == 200, (path, seen.text)


async def test_what_the_disk_lacks_at_the_last_moment_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model of a loaded engine is removed after the check of its files."""
    (tmp_path / "model").mkdir()

    def gone(_: LocalLauncher, services: Sequence[InferenceService]) -> dict[str, Command]:
        if any(service.zero == "engine" for service in services):
            raise ModelMissing("file:///model: there is no such folder")
        return {}

    monkeypatch.setattr(LocalLauncher, "commands_to_keep", gone)
    file, service = tmp_path / "it.yaml", {"timeout": 30, "uri": f"file://{tmp_path}/model"}
    file.write_text(BROKER)
    async with up(tmp_path) as (plane, client):
        held = SERVICE.format(name="held", **service)
        file.write_text(
            held.replace("{name: held}", "{name: held, annotations: {relume.dev/zero: engine}}")
        )
        answer = await client.post("/relume/reload")
        assert answer.status_code >= 400 and "no such folder" in answer.json()["error"]
        assert plane.plan.services == ()
        assert (await client.get("/relume/status")).json()["serving"]["services"] == []
        assert (await client.get("/serving/default/held/x")).status_code == 404


FLOW = """\
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: t}}
spec:
  broker: b
  subscriber: {{uri: {uri}}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: to-model}}
spec:
  broker: b
  filters: [{{exact: {{type: nothing}}}}]
  subscriber: {{ref: {{apiVersion: serving.kserve.io/v1beta1, kind: InferenceService, name: one}}}}
---
"""


async def test_a_trigger_that_is_added_with_its_broker_and_its_model_delivers_at_once(
    tmp_path: Path,
) -> None:
    (tmp_path / "model").mkdir()
    file, service = tmp_path / "it.yaml", {"timeout": 30, "uri": f"file://{tmp_path}/model"}
    file.write_text(SERVICE.format(name="first", **service))
    async with up(tmp_path) as (plane, client), Subscriber() as subscriber:
        first = SERVICE.format(name="first", **service)
        added = BROKER + FLOW.format(uri=subscriber.url) + SERVICE.format(name="one", **service)
        file.write_text(first + added)
        answer = await client.post("/relume/reload")
        assert answer.json()["added"] == [
            *("default/one", "Broker default/b", "Trigger default/t", "Trigger default/to-model"),
        ]
        headers, body = encode(event("1"), Mode.BINARY)
        url = f"{plane.broker}/default/b"
        assert (await client.post(url, headers=dict(headers), content=body)).status_code == 202
        await until(lambda: subscriber.ids == ["1"])
        triggers = (await client.get("/relume/status")).json()["eventing"]["triggers"]
        assert triggers[1]["subscriber"] == f"{plane.http}/serving/default/one/"

        file.write_text(first)
        answer = await client.post("/relume/reload")
        assert len(answer.json()["removed"]) == 4
        assert (await client.post(url, headers=dict(headers), content=body)).status_code == 404


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.01)
