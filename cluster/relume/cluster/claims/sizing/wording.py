"""A sizing in words, rows and documents."""

from collections.abc import Iterator
from dataclasses import asdict

from relume.cluster.claims.presets import extended_resource
from relume.cluster.claims.sizing.account import Option, Sizing

HEADERS = ("part", "GiB", "how")
SHARE_HEADERS = ("class", "of one device", "gpu memory utilization", "models of this size")
SHARE_TERMS = (
    "The scheduler accounts for the part, and nothing enforces it. The figures are for the "
    "smallest device of each class; Relume's runtime computes --gpu-memory-utilization for the "
    "device that it gets, another runtime needs it in args."
)
OPTION_HEADERS = ("", "devices", "class", "GiB needed of each", "GiB that each has")


def rows(option: Option) -> Iterator[tuple[str, str, str]]:
    """The account of one device, with the sum and what the device must have."""
    need = option.need
    for part in need.parts:
        yield part.name, gib(part.bytes), part.how
    yield "used", gib(need.used), "the sum"
    yield (
        "device",
        gib(need.memory),
        f"so that {need.utilization:g} of it (--gpu-memory-utilization) is enough",
    )


def option_rows(sizing: Sizing) -> list[tuple[str, ...]]:
    """The possible numbers of devices, each with the smallest class that is enough."""
    return [
        (
            "→" if option.advised else "",
            str(option.need.devices),
            option.preset.name,
            gib(option.need.memory),
            gib(option.preset.memory),
        )
        for option in sizing.options
    ]


def share_rows(sizing: Sizing) -> list[tuple[str, ...]]:
    """The part of one device of each class that the model takes, as rows under SHARE_HEADERS."""
    return [
        (one.preset.name, f"{one.utilization:.1%}", f"{one.utilization:g}", str(one.fit))
        for one in sizing.shares
    ]


def share_annotation(sizing: Sizing) -> str:
    """The annotation by which a service asks for its part."""
    return f"relume.dev/share: memory={sizing.shares[0].mebibytes}Mi"


def limits(option: Option) -> tuple[str, str]:
    """Name and amount for `resources.limits`."""
    return extended_resource(option.preset.name), str(option.need.devices)


def claim_template(option: Option) -> dict[str, object]:
    """A ResourceClaimTemplate that asks for the same devices."""
    exactly = {"deviceClassName": option.preset.name, "count": option.need.devices}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": f"{option.need.devices}x-{option.preset.name}"},
        "spec": {"spec": {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}}},
    }


def as_json(sizing: Sizing) -> dict[str, object]:
    """The whole sizing as JSON values; bytes are of one device."""
    advised = sizing.advised
    name, amount = limits(advised)
    cache = advised.need.cache
    return {
        "context": sizing.demand.context,
        "concurrency": sizing.demand.concurrency,
        "dtype": sizing.demand.dtype,
        "weights_bytes": sizing.weights.bytes,
        "kv_cache_bytes_per_token": cache.token_bytes,
        "kv_cache_bytes_per_block": cache.block_bytes,
        "devices": advised.need.devices,
        "class": advised.preset.name,
        "parts": [asdict(part) for part in advised.need.parts],
        "used_bytes": advised.need.used,
        "device_bytes": advised.need.memory,
        "limits": {name: amount},
        "claim_template": claim_template(advised),
        "notes": list(sizing.model.notes),
        "shares": [
            {
                "class": one.preset.name,
                "memory": f"{one.mebibytes}Mi",
                "gpu_memory_utilization": one.utilization,
                "models_of_this_size": one.fit,
            }
            for one in sizing.shares
        ],
        "options": [
            {
                "devices": option.need.devices,
                "class": option.preset.name,
                "device_bytes": option.need.memory,
                "advised": option.advised,
            }
            for option in sizing.options
        ],
    }


def gib(amount: int) -> str:
    """Bytes in GiB."""
    return f"{amount / 2**30:,.2f}"
