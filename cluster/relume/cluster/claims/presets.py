"""The DeviceClasses that ship with Relume: memory tiers of whole GPUs, MIG profiles, TPU chips.

A tier promises usable memory, not the label: an H100 80 GB publishes 81559Mi, which is less than
80Gi. So each tier's floor lies a little under the smallest card of that label that we know of. A
tier is a floor only: a larger card satisfies it too.

Every attribute is read behind `has()`: in DRA an attribute that a device lacks is a runtime error,
and one such device stops the whole allocation (KEP-4381).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

IMPLICIT_PREFIX = "deviceclass.resource.kubernetes.io/"
"""KEP-5004: the resource under which any DeviceClass can be asked for in `limits`."""

LONGEST_NAME = 63
"""Characters of a class name that can still follow IMPLICIT_PREFIX (a qualified name's part)."""


@dataclass(frozen=True, slots=True)
class Preset:
    """One DeviceClass. `floor` is the least usable memory in MiB, None where it is not published.

    `selectors` are CEL expressions, all of which a device must satisfy, in this order.
    """

    name: str
    vendor: str
    driver: str
    what: str
    selectors: tuple[str, ...]
    floor: int | None = None
    partition: bool = False

    @property
    def memory(self) -> int:
        """Bytes of usable memory that every device has, 0 where it is not published."""
        return (self.floor or 0) << 20

    def manifest(self) -> dict[str, object]:
        """The DeviceClass document (resource.k8s.io/v1)."""
        return {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "DeviceClass",
            "metadata": {
                "name": self.name,
                "labels": {"app.kubernetes.io/part-of": "relume"},
            },
            "spec": {"selectors": [{"cel": {"expression": text}} for text in self.selectors]},
        }


# driver -> label in GB -> floor in MiB, and the cards that meet it (NVML's total memory in MiB).
_TIERS: Mapping[str, Mapping[int, tuple[int, str]]] = {
    "gpu.nvidia.com": {
        16: (14 << 10, "T4 (15109-15360), V100 16 GB, RTX A4000"),
        24: (22 << 10, "L4 (23034), A10, A10G, A30 (24576), RTX 4090"),
        32: (31 << 10, "V100 32 GB (32510), RTX 5090 (32607)"),
        40: (39 << 10, "A100 40 GB (40536-40960)"),
        48: (44 << 10, "L40, L40S, A40 (46068), RTX A6000 (49140)"),
        80: (79 << 10, "H100 80 GB (81559), A100 80 GB (81251-81920)"),
        96: (93 << 10, "H100 NVL (95830), H20, GH200 96 GB (97871)"),
        141: (139 << 10, "H200 (143771)"),
        180: (177 << 10, "B200 (183359), GB200 (189471)"),
        288: (266 << 10, "B300, GB300 (275040)"),
    },
    "gpu.amd.com": {
        64: (63 << 10, "MI210, one die of MI250X (65520)"),
        192: (191 << 10, "MI300X (196592)"),
        256: (255 << 10, "MI325X (262128)"),
        288: (286 << 10, "MI350X, MI355X (294896)"),
    },
    "gpu.intel.com": {
        16: (15 << 10, "Arc A770, Flex 170 (16288)"),
        24: (23 << 10, "Arc Pro B60 (24480)"),
        48: (47 << 10, "Data Center GPU Max 1100 (49152)"),
        128: (120 << 10, "Data Center GPU Max 1550 (131072)"),
    },
}

#: Names of the device plugin for single partitions.
MIG_RESOURCE = re.compile(r"nvidia\.com/mig-.+")
# cards -> profile -> floor in MiB. NVIDIA MIG User Guide, "Supported MIG Profiles"; the usable
# memory of an instance lies under the number in its name (1g.5gb: 4864Mi).
_MIG: Mapping[str, Mapping[str, int]] = {
    "A100 40 GB": {
        "1g.5gb": 4750,
        "2g.10gb": 9728,
        "3g.20gb": 19456,
        "4g.20gb": 19456,
        "7g.40gb": 39 << 10,
    },
    "A30": {"1g.6gb": 5632, "2g.12gb": 11520, "4g.24gb": 23 << 10},
    "A100 80 GB, H100 80 GB": {
        "1g.10gb": 9472,
        "1g.20gb": 19200,
        "2g.20gb": 19200,
        "3g.40gb": 39 << 10,
        "4g.40gb": 39 << 10,
        "7g.80gb": 79 << 10,
    },
    "H100 NVL, H100 96 GB": {"1g.12gb": 10752},
    "H200": {
        "1g.18gb": 16128,
        "1g.35gb": 32768,
        "2g.35gb": 32768,
        "3g.71gb": 69 << 10,
        "4g.71gb": 69 << 10,
        "7g.141gb": 139 << 10,
    },
    "B200": {
        "1g.23gb": 21504,
        "1g.45gb": 43008,
        "2g.45gb": 43008,
        "3g.90gb": 87 << 10,
        "4g.90gb": 87 << 10,
        "7g.180gb": 177 << 10,
    },
}
# generation -> GB of HBM of one chip (Google Cloud, "TPU versions"), tpuGen as the driver says it.
_TPU: Mapping[str, tuple[int, tuple[str, ...]]] = {
    "v4": (32, ("v4", "v4lite")),
    "v5e": (16, ("v5lite", "v5litepod")),
    "v5p": (95, ("v5p",)),
    "v6e": (32, ("v6e",)),
}


def find(name: str) -> Preset | None:
    """The preset of that name."""
    return PRESETS.get(name)


def extended_resource(name: str) -> str:
    """The resource that asks for one device of the class in `limits` (Kubernetes >= 1.36).

    Raises ValueError when the class name is too long to be the last part of a resource name.
    """
    if len(name) > LONGEST_NAME:
        raise ValueError(f"{name}: longer than {LONGEST_NAME} characters")
    return IMPLICIT_PREFIX + name


def label_floors(driver: str) -> Mapping[int, tuple[int, str]]:
    """For each label in GB: the usable MiB of the smallest such card, and the cards."""
    return _TIERS.get(driver, {})


def _guarded(driver: str, read: str, test: str) -> str:
    """A test of `attributes.NAME` or `capacity.NAME` of the driver, behind has()."""
    section, _, name = read.partition(".")
    key = f"device.{section}['{driver}'].{name}"
    return f"has({key}) && {key}{test}"


def _selectors(driver: str, *tests: str) -> tuple[str, ...]:
    return (f"device.driver == '{driver}'", *tests)


def _tiers(prefix: str, vendor: str, kind: str | None) -> Iterator[Preset]:
    driver = f"gpu.{vendor.lower()}.com"
    whole = (_guarded(driver, "attributes.type", f" == '{kind}'"),) if kind else ()
    for label, (floor, cards) in _TIERS[driver].items():
        size = f"{floor >> 10}Gi" if floor % 1024 == 0 else f"{floor}Mi"
        memory = _guarded(driver, "capacity.memory", f".compareTo(quantity('{size}')) >= 0")
        what = f"{vendor}, at least {floor} MiB of usable memory: {cards}, and larger"
        selectors = _selectors(driver, *whole, memory)
        yield Preset(f"{prefix}-{label}g", vendor, driver, what, selectors, floor)


def _mig_profiles() -> Iterator[Preset]:
    driver = "gpu.nvidia.com"
    profiles = ((cards, *entry) for cards, found in _MIG.items() for entry in found.items())
    for cards, profile, floor in profiles:
        selectors = _selectors(
            driver,
            _guarded(driver, "attributes.type", " == 'mig'"),
            _guarded(driver, "attributes.profile", f" == '{profile}'"),
        )
        name = f"llm-mig-{profile.replace('.', '-')}"
        what = f"NVIDIA MIG {profile}: {cards}"
        yield Preset(name, "NVIDIA", driver, what, selectors, floor, partition=True)


def _tpu_chips() -> Iterator[Preset]:
    driver = "tpu.google.com"
    for generation, (size, spellings) in _TPU.items():
        test = f" in [{', '.join(map(repr, spellings))}]"
        selectors = _selectors(driver, _guarded(driver, "attributes.tpuGen", test))
        what = f"Google TPU {generation}, one chip with {size} GB of HBM"
        yield Preset(f"llm-tpu-{generation}", "Google", driver, what, selectors)


PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        *_tiers("llm-gpu", "NVIDIA", "gpu"),
        *_mig_profiles(),
        *_tiers("llm-amd", "AMD", "amdgpu"),
        *_tiers("llm-intel", "Intel", None),
        *_tpu_chips(),
    )
}
"""Every preset by name, by vendor and size."""
