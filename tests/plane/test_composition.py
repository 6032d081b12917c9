"""The seams between the parts that the command puts together."""

import asyncio
import os
import socket
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from relume.base.errors import InvalidInput, InvalidManifest
from relume.config import (
    Destination,
    InferenceService,
    Mount,
    Origin,
    Plan,
    Ref,
    Trigger,
)
from relume.plane.addresses import (
    VLLM_SOCKETS,
    PortTaken,
    StateFolder,
    listen,
    socket_folder,
    url_of,
)
from relume.plane.grace import Grace
from relume.plane.launch import (
    PORTS,
    LocalLauncher,
    RuntimeMissing,
    check,
    free_port,
    missing,
    set_runtime_defaults,
)
from relume.plane.subscribers import Destinations, SubscriberCapacity
from relume.runtimes.models.errors import ModelMissing
from relume.runtimes.models.store import ModelStore

SERVICE = InferenceService(
    namespace="ns", name="it", model_format="vLLM", storage_uri="hf://org/it", max_replicas=2
)


def ref(kind: str, name: str = "it", namespace: str = "ns") -> Ref:
    return Ref(kind=kind, namespace=namespace, name=name, api_version="v1")


def trigger(**changes: object) -> Trigger:
    subscriber = Destination(ref=ref("InferenceService"), uri="/v1/embeddings")
    return replace(Trigger("ns", "t", "b", subscriber), **changes)  # type: ignore[arg-type]


# ---- addresses


@pytest.mark.parametrize(
    "destination, url",
    [
        (Destination(ref=ref("InferenceService")), "http://h/serving/ns/it/"),
        (Destination(ref=ref("InferenceService"), uri="/v1/x"), "http://h/serving/ns/it/v1/x"),
        (Destination(ref=ref("InferenceService", namespace="")), "http://h/serving/own/it/"),
        (Destination(ref=ref("Service"), uri="/x"), "http://h/serving/ns/it/x"),
        (Destination(ref=ref("Broker", namespace="other")), "http://b/other/it"),
        (Destination(uri="https://example.com/a?b"), "https://example.com/a?b"),
    ],
    ids=[
        "a service is its path",
        "a uri is appended to a service",
        "a reference without a namespace is in the Trigger's own",
        "a function is its path",
        "a Broker is its ingress",
        "a uri alone is itself",
    ],
)
def test_a_destination_has_one_address(destination: Destination, url: str) -> None:
    assert Destinations("http://h", "http://b").resolve(destination, "own") == url


@pytest.mark.parametrize(
    "destination",
    [Destination(), Destination(ref=ref("Deployment"))],
    ids=["neither ref nor uri", "a kind that is not here"],
)
def test_a_destination_without_an_address_here_is_refused(destination: Destination) -> None:
    with pytest.raises(InvalidInput):
        Destinations("http://h", "http://b").resolve(destination, "own")


def test_a_port_in_use_names_the_flag_that_chooses_another() -> None:
    with listen(0, "--port") as first:
        port = first.getsockname()[1]
        assert url_of(first) == f"http://127.0.0.1:{port}"
        with pytest.raises(PortTaken, match=f"port {port} is in use; choose another with --port"):
            listen(port, "--port")


def test_a_free_port_is_outside_the_range_of_outgoing_connections() -> None:
    port = free_port()
    assert port in PORTS
    with socket.create_server(("127.0.0.1", port)):
        pass


# ---- capacity


@pytest.mark.parametrize(
    "concurrency, replicas, capacity",
    [(16, 1, 16), (16, 3, 48), (8, 0, 32), (0, 3, None)],
    ids=["one replica", "three replicas", "no bound of replicas", "no bound of concurrency"],
)
def test_a_trigger_delivers_as_much_at_once_as_its_service_can_take(
    concurrency: int, replicas: int, capacity: int | None
) -> None:
    service = replace(SERVICE, container_concurrency=concurrency, max_replicas=replicas)
    assert SubscriberCapacity(Plan(services=(service,))).of(trigger()) == capacity


