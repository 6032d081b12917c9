"""How a service shares its device with others: the annotation `relume.dev/share`.

memory=6Gi    a claim of its own for a part of a device's memory (consumable capacity, KEP-5075)
shares=2      the same, where the driver publishes a number of shares for each device
claim=NAME    one ResourceClaim for all services of the namespace that name it (time slices)

The parts are separated by commas. Beside `claim`, `memory` is what the server takes of the device;
nothing accounts for it. In none of these forms is memory enforced: only a MIG partition, which is
a DeviceClass of its own in `limits`, has memory that others cannot take.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from relume.base.vocabulary import SHARE, JsonValue
from relume.cluster.admission.judge import content, entries
from relume.cluster.claims import quantity
from relume.cluster.render.originals import ANNOTATIONS, MODEL, Original
from relume.config.names import is_dns_label
from relume.config.nodes import Node

_MIB = 1 << 20
_WHOLE = re.compile(r"[1-9][0-9]{0,3}")
_BOUNDS = ("--gpu-memory-utilization", "--kv-cache-memory-bytes", "--mem-fraction-static")
_FORM = "write memory=6Gi, shares=2 or claim=NAME, separated by commas"
_NOT_ENFORCED = (
    "nothing enforces it: a process that takes more leaves less for the others on the card"
)


@dataclass(frozen=True, slots=True)
class Share:
    """What of a device a service takes; `claim` is "" where each pod has a claim of its own."""

    node: Node
    claim: str = ""
    memory_mib: int | None = None
    shares: int | None = None

    @property
    def capacity(self) -> dict[str, JsonValue]:
        """The `capacity.requests` of its claim; empty where one claim serves several services."""
        if self.claim:
            return {}
        asked: dict[str, JsonValue] = {}
        if self.memory_mib is not None:
            asked["memory"] = f"{self.memory_mib}Mi"
        if self.shares is not None:
            asked["shares"] = str(self.shares)
        return asked

    @property
    def terms(self) -> str:
        """What the share guarantees, what it does not, and what the cluster needs for it."""
        if self.claim:
            return (
                f"the services that name {self.claim} take turns on one device (time slices): "
                "their pods all run on its node, in one namespace, and nothing accounts for memory "
                f"or time; {_NOT_ENFORCED}"
            )
        mode = "memory" if self.shares is None else "a number, such as 4"
        return (
            f"the scheduler accounts for this part of a device, and {_NOT_ENFORCED}; the cluster "
            "needs Kubernetes 1.36 (DRAConsumableCapacity) and a driver that publishes "
            "allowMultipleAllocations: NVIDIA's since v0.5, with "
            f"featureGates.ConsumableShares=true and consumableShares={mode}"
        )


def read_share(original: Original, vendor: str | None, requests: int) -> Share | None:
    """The share of a service whose `limits` ask `requests` times for devices of `vendor`.

    Raises InvalidManifest for what cannot be read, and for what cannot work.
    """
    node = original.node(*ANNOTATIONS, SHARE)
    if node is None:
        return None
    share = _parsed(node)
    if requests != 1:
        raise node.wrong("a share stands beside one device in model.resources.limits")
    if vendor == "Google":
        raise node.wrong(
            "a TPU chip is opened by one process alone, whatever the claim says: ask for chips of "
            "its own, without the annotation"
        )
    bounded = share.memory_mib is not None or _bounds(entries(original.node(*MODEL, "args")))
    if not bounded:
        raise node.wrong(
            "a server takes 0.92 of the device by itself, so that the next one on it does not "
            "start: add memory=… here, or --gpu-memory-utilization to model.args; relume claims "
            "size says how much"
        )
    return share


def _bounds(arguments: Sequence[Node]) -> bool:
    words = {content(one).partition("=")[0].replace("_", "-") for one in arguments}
    return not words.isdisjoint(_BOUNDS)


def _parsed(node: Node) -> Share:
    found: dict[str, str] = {}
    for part in node.text().split(","):
        name, equals, value = part.strip().partition("=")
        if name not in ("memory", "shares", "claim") or not equals or name in found:
            raise node.wrong(f"invalid value: {part.strip()}: {_FORM}")
        found[name] = value
    claim, shares = found.get("claim", ""), found.get("shares")
    if "claim" in found and not is_dns_label(claim):
        raise node.wrong(f"claim={claim}: a name has lower case letters, digits and '-'")
    if shares is not None and not _WHOLE.fullmatch(shares):
        raise node.wrong(f"shares={shares}: shares are counted in whole numbers from 1")
    if claim and shares is not None:
        raise node.wrong("shares are of a claim of its own: write shares or claim, not both")
    memory = _mebibytes(node, found["memory"]) if "memory" in found else None
    return Share(node, claim, memory, None if shares is None else int(shares))


def _mebibytes(node: Node, text: str) -> int:
    try:
        amount = quantity.parse(text)
    except ValueError as error:
        raise node.wrong(f"memory={text}: {error}") from error
    if amount < _MIB or amount % _MIB:
        raise node.wrong(f"memory={text}: write whole MiB, as in 6Gi or 6144Mi")
    return int(amount) // _MIB
