"""Which devices several services hold beside each other, as rows, bars and a picture.

A card is a device with all partitions that are cut from it. Each service takes a part of one, or
of several; those for which nothing is left are listed with the reason. One replica of each service
is counted, in the order of the files.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from relume.cluster.claims.devices import Device, DeviceId
from relume.cluster.claims.explain import ALONE, ClaimReport, Survey, title
from relume.cluster.claims.inventory import Inventory
from relume.cluster.claims.matching import consumed
from relume.cluster.claims.wording import names

SlotKind = Literal["whole device", "partition", "share", "takes turns", "not ours"]
CardId = tuple[str, str, str]
"""Driver, pool, and the device or the counter set that its partitions share."""

CARD_HEADERS = ("device", "on", "held", "GiB", "of", "services")
UNIT_HEADERS = ("service", "device", "on", "GiB", "how")
_WIDTH = 24
_MARKS = "#="
_MOST = 64  # cards that are all shown; of more, those that somebody holds
_GIB = 1 << 30
_SHARED: tuple[SlotKind, ...] = ("share", "takes turns")


@dataclass(frozen=True, slots=True)
class Slot:
    """What one service takes of a card. `bytes` is None where nothing accounts for its memory.

    `wants` is what its server takes of the memory, None where it does not say.
    """

    holder: str
    kind: SlotKind
    bytes: int | None
    wants: int | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """One card; `memory` in bytes, 0 where the driver publishes none."""

    ident: CardId
    node: str
    name: str
    what: str
    memory: int
    slots: tuple[Slot, ...] = ()

    @property
    def held(self) -> int:
        """Bytes that are accounted for."""
        return sum(slot.bytes or 0 for slot in self.slots)

    @property
    def overcommitted(self) -> str:
        """Why the servers on it cannot all start, empty where they can.

        vLLM ends at its start where less of the memory is free than its share
        (`vllm/v1/worker/utils.py`, request_memory).
        """
        together = [slot for slot in self.slots if slot.kind in _SHARED]
        if len(together) < 2:
            return ""
        silent = [slot.holder for slot in together if slot.wants is None]
        if silent:
            return (
                f"{', '.join(silent[:3])}{' and others' if len(silent) > 3 else ''}: nothing says "
                "what the server takes of the memory, and vLLM takes 0.92 of the device by itself"
            )
        wanted = sum(slot.wants or 0 for slot in together)
        if not self.memory or wanted <= self.memory:
            return ""
        return (
            f"the {len(together)} servers want {wanted / _GIB:,.1f} GiB, and the device has "
            f"{self.memory / _GIB:,.1f}: the last to start ends with too little free memory"
        )


@dataclass(frozen=True, slots=True)
class Packing:
    """All cards, and the services for which nothing is left with the reason."""

    cards: tuple[Card, ...]
    left: tuple[tuple[str, str], ...]

    @property
    def shown(self) -> tuple[Card, ...]:
        """The cards to show: all of a small inventory, of a large one those that are held."""
        if len(self.cards) <= _MOST:
            return self.cards
        return tuple(card for card in self.cards if card.slots)


def pack(found: Survey) -> Packing:
    """The cards of an inventory with what each unit holds beside the others."""
    cards, of_device = _cards(found.inventory)
    slots: dict[CardId, list[Slot]] = {}
    for ident, holder in found.inventory.used.items():
        _add(slots, of_device, ident, Slot(holder, "not ours", None))
    several = Counter(
        (report.unit.document.namespace, claim)
        for report in found.reports
        for claim in {entry[0] for entry in (report.placed.devices if report.placed else ())}
        if (report.unit.document.namespace, claim) in found.named
    )
    left: list[tuple[str, str]] = []
    for report in found.reports:
        if report.unit.claims and report.placed is None:
            why = report.beside.removeprefix(ALONE) or report.sentence
            left.append((short(report), why))
        seen: set[DeviceId] = set()
        for claim, request, device in report.placed.devices if report.placed else ():
            if device.ident not in seen:
                turns = several[report.unit.document.namespace, claim] > 1
                _add(slots, of_device, device.ident, _slot(report, claim, request, device, turns))
            seen.add(device.ident)
    filled = (replace(card, slots=tuple(slots.get(card.ident, ()))) for card in cards)
    return Packing(tuple(filled), tuple(left))


def _cards(inventory: Inventory) -> tuple[list[Card], Mapping[DeviceId, CardId]]:
    members: dict[CardId, list[Device]] = {}
    of_device: dict[DeviceId, CardId] = {}
    for pool in inventory.pools:
        for device in pool.devices:
            counter_set = next((name for name, _ in device.counters), None)
            ident = (device.driver, device.pool, counter_set or device.name)
            members.setdefault(ident, []).append(device)
            of_device[device.ident] = ident
    cards = []
    for ident, devices in members.items():
        largest = max(devices, key=_memory)  # the whole card, where it is one of them
        node = largest.placement.node or "any node"
        cards.append(Card(ident, node, largest.name, title(largest), _memory(largest)))
    return cards, of_device


def _memory(device: Device) -> int:
    found = device.capacity.get(f"{device.driver}/memory")
    return int(found.value) if found else 0


def _add(
    slots: dict[CardId, list[Slot]], cards: Mapping[DeviceId, CardId], device: DeviceId, one: Slot
) -> None:
    if device in cards:
        slots.setdefault(cards[device], []).append(one)


def _slot(report: ClaimReport, claim: str, request: str, device: Device, turns: bool) -> Slot:
    memory, server = _memory(device), report.unit.server
    wants = server.mebibytes << 20 if server.mebibytes is not None else None
    if server.share is not None:
        wants = int(server.share * memory)
    if turns:
        return Slot(short(report), "takes turns", None, wants)
    if device.shareable:
        asks = {(one.claim, one.request): one.ask for one in report.asks}
        taken = consumed(asks[claim, request], device) or {}
        amount = int(taken.get(f"{device.driver}/memory", 0))
        return Slot(short(report), "share", amount or None, wants)
    kind: SlotKind = "partition" if device.counters else "whole device"
    return Slot(short(report), kind, memory, wants)


def short(report: ClaimReport) -> str:
    """The name of a unit without its kind: `models/qwen`."""
    words = report.unit.title.split(" ")
    return words[1] if len(words) < 3 or words[2] == "predictor" else " ".join(words[1:3])


def unit_rows(packing: Packing) -> list[tuple[str, ...]]:
    """Each service with its devices, as rows under UNIT_HEADERS."""
    return [
        (slot.holder, card.name, card.node, _gib(slot.bytes or slot.wants), slot.kind)
        for card in packing.cards
        for slot in card.slots
        if slot.kind != "not ours"
    ]


def left_lines(packing: Packing) -> list[str]:
    """The services for which nothing is left: each reason once, with all whom it concerns."""
    by_reason: dict[str, list[str]] = {}
    for holder, why in packing.left:
        by_reason.setdefault(why, []).append(holder)
    return [f"no place for {names(holders)}: {why}" for why, holders in by_reason.items()]


def card_rows(packing: Packing) -> list[tuple[str, ...]]:
    """Each card with a bar of what is held, as rows under CARD_HEADERS."""
    return [
        (
            f"{card.name} ({card.what})",
            card.node,
            bar(card),
            _gib(card.held or sum(slot.wants or 0 for slot in card.slots)),
            _gib(card.memory),
            str(len(card.slots)),
        )
        for card in packing.shown
    ]


def bar(card: Card) -> str:
    """What is held of a card in 24 characters; neighbours have different marks, `.` is free."""
    marks, end = "", 0.0
    for number, (_, part) in enumerate(parts(card)):
        end += part * _WIDTH
        mark = _MARKS[number % len(_MARKS)]
        marks += mark * max(1, round(end) - len(marks))
    return marks[:_WIDTH].ljust(_WIDTH, ".")


def parts(card: Card) -> Iterator[tuple[Slot, float]]:
    """Each slot with its part of the card, from 0 to 1; what nobody accounts for is shared out."""
    known = [slot.bytes if slot.bytes is not None else slot.wants for slot in card.slots]
    for slot, amount in zip(card.slots, known, strict=True):
        if amount is None or not card.memory:
            yield slot, 1 / len(card.slots)
        else:
            yield slot, min(1.0, amount / card.memory)


def as_json(packing: Packing) -> dict[str, object]:
    """The packing as JSON values; memory in bytes."""
    return {
        "cards": [
            {
                "driver": card.ident[0],
                "pool": card.ident[1],
                "device": card.name,
                "node": card.node,
                "memory_bytes": card.memory,
                "held_bytes": card.held,
                "overcommitted": card.overcommitted or None,
                "services": [
                    {"name": s.holder, "how": s.kind, "bytes": s.bytes, "wants_bytes": s.wants}
                    for s in card.slots
                ],
            }
            for card in packing.shown
        ],
        "left": [{"name": holder, "why": why} for holder, why in packing.left],
    }


def _gib(amount: int | None) -> str:
    return "" if not amount else f"{amount / _GIB:,.1f}"