def test_what_a_url_can_take_is_not_known() -> None:
    elsewhere = trigger(subscriber=Destination(uri="http://example.com/"))
    assert SubscriberCapacity(Plan(services=(SERVICE,))).of(elsewhere) is None


# ---- launching


class Started:
    """A process that was asked for."""

    pid = 4711
    started = "template"

    async def wait(self) -> int:
        return 0

    async def announced(self) -> None: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


class Recorder:
    """A launcher of the runtime that notes what it was asked for."""

    def __init__(self) -> None:
        self.argv: list[str] = []
        self.env: dict[str, str] = {}

    async def start(
        self, *, argv: Sequence[str], env: Mapping[str, str], log_path: Path
    ) -> Started:
        self.argv, self.env = list(argv), dict(env)
        return Started()


def service(tmp_path: Path, **changes: object) -> InferenceService:
    base = InferenceService(
        namespace="ns",
        name="it",
        model_format="vLLM",
        storage_uri=str(tmp_path),
        args=("--max-model-len=2048", "--port=1"),
        env={"OWN": "1", "K_SERVICE": "mine"},
        timeout_s=120,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


async def test_a_predictor_gets_its_model_its_name_and_a_port_that_the_plane_knows(
    tmp_path: Path,
) -> None:
    """Checklist A12."""
    recorder = Recorder()
    launcher = LocalLauncher(ModelStore(tmp_path / "store"), recorder)
    predictor = await launcher.start(service(tmp_path), tmp_path / "log")
    port = predictor.base_url.rpartition(":")[2]
    assert predictor.base_url == f"http://127.0.0.1:{port}"
    assert (predictor.pid, predictor.started, await predictor.wait()) == (4711, "template", 0)
    assert recorder.argv == [
        *("--model", str(tmp_path), "--served-model-name", "it"),
        *("--max-model-len=2048", "--port=1"),
        *("--host", "127.0.0.1", "--port", port),
    ]
    assert recorder.env == {
        "PORT": port,
        "K_SERVICE": "mine",
        "K_CONFIGURATION": "it-predictor",
        "K_REVISION": "it-predictor-00001",
        "INFERENCE_SERVICE_NAME": "it",
        "RELUME_NAMESPACE": "ns",
        "RELUME_GRACE_S": "120",
        "OWN": "1",
    }


async def test_a_predictor_finds_folders_of_this_machine_under_the_paths_of_a_container(
    tmp_path: Path,
) -> None:
    for name in ("model/sub", "adapters"):
        (tmp_path / name).mkdir(parents=True)
    here = service(
        tmp_path,
        storage_uri=str(tmp_path / "model"),
        folder="sub",
        mounts=(Mount("/mnt/models/adapters", str(tmp_path / "adapters")),),
        args=(
            "--lora-modules=a=/mnt/models/adapters/x",
            "--chat-template=/mnt/models/chat.jinja",
            "--download-dir=/mnt/models-2:/x/mnt/models",
        ),
        env={"FILE": "/mnt/models/adapters"},
    )
    recorder = Recorder()
    await LocalLauncher(ModelStore(tmp_path / "store"), recorder).start(here, tmp_path / "log")
    assert recorder.argv[1] == str(tmp_path / "model" / "sub")
    assert recorder.argv[4:7] == [
        f"--lora-modules=a={tmp_path}/adapters/x",
        f"--chat-template={tmp_path}/model/chat.jinja",
        "--download-dir=/mnt/models-2:/x/mnt/models",
    ]
    assert recorder.env["FILE"] == str(tmp_path / "adapters")


async def test_files_of_a_config_map_are_written_for_the_predictor(tmp_path: Path) -> None:
    mounts = (
        Mount("/d", files={"in/a": "one"}),
        Mount("/e/b.json", files={"b.json": "two"}, only="b.json"),
    )
    here = service(tmp_path, mounts=mounts, env={"A": "/d/in/a", "B": "/e/b.json"}, args=())
    recorder = Recorder()
    folder = StateFolder(tmp_path / "state")
    with folder.held(), folder.private("files") as files:
        launcher = LocalLauncher(ModelStore(tmp_path / "store"), recorder, files)
        await launcher.start(here, tmp_path / "log")
        await launcher.start(here, tmp_path / "log")
        assert Path(recorder.env["A"]).read_text() == "one"
        assert Path(recorder.env["B"]).read_text() == "two"
        assert files.stat().st_mode & 0o077 == 0
    assert not files.exists()


def test_every_folder_that_a_predictor_reads_must_be_here(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    asked = service(tmp_path, folder="gone", mounts=(Mount("/a", "hf://org/gone"),))
    first, second = missing(asked, store)
    assert str(first) == f"{tmp_path}: there is no folder gone in it"
    assert "relume models prepare hf://org/gone" in str(second)
    assert missing(service(tmp_path), store) == []


async def test_a_model_that_left_the_store_starts_nothing(tmp_path: Path) -> None:
    recorder = Recorder()
    launcher = LocalLauncher(ModelStore(tmp_path), recorder)
    with pytest.raises(ModelMissing, match="relume models prepare hf://org/gone"):
        await launcher.start(service(tmp_path, storage_uri="hf://org/gone"), tmp_path / "log")
    assert recorder.argv == []


def test_predictors_do_not_ask_a_hub_unless_told_to() -> None:
    environment: dict[str, str] = {}
    set_runtime_defaults(environment)
    assert environment == {"HF_HUB_OFFLINE": "1"}
    told = {"HF_HUB_OFFLINE": "0"}
    set_runtime_defaults(told)
    assert told == {"HF_HUB_OFFLINE": "0"}


def test_sockets_have_a_folder_with_a_short_name_for_as_long_as_the_plane(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VLLM_SOCKETS, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("long" * 20)))
    with socket_folder() as folder:
        assert os.environ[VLLM_SOCKETS] == str(folder)
        assert len(str(folder / str(uuid4()))) < 100
        (folder / "left-behind").touch()
    assert not folder.exists()
    assert VLLM_SOCKETS not in os.environ


def test_the_sockets_of_vllm_stay_where_the_user_wants_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VLLM_SOCKETS, "/elsewhere")
    with socket_folder():
        assert os.environ[VLLM_SOCKETS] == "/elsewhere"
    assert os.environ[VLLM_SOCKETS] == "/elsewhere"


