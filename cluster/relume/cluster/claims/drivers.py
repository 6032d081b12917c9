"""What each DRA driver publishes, by driver version: attributes, capacities, its own DeviceClasses.

Read from the drivers' sources and documentation: kubernetes-sigs/dra-driver-nvidia-gpu
v25.3.2, v25.8.1, v0.4.1, v0.5.0 (August 2026: docs/reference/resourceslice-attributes.md),
ROCm/k8s-gpu-dra-driver (October 2025, and 2026: cmd/gpu-kubeletplugin/deviceinfo.go),
intel/intel-resource-drivers-for-kubernetes, kubernetes-sigs/dra-driver-google-tpu v0.2.0,
kubernetes-sigs/dra-example-driver v0.4.0.
Names outside the driver's own domain are written with theirs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

STANDARD_DOMAIN = "resource.kubernetes.io"
STANDARD = frozenset({"pcieRoot", "pciBusID", "numaNode"})
"""The attributes that Kubernetes defines, in STANDARD_DOMAIN; a device need not have them."""


@dataclass(frozen=True, slots=True)
class Release:
    """One driver version. `types` are the values of the attribute `type`, where it has one.

    `optional` are those that not every device has: reading one needs a guard.
    """

    version: str
    attributes: frozenset[str]
    optional: frozenset[str]
    capacity: frozenset[str]
    types: frozenset[str]

    def names(self, section: str) -> frozenset[str]:
        """The names in a section of its devices: "attributes" or "capacity"."""
        return self.capacity if section == "capacity" else self.attributes | self.optional


@dataclass(frozen=True, slots=True)
class Driver:
    """One driver with its releases, oldest first, and the classes that its chart installs.

    `classes` maps a class name to its expression and its extendedResourceName; where it is empty,
    the class has the driver's name and selects all its devices. NVIDIA's GPU Operator makes its
    class without an extendedResourceName (GPUCluster, v26.7.0); a document of that name says so.
    `by_type` maps a type to what all its devices have, `instead` a name that people write to the
    one that is there.
    """

    releases: tuple[Release, ...]
    classes: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)
    by_type: Mapping[str, frozenset[str]] = field(default_factory=dict)
    instead: Mapping[str, str] = field(default_factory=dict)

    @property
    def newest(self) -> Release:
        return self.releases[-1]

    def publishes(self, ident: str) -> bool:
        """Whether any known release has an attribute or capacity of that name."""
        return ident.startswith("memorySlice") or any(
            ident in r.names("attributes") | r.capacity for r in self.releases
        )

    def has(self, ident: str, device_type: str | None) -> bool:
        """Whether every device of the newest release, or every one of a type, has the name.

        `device_type` is None where nothing is known of the type. Not every type is in `by_type`.
        """
        everywhere = self.newest.attributes
        if not self.by_type:
            everywhere |= self.newest.capacity
        return ident in everywhere | self.by_type.get(device_type or "", frozenset())


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _release(version: str, always: str, some: str, capacity: str = "", types: str = "") -> Release:
    """A release from lists of names with spaces between them."""
    return Release(version, _words(always), _words(some), _words(capacity), _words(types))


def _typed(kind: str) -> str:
    """The expression of the class that NVIDIA's chart installs for one type of device."""
    return (
        f"device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == '{kind}'"
    )


_NVIDIA_SOME = (
    "uuid brand architecture cudaComputeCapability driverVersion cudaDriverVersion profile "
    "parentUUID "
)
_ENGINES = "multiprocessors copyEngines decoders encoders jpegEngines ofaEngines"

DRIVERS: Mapping[str, Driver] = {
    "gpu.nvidia.com": Driver(
        (
            _release(
                "v25.3",
                "type productName",
                f"{_NVIDIA_SOME} pcieBusID index minor parentIndex",
                f"memory {_ENGINES}",
                "gpu mig",
            ),
            _release(
                "v25.8",
                "type productName",
                f"{_NVIDIA_SOME} pcieBusID",
                f"memory {_ENGINES}",
                "gpu mig",
            ),
            _release(
                "v0.4",
                "type productName",
                f"{_NVIDIA_SOME} addressingMode deviceID vendorID iommuFDEnabled gpuModuleID "
                "partition1 partition2 partition4 partition8",
                f"memory addressableMemory {_ENGINES}",
                "gpu mig vfio",
            ),
            # ConsumableShares adds `shares`; the module is spelled in both ways in its builds.
            _release(
                "v0.5",
                "type productName",
                f"{_NVIDIA_SOME} addressingMode deviceID vendorID iommuFDEnabled gpuModuleId "
                "gpuModuleID partition1 partition2 partition4 partition8",
                f"memory shares addressableMemory {_ENGINES}",
                "gpu mig vfio",
            ),
        ),
        classes={
            "gpu.nvidia.com": (_typed("gpu"), "nvidia.com/gpu"),
            "mig.nvidia.com": (_typed("mig"), None),
            "vfio.gpu.nvidia.com": (_typed("vfio"), None),
        },
        by_type={
            "gpu": _words(
                "uuid brand architecture cudaComputeCapability driverVersion cudaDriverVersion "
                "memory"
            ),
            "mig": _words(
                "brand architecture cudaComputeCapability driverVersion cudaDriverVersion memory "
                "profile parentUUID multiprocessors copyEngines"
            ),
            "vfio": _words("deviceID vendorID addressableMemory"),
        },
        instead={
            "index": "uuid",
            "minor": "uuid",
            "pcieBusID": "resource.kubernetes.io/pciBusID",
            "model": "productName",
            "name": "productName",
        },
    ),
    "gpu.amd.com": Driver(
        (
            _release(
                "October 2025",
                "type cardIndex renderIndex family productName driverVersion driverSrcVersion "
                "partitionProfile",
                "pciAddr deviceID parentPciAddr parentDeviceID",
                "memory computeUnits simdUnits",
                "amdgpu amdgpu-partition",
            ),
            _release(
                "2026",
                "type numaNode",
                "productName driverVersion driverVersionFull deviceID partitionProfile vendorID "
                "iommuGroup pciAddr isVF",
                "memory computeUnits simdUnits",
                "amdgpu amdgpu-partition vfio",
            ),
        ),
        by_type={
            "amdgpu": _words("productName memory computeUnits simdUnits"),
            "amdgpu-partition": _words(
                "productName partitionProfile memory computeUnits simdUnits"
            ),
        },
        instead={
            "model": "productName",
            "family": "productName",
            "uuid": "deviceID",
            "pciAddr": "resource.kubernetes.io/pciBusID",
            "cardIndex": "resource.kubernetes.io/pciBusID",
            "driverSrcVersion": "driverVersionFull",
        },
    ),
    "gpu.intel.com": Driver(
        (
            _release("v0.6", "family model", "", "memory millicores"),
            _release(
                "v0.9",
                "model family driver sriov pciId health",
                "type pciAddress pciRoot",
                "memory millicores",
                "gpu vf",
            ),
        ),
        instead={"productName": "model", "pciBusID": "pciAddress"},
    ),
    "tpu.google.com": Driver(
        (
            _release("v0.1", "index uuid tpuGen", ""),
            _release("v0.2", "index uuid tpuGen brand accelerator chipCount", "topology health"),
        ),
        instead={"memory": "tpuGen", "model": "accelerator", "type": "accelerator"},
    ),
    "gpu.example.com": Driver(
        (
            _release(
                "v0.4",
                "index uuid model driverVersion",
                "partition partitionable full",
                "memory compute",
            ),
        ),
    ),
}
