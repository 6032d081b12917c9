"""`relume up --llm-d`: the endpoints of llm-d's router follow the replicas, and nothing is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import yaml
from aiohttp import web

from relume.base.testing import VirtualClock
from relume.config import Autoscaling, InferenceService, load
from relume.plane.addresses import PortTaken
from relume.plane.grace import Grace
from relume.plane.llm_d import FolderUnusable, RouterFiles, replace_file
from relume.plane.local import LocalPlane, PlaneSettings
from relume.runtimes.models.store import ModelStore
from relume.serving.plane import ServingPlane
from relume.serving.settings import ServingSettings
from tests.plane.llm_d_router import NO_ENDPOINTS, Router, Sent, read
from tests.serving.virtual import Handler, InProcessLauncher, InProcessPredictor, eventually

ONE = InferenceService(
    "default",
    "one",
    "vLLM",
    "hf://org/model",
    min_replicas=0,
    max_replicas=2,
    container_concurrency=1,
    autoscaling=Autoscaling(),
)
CHAT = "/v1/chat/completions"
REQUESTS = 10_000


@dataclass
class Stage:
    """A serving plane under a virtual clock, with the files of a router."""

    plane: ServingPlane
    clock: VirtualClock
    launcher: InProcessLauncher
    files: RouterFiles
    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "default/one/endpoints.yaml"

    @property
    def names(self) -> list[str]:
        return [name.removeprefix("default/") for name in read(self.file)]

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.plane.status()["services"][0]
        return found

    async def until(self, names: list[str]) -> None:
        await eventually(lambda: self.names == names, f"{names}")

    async def ready(self, number: int) -> InProcessPredictor:
        """Let this predictor become ready, and the plane see it."""
        await eventually(lambda: len(self.launcher.started) >= number, "a launch")
        self.launcher.started[number - 1].ready = True
        name = f"{self.status['revision']}-{number}"
        while name not in self.names:
            await self.clock.advance(1)
            await asyncio.sleep(0.002)
        return self.launcher.started[number - 1]

    async def idle(self, seconds: int = 200) -> None:
        """Let this much time pass; the windows of the autoscaler see only zeros."""
        for _ in range(seconds):
            await self.clock.advance(1)
        await asyncio.sleep(0)


async def answer(request: web.Request) -> web.StreamResponse:
    return web.Response(text=f"answered {request.path}")


@asynccontextmanager
async def staged(
    folder: Path, handler: Handler = answer, service: InferenceService = ONE
) -> AsyncIterator[Stage]:
    clock, launcher = VirtualClock(), InProcessLauncher(handler)
    settings = ServingSettings(probe_interval_s=1.0)
    plane = ServingPlane(
        (service,), launcher, log_dir=folder / "logs", clock=clock, settings=settings
    )
    await plane.start()
    grace = Grace(5)
    async with asyncio.TaskGroup() as group:
        files = RouterFiles(folder / "router", plane, group, grace)
        await files.open()
        try:
            yield Stage(plane, clock, launcher, files, folder / "router")
        finally:
            await files.close()
            await plane.stop(0)
            await files.finished()


async def test_the_file_follows_from_zero_to_two_replicas_and_back_to_zero(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        await release.wait()
        return web.Response()

    async with staged(tmp_path, slow) as stage, Router(stage.file) as router:
        assert stage.names == ["one-zero"]
        asked = [asyncio.create_task(router.post(CHAT)) for _ in range(4)]
        await stage.ready(1)
        await stage.ready(2)
        assert stage.names == ["one-predictor-00001-1", "one-predictor-00001-2"]
        entries = yaml.safe_load(stage.file.read_text())["endpoints"]
        assert len({each["port"] for each in entries}) == 2
        assert entries[0]["labels"] == {
            "llm-d.ai/engine-type": "vllm",
            "serving.kserve.io/inferenceservice": "one",
            "relume.dev/state": "ready",
            "serving.knative.dev/revision": "one-predictor-00001",
        }
        release.set()
        assert [(await each).status for each in asked] == [200] * 4
        await stage.idle()
        await stage.until(["one-zero"])
        assert stage.status["state"] == "zero"
    assert read(stage.file) == {}  # the plane has stopped, and the file is still there
    assert sorted(each.name for each in stage.file.parent.iterdir()) == [
        "endpoints.yaml",
        "epp.yaml",
    ]


async def test_the_configuration_names_the_file_and_stays_as_its_owner_writes_it(
    tmp_path: Path,
) -> None:
    async with staged(tmp_path) as stage:
        config = stage.file.with_name("epp.yaml")
        found = yaml.safe_load(config.read_text())
        assert found["plugins"][0] == {
            "name": "file-discovery",
            "type": "file-discovery",
            "parameters": {"path": str(stage.file), "watchFile": True},
        }
        known = {each.get("name", each["type"]) for each in found["plugins"]}
        layer = found["dataLayer"]
        named = [layer["discovery"], *layer["sources"], *layer["sources"][0]["extractors"]]
        named += found["schedulingProfiles"][0]["plugins"]
        assert {each["pluginRef"] for each in named} <= known
        config.write_text("mine")
    async with staged(tmp_path) as stage:
        assert config.read_text() == "mine"


async def test_what_a_router_polls_starts_nothing_and_keeps_nothing_awake(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, httpx.AsyncClient(trust_env=False) as http:
        url = f"http://{read(stage.file)['default/one-zero']}"
        metrics = (await http.get(f"{url}/metrics")).text
        for name in ("num_requests_waiting", "num_requests_running", "kv_cache_usage_perc"):
            assert f"\nvllm:{name} 0.0\n" in metrics
        assert (await http.get(f"{url}/health")).status_code == 200
        assert (await http.get(f"{url}/v1/models")).json()["data"] == [
            {"id": "one", "object": "model", "created": 0, "owned_by": "vllm", "parent": None}
        ]
        assert stage.launcher.started == []

        asked = asyncio.create_task(http.post(url + CHAT))
        predictor = await stage.ready(1)
        assert (await asked).text == f"answered {CHAT}"
        # The clock went on while the file was written; the idle time begins with this request.
        replica = f"http://{read(stage.file)[f'default/{stage.names[0]}']}"
        assert (await http.post(replica + CHAT)).text == f"answered {CHAT}"
        polls = 0
        while stage.status["replicas"]:
            assert (await http.get(f"{url}/metrics")).text == "answered /metrics"
            await stage.clock.advance(1)
            polls += 1
        assert 30 < polls < 200
        await stage.until(["one-zero"])
        assert predictor.terminated


async def test_a_request_to_an_address_is_counted_and_keeps_its_replica(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        await release.wait()
        return web.Response(text="late")

    long = replace(ONE, timeout_s=3600.0, response_start_timeout_s=3600.0)
    async with staged(tmp_path, slow, long) as stage, Router(stage.file) as router:
        asked = asyncio.create_task(router.post(CHAT))
        predictor = await stage.ready(1)
        await eventually(lambda: predictor.running == 1, "the request")
        await stage.idle(600)
        assert stage.status["in_flight"] == 1
        assert not predictor.terminated
        release.set()
        assert await asked == Sent("default/one-zero", 200, "late")


async def test_an_address_whose_replica_is_gone_gives_its_requests_to_another(
    tmp_path: Path,
) -> None:
    service = replace(ONE, max_replicas=1)
    async with staged(tmp_path, answer, service) as stage, aiohttp.ClientSession() as http:
        old = f"http://{read(stage.file)['default/one-zero']}"
        asked = asyncio.create_task(http.post(old + CHAT))
        await stage.ready(1)
        assert (await asked).status == 200
        await stage.idle()
        await stage.until(["one-zero"])
        held = asyncio.create_task(http.post(old + CHAT))  # by a router that is late
        await stage.ready(2)
        assert (await held).status == 200
        assert len(stage.launcher.started[1].seen) == 1


async def test_the_addresses_lead_to_a_canary_when_it_was_rolled_out(tmp_path: Path) -> None:
    """A router chooses by load and not by percent, so until then it sees none of the canary."""
    first = replace(ONE, min_replicas=1, max_replicas=1)
    async with staged(tmp_path, answer, first) as stage, aiohttp.ClientSession() as http:
        await stage.ready(1)
        [old] = read(stage.file).values()
        canary = replace(first, generation=2, canary_percent=10)
        stage.plane.update([canary])
        await eventually(lambda: len(stage.launcher.started) == 2, "the canary")
        stage.launcher.started[1].ready = True
        await stage.idle(5)
        assert stage.names == ["one-predictor-00001-1"]
        stage.plane.update([replace(canary, canary_percent=None)])
        await stage.until(["one-predictor-00002-1"])
        assert [*read(stage.file).values()] == [old]
        assert (await http.post(f"http://{old}{CHAT}")).status == 200
        assert stage.launcher.started[1].seen


async def test_a_removed_service_has_no_endpoints(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, httpx.AsyncClient(trust_env=False) as http:
        url = f"http://{read(stage.file)['default/one-zero']}"
        stage.plane.update([replace(ONE, name="two")])
        await eventually(lambda: read(stage.file) == {}, "an empty list")
        two = stage.folder / "default/two/endpoints.yaml"
        await eventually(two.exists, "the file of the new service")
        assert list(read(two)) == ["default/two-zero"]
        with pytest.raises(httpx.HTTPError):
            while True:
                await http.get(f"{url}/health", headers={"connection": "close"})


async def test_an_unusable_file_and_a_lack_of_ports_cost_no_other_service_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with staged(tmp_path) as stage:
        stage.file.with_name(".endpoints.yaml.new").mkdir()  # so nothing can be written here
        two, three = (replace(ONE, name=name) for name in ("two", "three"))
        stage.plane.update([two])  # and the file of `one` should become empty
        file = stage.folder / "default/two/endpoints.yaml"
        await eventually(file.exists, "the file of the second service")

        with monkeypatch.context() as without_ports:
            asked: list[int] = []

            def no_port(port: int, flag: str) -> None:
                asked.append(port)
                raise PortTaken("port 0 is in use")

            without_ports.setattr("relume.plane.llm_d.listen", no_port)
            stage.plane.update([two, three])
            await eventually(lambda: bool(asked), "a refused port")
        stage.file.with_name(".endpoints.yaml.new").rmdir()
        third = stage.folder / "default/three/endpoints.yaml"
        await eventually(lambda: third.exists() and read(stage.file) == {}, "both files")
        assert list(read(third)) == ["default/three-zero"]


async def test_a_router_loses_no_request_while_replicas_come_and_go(tmp_path: Path) -> None:
    launcher: list[InProcessLauncher] = []
    to_the_gone: list[str] = []

    async def careful(request: web.Request) -> web.StreamResponse:
        """Notes a request that reaches a predictor which was told to go."""
        at = str(request.url.origin())
        going = [each.base_url for each in launcher[0].started if each.terminated or each.exited]
        to_the_gone.extend(url for url in going if url == at)
        await asyncio.sleep(0)
        return web.Response(text="answered")

    service = replace(ONE, container_concurrency=0, max_replicas=3)
    async with staged(tmp_path, careful, service) as stage, Router(stage.file) as router:
        launcher.append(stage.launcher)
        passing = asyncio.create_task(_let_time_pass(stage))
        answers: list[Sent] = []
        generation = 1
        for burst in range(10):
            wanted = replace(service, min_replicas=burst % 3, generation=generation)
            stage.plane.update([wanted])
            for part in range(2):
                if part:  # a rollout in the middle of the burst
                    generation += 1
                    stage.plane.update([replace(wanted, generation=generation)])
                answers += await _burst(router, REQUESTS // 20)
        passing.cancel()
        await asyncio.gather(passing, return_exceptions=True)
    assert len(answers) == REQUESTS
    own = [each for each in answers if each.status == 503 and each.body == NO_ENDPOINTS]
    assert {each.status for each in answers if each not in own} == {200}
    assert to_the_gone == []
    assert len(stage.launcher.started) >= 10  # they have come and gone
    assert len(router.ever) >= 10
    assert router.loads >= 10


async def _burst(router: Router, count: int, at_once: int = 50) -> list[Sent]:
    """Send so many requests, some of them at once."""
    numbers = iter(range(count))

    async def client() -> list[Sent]:
        return [await router.post(CHAT) for _ in numbers]

    found = await asyncio.gather(*[client() for _ in range(at_once)])
    return [each for part in found for each in part]


async def _let_time_pass(stage: Stage) -> None:
    """Each predictor becomes ready at once; a second passes in some milliseconds."""
    while True:
        for predictor in stage.launcher.started:
            predictor.ready = True
        await stage.clock.advance(1)
        await asyncio.sleep(0.01)


def test_a_file_is_not_written_through_a_link(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("kept")
    for name in ("endpoints.yaml", ".endpoints.yaml.new"):
        (tmp_path / name).symlink_to(mine)
    replace_file(tmp_path / "endpoints.yaml", "new")
    assert mine.read_text() == "kept"
    assert not (tmp_path / "endpoints.yaml").is_symlink()
    assert (tmp_path / "endpoints.yaml").read_text() == "new"


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "router").write_text("a file")
    with pytest.raises(ExceptionGroup) as told:
        async with staged(tmp_path):
            pass
    assert isinstance(told.value.exceptions[0], FolderUnusable)
    assert "choose another folder with --llm-d DIR" in str(told.value.exceptions[0])


async def test_the_plane_of_relume_up_keeps_the_files(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    file = tmp_path / "it.yaml"
    file.write_text(f"""\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {{name: one}}
spec:
  predictor:
    minReplicas: 0
    model: {{modelFormat: {{name: vLLM}}, storageUri: "file://{tmp_path}/model"}}
""")
    settings = PlaneSettings(
        tmp_path / "state", port=0, broker_port=0, template=False, llm_d=tmp_path / "router"
    )
    plane = LocalPlane(load([file]), settings, ModelStore(tmp_path))
    endpoints = tmp_path / "router/default/one/endpoints.yaml"
    async with plane.running():
        assert list(read(endpoints)) == ["default/one-zero"]
    assert read(endpoints) == {}
