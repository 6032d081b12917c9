"""What each DRA driver publishes, by driver version: attributes, capacities, its own DeviceClasses.

Read from the drivers' sources and documentation: kubernetes-sigs/dra-driver-nvidia-gpu
v25.3.2, v25.8.1, v0.4.1,
ROCm/k8s-gpu-dra-driver (October 2025), intel/intel-resource-drivers-for-kubernetes,
kubernetes-sigs/dra-driver-google-tpu v0.2.0, kubernetes-sigs/dra-example-driver v0.4.0.
Names outside the driver's own domain are written with theirs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

STANDARD = frozenset(
    f"resource.kubernetes.io/{name}" for name in ("pcieRoot", "pciBusID", "numaNode")
)


@dataclass(frozen=True, slots=True)
class Release:
    """One driver version. `types` are the values of the attribute `type`, where it has one.

    `optional` are those that not every device has: reading one needs a guard.
    """

    version: str
    attributes: frozenset[str]
    optional: frozenset[str] = frozenset()
    capacity: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Driver:
    """One driver with its releases, oldest first, and the classes that its chart installs.

    `classes` maps a class name to its expression and its extendedResourceName, `by_type` a type to
    what all its devices have, `instead` a name that people write to the one that is there.
    """

    name: str
    releases: tuple[Release, ...]
    classes: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)
    by_type: Mapping[str, frozenset[str]] = field(default_factory=dict)
    instead: Mapping[str, str] = field(default_factory=dict)

    @property
    def newest(self) -> Release:
        return self.releases[-1]

    def publishes(self, ident: str) -> bool:
        """Whether any known release has an attribute or capacity of that name."""
        return any(
            ident in (r.attributes | r.optional | r.capacity) or ident.startswith("memorySlice")
            for r in self.releases
        )

    def has(self, ident: str, device_type: str | None) -> bool:
        """Whether every device of the newest release has it; every one of a type, if one is said.

        Only types of which that is known are in `by_type`.
        """
        of_type = self.by_type.get(device_type or "", frozenset())
        everywhere = self.newest.attributes | (
            frozenset() if self.by_type else self.newest.capacity
        )
        return ident in everywhere | of_type


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NVIDIA_ALWAYS = _words("type productName")
_NVIDIA_SOME = (
    "uuid brand architecture cudaComputeCapability driverVersion cudaDriverVersion profile "
    "parentUUID "
)
_ENGINES = "multiprocessors copyEngines decoders encoders jpegEngines ofaEngines"
_NVIDIA = Driver(
    "gpu.nvidia.com",
    (
        Release(
            "v25.3",
            _NVIDIA_ALWAYS,
            _words(_NVIDIA_SOME + "pcieBusID index minor parentIndex"),
            _words(f"memory {_ENGINES}"),
            _words("gpu mig"),
        ),
        Release(
            "v25.8",
            _NVIDIA_ALWAYS,
            _words(_NVIDIA_SOME + "pcieBusID"),
            _words(f"memory {_ENGINES}"),
            _words("gpu mig"),
        ),
        Release(
            "v0.4",
            _NVIDIA_ALWAYS,
            _words(
                _NVIDIA_SOME + "addressingMode deviceID vendorID iommuFDEnabled gpuModuleID "
                "partition1 partition2 partition4 partition8"
            ),
            _words(f"memory shares addressableMemory {_ENGINES}"),
            _words("gpu mig vfio"),
        ),
    ),
    {
        "gpu.nvidia.com": (
            "device.driver == 'gpu.nvidia.com' && "
            "device.attributes['gpu.nvidia.com'].type == 'gpu'",
            "nvidia.com/gpu",
        ),
        "mig.nvidia.com": (
            "device.driver == 'gpu.nvidia.com' && "
            "device.attributes['gpu.nvidia.com'].type == 'mig'",
            None,
        ),
        "vfio.gpu.nvidia.com": (
            "device.driver == 'gpu.nvidia.com' && "
            "device.attributes['gpu.nvidia.com'].type == 'vfio'",
            None,
        ),
    },
    {
        "gpu": _words(
            "uuid brand architecture cudaComputeCapability driverVersion cudaDriverVersion memory"
        ),
        "mig": _words(
            "brand architecture cudaComputeCapability driverVersion cudaDriverVersion memory "
            "profile parentUUID multiprocessors copyEngines"
        ),
        "vfio": _words("deviceID vendorID addressableMemory"),
    },
    {
        "index": "uuid",
        "minor": "uuid",
        "pcieBusID": "resource.kubernetes.io/pciBusID",
        "model": "productName",
        "name": "productName",
    },
)
_AMD = Driver(
    "gpu.amd.com",
    (
        Release(
            "October 2025",
            _words(
                "type cardIndex renderIndex family productName driverVersion driverSrcVersion "
                "partitionProfile"
            ),
            _words("pciAddr deviceID parentPciAddr parentDeviceID"),
            _words("memory computeUnits simdUnits"),
            _words("amdgpu amdgpu-partition"),
        ),
    ),
    {"gpu.amd.com": ("device.driver == 'gpu.amd.com'", None)},
    {
        "amdgpu": _words("pciAddr deviceID memory computeUnits simdUnits"),
        "amdgpu-partition": _words("parentPciAddr parentDeviceID memory computeUnits simdUnits"),
    },
    {"model": "productName", "uuid": "deviceID", "pciBusID": "pciAddr"},
)
_INTEL = Driver(
    "gpu.intel.com",
    (
        Release("v0.6", _words("family model"), frozenset(), _words("memory millicores")),
        Release(
            "v0.9",
            _words("model family driver sriov pciId health"),
            _words("type pciAddress pciRoot"),
            _words("memory millicores"),
            _words("gpu vf"),
        ),
    ),
    {"gpu.intel.com": ("device.driver == 'gpu.intel.com'", None)},
    {},
    {"productName": "model", "pciBusID": "pciAddress"},
)
_TPU = Driver(
    "tpu.google.com",
    (
        Release("v0.1", _words("index uuid tpuGen")),
        Release(
            "v0.2",
            _words("index uuid tpuGen brand accelerator chipCount"),
            _words("topology health"),
        ),
    ),
    {"tpu.google.com": ("device.driver == 'tpu.google.com'", None)},
    {},
    {"memory": "tpuGen", "model": "accelerator", "type": "accelerator"},
)
_EXAMPLE = Driver(
    "gpu.example.com",
    (
        Release(
            "v0.4",
            _words("index uuid model driverVersion"),
            _words("partition partitionable full"),
            _words("memory compute"),
        ),
    ),
    {"gpu.example.com": ("device.driver == 'gpu.example.com'", None)},
)

DRIVERS: Mapping[str, Driver] = {
    driver.name: driver for driver in (_NVIDIA, _AMD, _INTEL, _TPU, _EXAMPLE)
}