# ---- before anything starts


def test_a_missing_model_is_an_error_at_its_line(tmp_path: Path) -> None:
    origin = Origin(Path("a.yaml"), 9, "spec.predictor.model.storageUri")
    service = replace(SERVICE, storage_uri_origin=origin)
    with pytest.raises(InvalidManifest) as caught:
        check(Plan(services=(service,)), ModelStore(tmp_path))
    assert str(caught.value).startswith("a.yaml:9: spec.predictor.model.storageUri: hf://org/it")
    assert "relume models prepare hf://org/it" in str(caught.value)


def test_without_vllm_there_is_nothing_to_run_a_model_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    plan = Plan(services=(replace(SERVICE, storage_uri=str(tmp_path)),))
    with pytest.raises(RuntimeMissing, match="pip install"):
        check(plan, ModelStore(tmp_path))
    check(Plan(), ModelStore(tmp_path))


# ---- stopping


async def test_the_grace_is_shared_by_all_steps_and_starts_with_the_first() -> None:
    grace = Grace(30)
    loop = asyncio.get_running_loop()
    began = loop.time()
    first = grace.left()
    second = grace.left()
    assert 29 < second <= first <= 30
    assert second <= 30 - (loop.time() - began) + 1e-3


async def test_hurry_cuts_a_step_short_after_it_began_and_leaves_no_time_to_others() -> None:
    grace = Grace(30)
    steps = []

    async def step() -> None:
        steps.append("began")
        try:
            await asyncio.Event().wait()
        finally:
            steps.append("cleaned up")

    grace.hurry()
    await grace.bound(step())
    assert steps == ["began", "cleaned up"]
    assert grace.left() == 0


async def test_what_a_step_raises_is_raised() -> None:
    async def step() -> None:
        raise PortTaken("it broke")

    with pytest.raises(PortTaken):
        await Grace(1).bound(step())
