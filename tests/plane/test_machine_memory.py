"""How much memory there is, what a service needs, what its processes hold, and when it ran out."""

import asyncio
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from relume.base.errors import InvalidManifest
from relume.base.free_memory import Bounded, bounds
from relume.base.sizes import written
from relume.config import Autoscaling, Function, InferenceService, Origin, Plan, load
from relume.plane import launchers, memory, out_of_memory
from relume.plane.launchers import TEMPLATE, EveryLauncher
from relume.plane.memory import (
    FUNCTION_BYTES,
    MIB,
    PROCESS_BYTES,
    TEMPLATE_BYTES,
    Footprints,
    check_minimum,
    estimate,
    kv_cache_bytes,
    machine_bytes,
)
from relume.plane.out_of_memory import ended_for_memory
from relume.runtimes.models.store import ModelStore
from relume.runtimes.settings import CPU_KV_CACHE_BYTES
from relume.serving.predictor import Kept
from tests.base.control_groups import GIB, Kernel

SERVICE = InferenceService(namespace="ns", name="it", model_format="vLLM", storage_uri="hf://o/it")
FUNCTION = Function("ns", "f", Path("/nowhere"))


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def stored(tmp_path: Path) -> InferenceService:
    """A service whose weights are 3 MiB."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a.safetensors").write_bytes(bytes(2 * MIB))
    (folder / "b.safetensors").write_bytes(bytes(MIB))
    (folder / "README.md").write_bytes(bytes(MIB))
    return replace(SERVICE, storage_uri=f"file://{folder}")


def test_the_machine_gives_what_is_free_less_a_reserve() -> None:
    found = machine_bytes()
    assert found is not None
    assert 0 < found < bounds()[0].total * 0.91


def test_a_control_group_s_limit_counts_without_its_page_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(tmp_path / "kernel")
    kernel.mount(2, own="/pod/container")
    kernel.v2("/pod", 8 * GIB, 3 * GIB, cache=2 * GIB)
    monkeypatch.setattr(memory, "bounds", lambda: bounds(kernel.proc))
    reserve = (8 * GIB) // 10
    assert machine_bytes() == 7 * GIB - reserve
    monkeypatch.setattr(memory, "bounds", list)
    assert machine_bytes() is None


def test_a_model_needs_its_weights_its_cache_and_a_process(
    store: ModelStore, stored: InferenceService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_runs_on_cpu", lambda: True)
    service = replace(stored, args=("--kv-cache-memory-bytes=1048576",))
    assert estimate(service, store) == 3 * MIB + MIB + PROCESS_BYTES
    (Path(stored.storage_uri.removeprefix("file://")) / "c.safetensors").symlink_to("nowhere")
    assert estimate(service, store) == 3 * MIB + MIB + PROCESS_BYTES
    monkeypatch.setattr(memory, "_runs_on_cpu", lambda: False)
    assert estimate(service, store) == PROCESS_BYTES  # the rest lies on the device


def test_a_function_needs_its_limit(store: ModelStore) -> None:
    assert estimate(FUNCTION, store) == FUNCTION_BYTES
    assert estimate(replace(FUNCTION, memory_bytes=5), store) == 5


@pytest.mark.parametrize(
    ("args", "env", "found"),
    [
        (("--kv-cache-memory-bytes", "1000"), {}, 1000),
        (("--kv_cache_memory_bytes=2M",), {}, 2 * MIB),
        (("--kv-cache-memory-bytes=2m",), {}, 2_000_000),
        ((), {"VLLM_CPU_KVCACHE_SPACE": "3"}, 3 << 30),
        (("--kv-cache-memory-bytes=2m",), {"VLLM_CPU_KVCACHE_SPACE": "3"}, 3 << 30),
        (("--kv-cache-memory-bytes=2m",), {"VLLM_CPU_KVCACHE_SPACE": ""}, 2_000_000),
        (("--kv-cache-memory-bytes=" + "9" * 400,), {}, 1 << 60),
        ((), {}, CPU_KV_CACHE_BYTES),
        (("--gpu-memory-utilization=0.5",), {}, 500),
        (("--gpu-memory-utilization=5e-1",), {}, 500),
        *(((f"--gpu-memory-utilization={n}",), {}, CPU_KV_CACHE_BYTES) for n in ("nan", "inf", 2)),
    ],
)
def test_the_cache_is_what_the_flags_say(
    args: tuple[str, ...], env: dict[str, str], found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    monkeypatch.setattr(memory, "bounds", lambda: [Bounded("this machine", 1000, 500, 0)])
    assert kv_cache_bytes(replace(SERVICE, args=args, env=env)) == found


def test_the_variable_of_a_service_wins_over_that_of_the_plane(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As it does in the process of the predictor."""
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "7")
    assert kv_cache_bytes(SERVICE) == 7 << 30
    assert kv_cache_bytes(replace(SERVICE, env={"VLLM_CPU_KVCACHE_SPACE": "3"})) == 3 << 30


