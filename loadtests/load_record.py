"""What is kept of one load test: samples of the plane, its cold starts, and every request.

All moments are seconds since the test began. The report is drawn from this alone, so a record that
was kept can be drawn again. Lists are kept as columns, which makes the file small.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from load_plan import Stage

from relume.base.errors import InvalidInput
from relume.cli.machine.reports import ColdStartReport, Status


class NoRecord(InvalidInput):
    """The file is no record of a load test; the message names it."""

    reason = "no-record"


@dataclass(frozen=True, slots=True)
class Sample:
    """The plane at one moment, all its services, Brokers, Triggers and queues together."""

    at: float
    state: str
    """The states of its services, such as `zero` or `starting`; several are joined by a comma."""
    replicas: int
    desired: int
    held: int
    """Requests that wait for a replica or for room in one."""
    in_flight: int
    accepted: int
    """Events that Brokers took from producers; answers that come back are not counted."""
    delivered: int
    backlog: int
    """Events that no Trigger has settled: waiting, or being delivered."""
    retried: int
    dead: int
    jobs_waiting: int
    jobs_running: int
    memory_mb: float
    """What predictors and the template hold."""

    @classmethod
    def of(cls, status: Status, at: float) -> Self:
        services, triggers = status.serving.services, status.eventing.triggers
        queues = status.jobs.queues
        return cls(
            at=round(at, 2),
            state=", ".join(sorted({service.state for service in services})),
            replicas=sum(service.replicas for service in services),
            desired=sum(service.desired for service in services),
            held=sum(service.held for service in services),
            in_flight=sum(service.in_flight for service in services),
            # A Broker counts the answers that Triggers put back into it as accepted, too.
            accepted=sum(broker.accepted for broker in status.eventing.brokers)
            - sum(trigger.replied for trigger in triggers),
            delivered=sum(trigger.delivered for trigger in triggers),
            backlog=sum(trigger.pending + trigger.in_flight for trigger in triggers),
            retried=sum(trigger.retried for trigger in triggers),
            dead=sum(trigger.dead_lettered for trigger in triggers),
            jobs_waiting=sum(queue.waiting for queue in queues),
            jobs_running=sum(queue.running or 0 for queue in queues),
            memory_mb=round(status.serving.memory.used / 1e6, 1),
        )

    def counted_from(self, first: "Sample", at: float) -> "Sample":
        """The same at the moment `at`, with the counters less what they were in `first`."""
        return replace(
            self,
            at=round(at, 2),
            accepted=self.accepted - first.accepted,
            delivered=self.delivered - first.delivered,
            retried=self.retried - first.retried,
            dead=self.dead - first.dead,
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that has ended; `first` is None where nothing streamed."""

    kind: str
    loop: str
    tenant: str
    due: float
    sent: float
    ended: float
    first: float | None
    gaps_ms: tuple[float, ...]
    """Milliseconds between the parts of its stream."""
    tokens: int
    outcome: str
    error: str | None

    @property
    def seconds(self) -> float:
        """From when it was due to its end."""
        return self.ended - self.due

    @property
    def late(self) -> float:
        """How long after it was due the load generator sent it."""
        return self.sent - self.due

    @classmethod
    def of(cls, line: Mapping[str, Any], origin: float) -> Self:
        """From a line that locust's side wrote, whose moments are of the monotonic clock."""
        parts = [float(part) for part in line["parts"]]
        gaps = (round((b - a) * 1000, 1) for a, b in pairwise(parts))
        first = line["first"]
        return cls(
            kind=line["kind"],
            loop=line["loop"],
            tenant=line["tenant"],
            due=round(line["due"] - origin, 3),
            sent=round(line["sent"] - origin, 3),
            ended=round(line["ended"] - origin, 3),
            first=None if first is None else round(first - origin, 3),
            gaps_ms=tuple(gaps),
            tokens=int(line["tokens"]),
            outcome=line["outcome"],
            error=line["error"],
        )


@dataclass(frozen=True, slots=True)
class ColdStart:
    """One start of a predictor; milliseconds by phase, in their order."""

    at: float
    service: str
    started: str
    outcome: str
    total_ms: float | None
    phases_ms: dict[str, float]

    @classmethod
    def of(cls, entry: ColdStartReport, at: float) -> Self:
        return cls(
            round(at, 2),
            entry.service,
            entry.started or "",
            entry.outcome,
            entry.total,
            dict(entry.phases),
        )


@dataclass(frozen=True, slots=True)
class Record:
    """One load test. `about` is what a reader is told of it: names and values."""

    about: tuple[tuple[str, str], ...]
    stages: tuple[Stage, ...]
    samples: tuple[Sample, ...]
    asked: tuple[Asked, ...]
    cold_starts: tuple[ColdStart, ...] = field(default=())

    @property
    def seconds(self) -> float:
        """The length of the plan, or up to the last thing that is known, if that is later."""
        last = [item.at for item in self.samples[-1:]] + [item.ended for item in self.asked]
        return max([sum(stage.seconds for stage in self.stages), *last])

    def write(self, path: Path) -> None:
        kept = {
            "about": self.about,
            "stages": _columns(self.stages),
            "samples": _columns(self.samples),
            "asked": _columns(self.asked),
            "cold_starts": _columns(self.cold_starts),
        }
        path.write_text(json.dumps(kept, separators=(",", ":")) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises NoRecord."""
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                about=tuple((name, value) for name, value in kept["about"]),
                stages=tuple(Stage(**row) for row in _rows(kept["stages"])),
                samples=tuple(Sample(**row) for row in _rows(kept["samples"])),
                asked=tuple(
                    Asked(**{**row, "gaps_ms": tuple(row["gaps_ms"])})
                    for row in _rows(kept["asked"])
                ),
                cold_starts=tuple(ColdStart(**row) for row in _rows(kept["cold_starts"])),
            )
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise NoRecord(f"{path} is not the record of a load test: {error}") from None


def asked_in(lines: Iterable[str]) -> tuple[float, tuple[Asked, ...]]:
    """The test's moment zero (monotonic clock) and the requests of a file of locust's side."""
    first, *others = (json.loads(line) for line in lines)
    origin = float(first["origin"])
    asked = (Asked.of(line, origin) for line in others)
    return origin, tuple(sorted(asked, key=lambda each: each.due))


def _columns(rows: Iterable[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in asdict(row).items():
            found.setdefault(name, []).append(value)
    return found


def _rows(columns: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
