"""What each DRA driver publishes, by driver version: attributes, capacities, its own DeviceClasses.

Read from the drivers' sources and documentation: kubernetes-sigs/dra-driver-nvidia-gpu v0.4.1,
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

    `optional` are those that not every device has: reading one needs a guard. `gone` names
    attributes that people write although no version has them, and what to read instead.
    """

    version: str
    attributes: frozenset[str]
    optional: frozenset[str] = frozenset()
    capacity: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Driver:
    """One driver with its releases, oldest first, and the classes that its chart installs.

    `classes` maps a class name to its expression and its extendedResourceName.
    """

    name: str
    releases: tuple[Release, ...]
    classes: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)
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

    def always(self, ident: str) -> bool:
        """Whether every device of the newest release has it."""
        return ident in self.newest.attributes


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NVIDIA_ALWAYS = "type uuid productName"
_NVIDIA_SOME = (
    "brand architecture cudaComputeCapability driverVersion cudaDriverVersion "
    "profile parentUUID addressingMode deviceID vendorID "
)
_MULTI_PROCESSORS = "multiprocessors copyEngines decoders encoders jpegEngines ofaEngines"
_NVIDIA = Driver(
    "gpu.nvidia.com",
    (
        Release(
            "v25.3",
            _words(_NVIDIA_ALWAYS),
            _words(
                "brand architecture cudaComputeCapability driverVersion cudaDriverVersion "
                "index minor parentIndex parentUUID profile parentMinor"
            ),
            _words(f"memory {_MULTI_PROCESSORS}"),
            _words("gpu mig"),
        ),
        Release(
            "v25.8",
            _words(_NVIDIA_ALWAYS),
            _words(_NVIDIA_SOME),
            _words(f"memory addressableMemory {_MULTI_PROCESSORS}"),
            _words("gpu mig vfio"),
        ),
        Release(
            "v0.4",
            _words(_NVIDIA_ALWAYS),
            _words(
                _NVIDIA_SOME
                + "iommuFDEnabled gpuModuleID partition1 partition2 partition4 partition8"
            ),
            _words(f"memory shares addressableMemory {_MULTI_PROCESSORS}"),
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
    {"index": "uuid", "minor": "uuid", "model": "productName", "name": "productName"},
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
