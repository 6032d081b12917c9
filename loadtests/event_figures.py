"""What `eventing.py` found: its figures, their targets, and how they are shown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from event_programs import BATCH, PRODUCERS, Posted
from event_scenes import Cpu
from figures import Json, verdict
from rich.text import Text

#: Knative's mt-channel Broker on InMemoryChannel, nothing durable: one Trigger, an echo
#: subscriber, 1 KiB events, 64 producers, the cluster and the load generator on 2 cores
#: (Knative Eventing 1.22 in a local cluster, our own measurement of 2026-11).
PEER = "Knative, in memory"
PEER_EVENTS_PER_S = 1168.0
PEER_P50_MS, PEER_P99_MS = 51.0, 129.0


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `least` or `below` is its target; `peer` what it is held beside."""

    name: str
    value: float
    unit: str
    least: float | None = None
    below: float | None = None
    peer: float | None = None
    digits: int = 0

    @property
    def holds(self) -> bool | None:
        if self.least is not None:
            return self.value >= self.least
        return self.value < self.below if self.below is not None else None

    @property
    def target(self) -> str:
        if self.least is not None:
            return f"≥ {self.least:,g}"
        return f"< {self.below:,g}" if self.below is not None else ""

    def cells(self) -> list[str | Text]:
        return [
            self.name,
            f"{self.value:,.{self.digits}f} {self.unit}",
            "" if self.peer is None else f"{self.peer:,.{self.digits}f}",
            self.target,
            verdict(self.holds),
        ]

    def to_json(self) -> Json:
        return {
            "name": self.name,
            "value": round(self.value, 3),
            "unit": self.unit,
            "peer": self.peer,
            "target": self.target or None,
            "holds": self.holds,
        }


@dataclass(frozen=True, slots=True)
class Sustained:
    """End to end, one event a request."""

    posted: Posted
    seconds: float
    delivered: int  # in these seconds
    slowest: float  # delivered a second, in the slowest ten seconds
    repeated: int
    cpu: Cpu

    def rows(self) -> list[Row]:
        posted = self.posted
        delivered = self.delivered / self.seconds
        return [
            Row("accepted", posted.rate, "events/s", peer=PEER_EVENTS_PER_S),
            Row("delivered, acknowledged", delivered, "events/s", 1500, peer=PEER_EVENTS_PER_S),
            Row("  in the slowest 10 s", self.slowest, "events/s"),
            Row("ingress p50", posted.p50_ms, "ms", peer=PEER_P50_MS, digits=1),
            Row("ingress p99", posted.p99_ms, "ms", below=60, peer=PEER_P99_MS, digits=1),
            Row("ingress longest", posted.longest_ms, "ms", digits=1),
            Row("delivered twice", self.repeated, "events"),
        ]

    def cpu_rows(self) -> list[Row]:
        used = {
            "plane": self.cpu.plane,
            "nats-server": self.cpu.nats,
            "subscriber": self.cpu.subscriber,
            f"{PRODUCERS} producers": self.posted.cpu_s,
        }
        events = self.posted.events
        return [Row(name, seconds * 1e6 / events, "µs/event") for name, seconds in used.items()]


@dataclass(frozen=True, slots=True)
class Rates:
    """One turn: events a second, and the CPU time of plane and nats-server for each, in µs."""

    ingress: float
    dispatch: float
    ingress_us: float
    dispatch_us: float


@dataclass(frozen=True, slots=True)
class Backlog:
    """What changes when many events wait: turns with an empty log and beside it, memory in MB.

    `plane_mb` and `nats_mb` are before and after it came; `serving_s` is how long starts took, to
    the first event accepted, by how the plane ended before.
    """

    events: int
    batched: Posted
    empty: tuple[Rates, ...]
    full: tuple[Rates, ...]
    plane_mb: tuple[float, float]
    nats_mb: tuple[float, float]
    serving_s: Mapping[str, tuple[float, ...]]

    def rows(self) -> list[Row]:
        growth = self.plane_mb[1] - self.plane_mb[0]
        return [
            Row(f"batched ingress, {BATCH} a batch", self.batched.rate, "events/s", 8000),
            *self._compared("ingress", lambda turn: turn.ingress, lambda turn: turn.ingress_us),
            *self._compared("dispatch", lambda turn: turn.dispatch, lambda turn: turn.dispatch_us),
            Row("memory of the plane", self.plane_mb[1], "MB"),
            Row("  more than without", growth, "MB", below=50),
            Row("memory of nats-server", self.nats_mb[1], "MB"),
            *(
                Row(f"serving after {how}", median(times), "s", below=3, digits=2)
                for how, times in self.serving_s.items()
            ),
        ]

    def _compared(
        self, what: str, rate: Callable[[Rates], float], us: Callable[[Rates], float]
    ) -> list[Row]:
        """Medians; the ratios are taken turn by turn, so that both saw the same machine."""
        turns = list(zip(self.empty, self.full, strict=True))
        ratios = [rate(full) / rate(empty) for empty, full in turns]
        return [
            Row(f"{what}, empty log", median(map(rate, self.empty)), "events/s"),
            Row(f"{what}, backlog", median(map(rate, self.full)), "events/s"),
            Row(f"  {what}, ratio", median(ratios), "", 0.9, digits=2),
            Row("    least", min(ratios), "", digits=2),
            Row("    most", max(ratios), "", digits=2),
            Row(
                "    CPU time", median(us(full) / us(empty) for empty, full in turns), "", digits=2
            ),
        ]


def ceiling_rows(ceiling: Mapping[str, float], sustained: Sustained) -> list[Row]:
    """Raw JetStream, and how much of it is left with everything of ours in between."""
    published, consumed = ceiling["published_per_s"], ceiling["consumed_per_s"]
    delivered = sustained.delivered / sustained.seconds
    return [
        Row("published, acknowledged", published, "events/s"),
        Row("  accepted by the Broker", sustained.posted.rate / published, "of it", digits=3),
        Row("fetched, acknowledged", consumed, "events/s"),
        Row("  delivered by the Broker", delivered / consumed, "of it", digits=3),
    ]


def missed(groups: Sequence[Sequence[Row]]) -> list[str]:
    """The names of the figures that miss their target."""
    return [row.name.strip() for rows in groups for row in rows if row.holds is False]
