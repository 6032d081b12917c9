"""What a plane takes over of changed manifests, and what it says of the rest."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from relume.config import Broker, InferenceService, Plan, load
from relume.plane.local import LocalPlane, PlaneSettings
from relume.plane.reloading import Reload, at_once, reload
from relume.runtimes.models.store import ModelStore

ONE = InferenceService("ns", "one", "vLLM", "hf://org/model", min_replicas=0)
TWO = replace(ONE, name="two")

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
    assert found == Reload((replace(ONE, timeout_s=60, generation=4), TWO), changed=("ns/one",))
    again = reload(Plan(services=found.services), Plan(services=(replace(ONE, timeout_s=60), TWO)))
    assert again == Reload(found.services)


def test_another_share_of_the_requests_makes_no_new_revision() -> None:
    running = Plan(services=(replace(ONE, generation=2, canary_percent=10),))
    found = reload(running, Plan(services=(replace(ONE, canary_percent=50),)))
    assert found.services == (replace(ONE, generation=2, canary_percent=50),)
    assert (found.changed, found.restart) == (("ns/one",), ())


def test_two_revisions_that_share_the_requests_are_there_at_once() -> None:
    running = Plan(services=(replace(ONE, generation=2), TWO))
    canary = replace(ONE, timeout_s=60, canary_percent=10)
    found = at_once(running, Plan(services=(canary, TWO)))
    assert found.services == (running.services[0], canary, TWO)
    for read in (replace(canary, canary_percent=100), replace(canary, canary_percent=None), ONE):
        assert at_once(running, Plan(services=(read, TWO))).services == (read, TWO)


def test_services_come_and_go() -> None:
    found = reload(Plan(services=(ONE,)), Plan(services=(TWO,)))
    assert (found.services, found.added, found.removed) == ((TWO,), ("ns/two",), ("ns/one",))
    assert found.restart == ()


def test_what_counts_only_after_a_restart_is_told() -> None:
    slots = replace(ONE, container_concurrency=4)
    brokers = (Broker("ns", "b"), Broker("ns", "c", "Kafka"))
    running = Plan(services=(ONE,), brokers=(*brokers, Broker("ns", "same")))
    after = (replace(brokers[1], broker_class=None), Broker("ns", "same"), Broker("ns", "new"))
    assert reload(running, Plan(services=(slots,), brokers=after)).restart == (
        *("how many jobs and events ns/one gets at once", "Broker ns/b"),
        *("Broker ns/c", "Broker ns/new"),
    )


@asynccontextmanager
async def up(folder: Path) -> AsyncIterator[tuple[LocalPlane, httpx.AsyncClient]]:
    """A plane of the manifest in `folder`, with a store of models that need no bytes."""
    file = folder / "it.yaml"
    settings = PlaneSettings(folder / "state", port=0, broker_port=0, template=False, grace_s=2)
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
                "removed": [],
                "restart": ["Broker default/b"],
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