def test_minimums_that_do_not_fit_together_are_refused_at_their_field(store: ModelStore) -> None:
    at = Origin(Path("f.yaml"), 12, "spec.predictor.minReplicas")
    always = replace(FUNCTION, memory_bytes=60, autoscaling=Autoscaling(min_scale=1), origin=at)
    plan = Plan(functions=(always, replace(always, name="g")))
    check_minimum(plan, store, 120)
    check_minimum(plan, store, None)
    with pytest.raises(InvalidManifest, match=r"f.yaml:12: spec.predictor.minReplicas: 1 × 60"):
        check_minimum(plan, store, 119)


def test_the_field_of_a_minimum_is_where_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "service.yaml"
    text = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: a}
spec:
  predictor:
    minReplicas: 2
    model: {modelFormat: {name: vLLM}, storageUri: hf://o/m}
"""
    file.write_text(text)
    at = load([file]).services[0].min_replicas_origin
    assert at is not None and (at.line, at.field) == (7, "spec.predictor.minReplicas")
    file.write_text(text.replace("    minReplicas: 2\n", ""))
    at = load([file]).services[0].min_replicas_origin
    assert at is not None and at.field == "spec.predictor.minReplicas"


async def test_the_largest_of_a_process_and_its_children_is_kept() -> None:
    program = (
        "import os, time; x = b'1' * (30 << 20); os.fork() and 0; y = b'2' * (5 << 20); "
        "print('up', flush=True); time.sleep(60)"
    )
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program), stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert child.stdout is not None
    for _ in range(2):
        await child.stdout.readline()
    footprints = Footprints()
    footprints.follow("ns/it", child.pid)
    await footprints.measure({child.pid})
    held = footprints.need("ns/it", lambda: 0)
    os.killpg(child.pid, 9)
    await child.wait()
    assert 40 * MIB <= held <= 100 * MIB  # 30 shared, 5 and 5
    await footprints.measure(())
    assert footprints.need("ns/it", lambda: 1000 * MIB) == held
    assert footprints.need("ns/other", lambda: 5) == 5
    footprints.forget("ns/it")
    assert footprints.need("ns/it", lambda: 5) == 5


async def test_what_loads_needs_no_less_than_was_estimated_and_no_less_than_it_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = {1: 100}
    monkeypatch.setattr(memory, "held_bytes", lambda _: held)
    footprints = Footprints()
    footprints.follow("ns/it", 1)
    await footprints.measure(())
    assert footprints.need("ns/it", lambda: 900) == 900
    held[1] = 1000
    await footprints.measure(())
    assert footprints.need("ns/it", lambda: 900) == 1000
    footprints.follow("ns/smaller", 2)
    held[2] = 700
    await footprints.measure({2})
    assert footprints.need("ns/smaller", lambda: 900) == 700
    footprints.follow("ns/smaller", 3)  # another replica loads
    held[3] = 50
    await footprints.measure({2})
    assert footprints.need("ns/smaller", lambda: 900) == 700


async def test_a_template_and_an_engine_that_load_are_counted_as_estimated(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = {1: 100 * MIB, 2: 100 * MIB}
    monkeypatch.setattr(memory, "held_bytes", lambda _: held)
    nothing: object = None
    template, engines = WarmTemplate(), Engines()
    launcher = EveryLauncher(nothing, nothing, store, template, engines)  # type: ignore[arg-type]
    template.state, engines.engines[0].loaded = "loading", False
    await launcher.measure(())
    assert [kept.bytes for kept in launcher.kept()] == [TEMPLATE_BYTES, TEMPLATE_BYTES]
    template.state, engines.engines[0].loaded = "ready", True
    await launcher.measure(())
    assert [kept.bytes for kept in launcher.kept()] == [100 * MIB, 100 * MIB]
    engines.engines.append(Engine(key="another model", loaded=False))
    assert launcher.kept()[1].bytes == TEMPLATE_BYTES


async def test_a_replica_whose_cache_is_still_filled_is_not_loaded(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = {1: 100 * MIB, 2: 100 * MIB}
    monkeypatch.setattr(memory, "held_bytes", lambda _: held)
    monkeypatch.setattr(launchers, "filling", lambda: {1})
    nothing: object = None
    launcher = EveryLauncher(nothing, nothing, store, None, Engines())  # type: ignore[arg-type]
    await launcher.measure(())
    assert launcher.kept()[0].bytes == TEMPLATE_BYTES
    monkeypatch.setattr(launchers, "filling", set)
    await launcher.measure(())
    assert launcher.kept()[0].bytes == 100 * MIB


def test_sizes_are_written_as_kubernetes_writes_them() -> None:
    assert [written(n) for n in (0, 1023, 1024, 1536 * MIB, 12 << 30)] == [
        *("0", "1023", "1Ki", "1.5Gi", "12Gi")
    ]


# What is kept at zero.


@dataclass
class Engine:
    service: str = "ns/it"
    pid: int = 1
    last_used: float = 7.0
    in_use: bool = False
    key: str = "a model"
    loaded: bool = True
    former: bool = False


class Engines:
    def __init__(self) -> None:
        self.engines = [Engine()]

    def held(self) -> list[Engine]:
        return self.engines

    async def drop(self, service: str) -> None:
        self.engines = [each for each in self.engines if each.service != service]


class WarmTemplate:
    pid: int | None = 2
    state: str = "ready"

    async def drop(self) -> None:
        self.pid = None


async def test_engines_and_the_template_are_kept_and_can_be_dropped(store: ModelStore) -> None:
    nothing: object = None
    launcher = EveryLauncher(nothing, nothing, store, WarmTemplate(), Engines())  # type: ignore[arg-type]
    engine, template = launcher.kept()
    assert (engine.service, engine.last_used, engine.in_use) == ("ns/it", 7.0, False)
    assert (template.name, template.service, template.in_use) == (TEMPLATE, None, True)
    await launcher.drop(engine)
    (template,) = launcher.kept()
    assert isinstance(template, Kept) and not template.in_use
    await launcher.drop(template)
    assert launcher.kept() == []


def test_another_model_is_estimated_anew_and_another_timeout_is_not(
    store: ModelStore, stored: InferenceService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_runs_on_cpu", lambda: True)
    nothing: object = None
    launcher = EveryLauncher(nothing, nothing, store)  # type: ignore[arg-type]
    launcher._footprints._largest[launcher._make_of(stored)] = 7
    launcher._footprints._loaded.add(launcher._make_of(stored))
    assert launcher.memory_bytes(replace(stored, timeout_s=9.0)) == 7
    larger = replace(stored, args=("--kv-cache-memory-bytes", str(40 << 30)))
    assert launcher.memory_bytes(larger) > 40 << 30
    for number in range(10):
        launcher.memory_bytes(replace(stored, env={"A": str(number)}))
    assert (len(launcher._estimates), launcher._footprints._largest) == (3, {})


# Out of memory.


@pytest.mark.parametrize(
    ("code", "said", "kills", "found"),
    [
        (-9, "", (3, 4), "the kernel killed the predictor"),
        (-9, "", (3, 3), None),
        (-9, "", (None, None), None),
        (1, "EngineCore died\n", (3, 4), "the kernel killed the predictor"),
        (1, "EngineCore died\n", (3, 3), None),
        (1, "Failed core proc(s): {'EngineCore': -9}\n", (3, 4), "the kernel killed the predictor"),
        (1, "Failed core proc(s): {'EngineCore': 1}\n", (3, 4), None),
        (
            1,
            "x\nRuntimeError: DefaultCPUAllocator: can't allocate memory: you\ny",
            (0, 0),
            "Default",
        ),
        (1, "torch.OutOfMemoryError: CUDA out of memory. Tried\n", (0, 0), "CUDA out of memory"),
        (1, "ValueError: No available memory for the cache blocks.\n", (0, 0), "No available"),
        (1, "max_model_len is too large\n", (0, 0), None),
        (0, "MemoryError", (0, 1), None),
    ],
)
def test_an_end_for_want_of_memory_is_told_from_others(
    code: int,
    said: str,
    kills: tuple[int | None, int | None],
    found: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = tmp_path / "log"
    log.write_text(said)
    monkeypatch.setattr(out_of_memory, "oom_kills", lambda: kills[1])
    reason = ended_for_memory(code, kills[0], log)
    if found is None:
        assert reason is None
    else:
        assert reason is not None and reason.startswith("out-of-memory: ") and found in reason


def test_this_kernel_counts_what_it_kills() -> None:
    assert out_of_memory.oom_kills() is not None
