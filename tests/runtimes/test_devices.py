"""No server becomes ready without the devices that were asked for; several are shared out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from relume.base.errors import InvalidInput
from relume.runtimes import devices, launcher
from relume.runtimes.devices import (
    DeviceMissing,
    expected,
    memory_flags,
    parallel_flags,
    require,
    told,
)

NOTHING = Path("/nonexistent")


def metadata(root: Path, *drivers: str, version: str = "v1alpha1") -> Path:
    """A KEP-5304 file: the claim "device" of a template, one request, these devices."""
    folder = root / "resourceclaimtemplates" / "device" / "device"
    folder.mkdir(parents=True, exist_ok=True)
    devices = [{"driver": driver, "pool": "n", "name": f"d{i}"} for i, driver in enumerate(drivers)]
    document = {
        "kind": "DeviceMetadata",
        "apiVersion": f"metadata.resource.k8s.io/{version}",
        "podClaimName": "device",
        "requests": [{"name": "device/choice-2", "devices": devices}],
    }
    other = {"kind": "DeviceMetadata", "apiVersion": "metadata.resource.k8s.io/v9"}
    text = json.dumps(document) + "\n" + json.dumps(other) + "\n"
    (folder / f"{drivers[0]}-metadata.json").write_text(text)
    return root


def model(folder: Path, **config: object) -> list[str]:
    (folder / "config.json").write_text(json.dumps(config))
    return ["--model", str(folder)]


def test_a_drivers_metadata_says_how_many_devices_the_pod_got(tmp_path: Path) -> None:
    root = metadata(tmp_path, "gpu.nvidia.com", "gpu.nvidia.com")
    assert told({"NVIDIA_VISIBLE_DEVICES": "0"}, root) == 2


def test_network_cards_in_the_metadata_are_no_accelerators(tmp_path: Path) -> None:
    metadata(tmp_path, "dra.net", "dra.net")
    assert told({}, tmp_path) is None
    metadata(tmp_path, "gpu.amd.com")
    assert told({}, tmp_path) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"requests": [{"devices": 1}]}', '{"a": 1}'])
def test_metadata_that_cannot_be_read_says_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "gpu.nvidia.com-metadata.json").write_text(text)
    assert told({}, tmp_path) is None


@pytest.mark.parametrize(
    ("environment", "count"),
    [
        ({}, None),
        ({"CUDA_VISIBLE_DEVICES": "0,1,2"}, 3),
        ({"CUDA_VISIBLE_DEVICES": "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"}, 1),
        ({"CUDA_VISIBLE_DEVICES": ""}, 0),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, 0),
        ({"CUDA_VISIBLE_DEVICES": "0,1", "NVIDIA_VISIBLE_DEVICES": "all"}, 2),
        ({"HIP_VISIBLE_DEVICES": "0", "ROCR_VISIBLE_DEVICES": "0,1"}, 1),
        ({"NVIDIA_VISIBLE_DEVICES": "GPU-1,GPU-2"}, 2),
        ({"NVIDIA_VISIBLE_DEVICES": "none"}, 0),
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, None),
        ({"NVIDIA_VISIBLE_DEVICES": "all"}, None),
    ],
)
def test_variables_say_it_where_no_driver_does(
    environment: dict[str, str], count: int | None
) -> None:
    assert told(environment, NOTHING) == count


@pytest.mark.parametrize(("wanted", "visible"), [(0, 0), (0, None), (1, 1), (1, 2), (1, None)])
def test_enough_devices_are_enough(wanted: int, visible: int | None) -> None:
    require(wanted, visible)


@pytest.mark.parametrize(("wanted", "visible"), [(1, 0), (2, 1)])
def test_fewer_devices_than_asked_for_are_an_error(wanted: int, visible: int) -> None:
    with pytest.raises(DeviceMissing, match=f"{wanted} device.* asked for .*, {visible} visible"):
        require(wanted, visible)


def test_what_is_expected_is_a_number() -> None:
    assert expected({}) == 0
    assert expected({"RELUME_EXPECT_DEVICES": "2"}) == 2
    with pytest.raises(InvalidInput, match="not a number of devices"):
        expected({"RELUME_EXPECT_DEVICES": "two"})


@pytest.mark.parametrize(
    ("heads", "shared", "devices", "size"),
    [
        (28, 4, 2, 2),
        (28, 4, 4, 4),
        (28, 4, 8, 4),  # 7 divides 28, and fits 4 key-value heads in no way
        (28, 28, 8, 7),
        (32, 8, 8, 8),
        (64, 8, 16, 16),  # more than the key-value heads: vLLM repeats those
        (9, 3, 2, 1),
        (9, 3, 4, 3),
        (12, None, 3, 3),
    ],
)
def test_the_model_is_split_over_as_many_devices_as_its_heads_allow(
    heads: int, shared: int | None, devices: int, size: int, tmp_path: Path
) -> None:
    argv = model(tmp_path, num_attention_heads=heads, num_key_value_heads=shared)
    flags = ["--tensor-parallel-size", str(size)] if size > 1 else []
    assert parallel_flags(argv, devices) == flags


def test_devices_that_are_left_over_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parallel_flags(model(tmp_path, num_attention_heads=32, num_key_value_heads=8), 3)
    assert "3 devices, and 32 attention heads split over 2 of them" in caplog.text


def test_the_heads_of_a_model_with_pictures_are_its_texts(tmp_path: Path) -> None:
    text = {"num_attention_heads": 8, "num_key_value_heads": 2}
    argv = model(tmp_path, text_config=text, vision_config={"num_attention_heads": 16})
    assert parallel_flags(argv, 4) == ["--tensor-parallel-size", "4"]


def test_a_model_that_says_no_heads_is_split_over_all_devices(tmp_path: Path) -> None:
    assert parallel_flags(model(tmp_path, d_model=512), 2) == ["--tensor-parallel-size", "2"]
    assert parallel_flags(["--model", "a/b"], 2) == ["--tensor-parallel-size", "2"]


@pytest.mark.parametrize(
    "flags",
    [
        ["--tensor-parallel-size", "1"],
        ["--tensor-parallel-size=1"],
        ["--tensor_parallel_size=1"],
        ["-tp", "1"],
        ["-tp=1"],
        ["--pipeline-parallel-size=2"],
        ["-dp", "2"],
    ],
)
def test_the_users_own_size_stays(flags: list[str], tmp_path: Path) -> None:
    argv = [*model(tmp_path, num_attention_heads=32), *flags]
    assert parallel_flags(argv, 4) == []


def test_one_device_needs_no_flag(tmp_path: Path) -> None:
    assert parallel_flags(model(tmp_path, num_attention_heads=32), 1) == []


@pytest.mark.parametrize(
    ("mebibytes", "device_gib", "share"),
    [("6144", 24, "0.25"), ("6144", 80, "0.075"), ("10000", 80, "0.122"), ("24576", 24, "1")],
)
def test_a_share_of_a_device_is_vllms_share_of_its_memory(
    mebibytes: str, device_gib: int, share: str
) -> None:
    given = {"RELUME_DEVICE_MEMORY_MIB": mebibytes}
    flags = memory_flags([], lambda: device_gib << 30, given)
    assert flags == ["--gpu-memory-utilization", share]
    own = ["--gpu_memory_utilization=0.3"]
    assert memory_flags(own, lambda: 24 << 30, given) == []
    assert memory_flags([], lambda: None, given) == []
    assert memory_flags([], lambda: 24 << 30, {}) == []


@pytest.mark.parametrize("mebibytes", ["6Gi", "0", "24577"])
def test_a_share_that_cannot_be_had_is_an_error(mebibytes: str) -> None:
    with pytest.raises(InvalidInput, match=f"RELUME_DEVICE_MEMORY_MIB={mebibytes}"):
        memory_flags([], lambda: 24 << 30, {"RELUME_DEVICE_MEMORY_MIB": mebibytes})


def test_the_launcher_ends_at_once_where_an_asked_for_device_is_missing() -> None:
    """The trap of the silently pruned claim: such a pod must never become ready."""
    environment = {
        **os.environ,
        "RELUME_EXPECT_DEVICES": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PORT": "0",
    }
    done = subprocess.run(
        [sys.executable, "-m", "relume.runtimes.launcher", "--model", "/nonexistent"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("relume: device-missing: 1 device asked for"), done.stderr
    assert "vllm" not in done.stderr.lower(), "it ends before vLLM is imported"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The flags with which vLLM was started; nothing of it, and no port, is real here."""
    flags: list[list[str]] = []
    monkeypatch.setattr(launcher, "open_port", lambda _: None)
    monkeypatch.setattr(launcher.Gatekeeper, "start", lambda *_: None)
    monkeypatch.setattr(launcher.signal, "signal", lambda *_: None)
    monkeypatch.setattr(launcher.os, "register_at_fork", lambda **_: None)
    monkeypatch.setattr(launcher, "_import", lambda _: None)
    monkeypatch.setattr(launcher, "_run_vllm", lambda argv, _: flags.append(list(argv)))
    for name in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "RELUME_EXPECT_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    return flags


def test_a_device_that_pytorch_does_not_see_ends_the_start(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELUME_EXPECT_DEVICES", "1")
    monkeypatch.setattr(devices, "seen", lambda: 0)
    with pytest.raises(SystemExit, match="relume: device-missing: 1 device asked for"):
        launcher.serve(["--model", "a/b"])
    assert started == []


def test_the_model_is_split_over_the_devices_of_the_pod(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELUME_EXPECT_DEVICES", "1")
    monkeypatch.setattr(devices, "seen", lambda: 2)
    launcher.serve(["--model", "a/b"])
    assert started == [["--tensor-parallel-size", "2", "--model", "a/b"]]


def test_where_nobody_asked_for_a_device_nothing_is_counted(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "seen", lambda: pytest.fail("PyTorch was asked"))
    launcher.serve(["--model", "a/b"])
    assert started == [["--model", "a/b"]]
