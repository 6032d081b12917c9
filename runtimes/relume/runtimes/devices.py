"""Which devices the pod got: too few are an error, and over several the model is split.

A claim that some layer dropped leaves a pod that starts, and a server that would become ready
without its device (seen with KServe on Knative). `relume render` therefore sets
`RELUME_EXPECT_DEVICES`, and the launcher ends with a message where fewer are visible.
"""

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from relume.base.errors import InvalidInput, RelumeError
from relume.base.vocabulary import DEVICE_MEMORY_MIB, EXPECT_DEVICES
from relume.runtimes.settings import mentions, model_folder

logger = logging.getLogger("relume.runtimes")

#: KEP-5304: what a DRA driver tells a container about its devices, one file for each request.
METADATA = Path("/var/run/kubernetes.io/dra-device-attributes")

_ACCELERATORS = ("gpu.", "gaudi.", "tpu.")  # drivers; others serve network cards and the like
_MASKS = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")
_SIZES = (
    *("--tensor-parallel-size", "-tp", "--pipeline-parallel-size", "-pp"),
    *("--data-parallel-size", "-dp"),
)
_SHARES = ("--gpu-memory-utilization",)


class DeviceMissing(RelumeError):
    """The pod was to have devices, and the runtime sees fewer."""

    reason = "device-missing"
    retryable = True  # another pod may get them


def expected(environment: Mapping[str, str] = os.environ) -> int:
    """How many devices were asked for, 0 by default. Raises InvalidInput for what is no number."""
    text = environment.get(EXPECT_DEVICES, "0")
    if not text.isdecimal():
        raise InvalidInput(
            f"{EXPECT_DEVICES}={text} is not a number of devices; write a whole number"
        )
    return int(text)


def require(wanted: int, visible: int | None) -> None:
    """Raise DeviceMissing where fewer devices are visible than `wanted`; None means not known."""
    if visible is None or visible >= wanted:
        return
    many = "device" if wanted == 1 else "devices"
    raise DeviceMissing(
        f"{wanted} {many} asked for ({EXPECT_DEVICES}), {visible} visible: the pod has no device "
        "claim, the claim got none, or the image has no support for it"
    )


def told(environment: Mapping[str, str] = os.environ, metadata: Path = METADATA) -> int | None:
    """The number of devices that the container was told about; None where it was told nothing.

    First a DRA driver's metadata, then the variables that device plugins and users set. It needs no
    driver library, so it answers before anything is imported.
    """
    if (claimed := _claimed(metadata)) is not None:
        return claimed
    masks = [environment[name] for name in _MASKS if name in environment]
    if masks:
        return min(len([part for part in mask.split(",") if _is_device(part)]) for mask in masks)
    # "void" is what CDI leaves here beside devices that it has put in; "all" counts nothing.
    given = environment.get("NVIDIA_VISIBLE_DEVICES", "all")
    if given in ("all", "void", ""):
        return None
    return 0 if given == "none" else len(given.split(","))


def seen() -> int:
    """The number of devices that PyTorch sees; imports it."""
    import torch

    found = int(torch.cuda.device_count())  # AMD's too
    if found == 0 and hasattr(torch, "xpu"):
        found = int(torch.xpu.device_count())
    return found


def parallel_flags(argv: Sequence[str], devices: int) -> list[str]:
    """`--tensor-parallel-size` over the pod's devices, where the user's flags name no size.

    A size must divide the attention heads, and fit the key-value heads (vLLM checks both), so it is
    the largest such one. The number of devices is not known when the service is written: the
    alternatives of a claim differ in it.
    """
    if devices < 2 or mentions(argv, _SIZES):
        return []
    heads = _heads(argv)
    size = devices if heads is None else _largest(devices, *heads)
    if size < devices:
        logger.warning(
            "%d devices, and %s attention heads split over %d of them: the rest does nothing",
            *(devices, heads[0] if heads else "the", size),
        )
    return [] if size == 1 else ["--tensor-parallel-size", str(size)]


def memory_flags(
    argv: Sequence[str],
    total: Callable[[], int | None],
    environment: Mapping[str, str] = os.environ,
) -> list[str]:
    """`--gpu-memory-utilization` for the part of a shared device that the pod was given.

    `total` says the device's memory in bytes, None where it is not known. vLLM takes a share of the
    whole device, whose size is not known when the service is written, so that the share is made
    here; it is rounded down to a thousandth. Raises InvalidInput for a part that cannot be had.
    """
    text = environment.get(DEVICE_MEMORY_MIB, "")
    if not text or mentions(argv, _SHARES):
        return []
    if not text.isdecimal() or int(text) == 0:
        raise InvalidInput(
            f"{DEVICE_MEMORY_MIB}={text} is not a number of MiB; write a whole number"
        )
    if (whole := total()) is None:
        logger.warning(
            "%s=%s has no effect: the size of the device is not known; write "
            "--gpu-memory-utilization",
            *(DEVICE_MEMORY_MIB, text),
        )
        return []
    part = int(text) << 20
    share = part * 1000 // whole
    if share == 0 or part > whole:
        raise InvalidInput(
            f"{DEVICE_MEMORY_MIB}={text}: the device has {whole >> 20} MiB; write at most that, "
            "and at least a thousandth of it"
        )
    return ["--gpu-memory-utilization", f"{share / 1000:g}"]


def _is_device(part: str) -> bool:
    return part.strip() not in ("", "-1", "none", "NoDevFiles")


def _largest(devices: int, heads: int, shared: int) -> int:
    """The largest size up to `devices` for so many attention heads and key-value heads."""
    fits = (
        size
        for size in range(devices, 0, -1)
        if heads % size == 0 and (shared % size == 0 or size % shared == 0)
    )
    return next(fits, 1)


def _heads(argv: Sequence[str]) -> tuple[int, int] | None:
    """Attention and key-value heads by the model folder's config.json, where it says them."""
    model = model_folder(argv)
    if model is None:
        return None
    try:
        config = json.loads((model / "config.json").read_text())
        text = config.get("text_config") or config
        heads = int(text["num_attention_heads"])
        shared = int(text.get("num_key_value_heads") or heads)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return (heads, shared) if heads > 0 and shared > 0 else None


def _claimed(metadata: Path) -> int | None:
    """Accelerators in the metadata files; None where there is no file of an accelerator's."""
    found = [driver for file in sorted(metadata.rglob("*-metadata.json")) for driver in _in(file)]
    accelerators = [driver for driver in found if driver.startswith(_ACCELERATORS)]
    return len(accelerators) if accelerators else None


def _in(file: Path) -> Iterator[str]:
    """The driver of each device in one file.

    The file is a stream of the same object in several API versions; the first one is read.
    """
    try:
        document, _ = json.JSONDecoder().raw_decode(file.read_text().lstrip())
        for request in document["requests"]:
            for device in request["devices"]:
                yield str(device["driver"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s is no device metadata: %s", file, error)
