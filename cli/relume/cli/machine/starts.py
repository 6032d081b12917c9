"""Which cold starts an event waited for, and when each of them was."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from relume.base.vocabulary import Json
from relume.cli.machine.deliveries import Delivery, deliveries
from relume.cli.machine.reports import ColdStartReport, EventRecord


@dataclass(frozen=True, slots=True)
class Window:
    """From the arrival of the request that caused a start to its first token, or to its failure."""

    began: datetime
    ended: datetime
    phases: Mapping[str, float]
    """Milliseconds, in their order."""
    failed: bool = False

    @property
    def first_token(self) -> timedelta:
        """How long the last phase took, which follows when the process is ready."""
        return timedelta(milliseconds=self.phases.get("first_token", 0.0))


def window_of(start: ColdStartReport) -> Window | None:
    """Return when a start was; None where it is not known. Raises ValueError for what is no time.

    A start that failed under a plane of an earlier version has no end.
    """
    failed = start.ready is None and start.ended is not None
    queue = start.phases.get("queue", 0.0)
    if failed and start.ended is not None:
        total: float | None = queue + start.ended
    else:
        total = start.start_ms if start.start_ms is not None else start.ready
    if total is None or not start.at:
        return None
    began = datetime.fromisoformat(start.at) - timedelta(milliseconds=queue)
    phases = {name: max(ms, 0.0) for name, ms in start.phases.items()}
    return Window(began, began + timedelta(milliseconds=total), phases, failed)


def waited_for(
    records: Sequence[EventRecord], ledger: Sequence[ColdStartReport], answer: Json | None
) -> list[ColdStartReport]:
    """Return the starts that an event, or what came of it, waited for; oldest first.

    They are those that it triggered, and those of the services that it was sent to which ran while
    it had no replica yet. Where nothing else is known, its answer says that there was one, which is
    the last one of its service that began before the last record.
    """
    ids = {record.id for record in records}
    try:
        sent = deliveries(records)
        found = [start for start in ledger if start.triggered_by in ids or _met(start, sent)]
    except ValueError:
        found = [start for start in ledger if start.triggered_by in ids]
    if found or answer is None or not answer.get("coldstartms"):
        return found
    service = str(answer.get("source", "")).rpartition("/")[2]
    return [each for each in ledger if each.service == service and _before(each, records)][-1:]


def _before(start: ColdStartReport, records: Sequence[EventRecord]) -> bool:
    """Whether a start began before the last record; False where a time cannot be read."""
    try:
        last = max(datetime.fromisoformat(record.at) for record in records)
        return datetime.fromisoformat(start.at) < last
    except ValueError:
        return False


def _met(start: ColdStartReport, sent: Sequence[Delivery]) -> bool:
    """Whether a start ran while a request to its service waited for a replica."""
    window = window_of(start)
    if window is None:
        return False
    ready = window.ended if start.ready is None else window.ended - window.first_token
    for each in sent:
        ended = ready if each.ended is None else min(ready, each.ended)
        until = ended if each.waits_until is None else min(ended, each.waits_until)
        asked = each.service == f"{start.namespace}/{start.service}"
        if asked and max(each.began, window.began) < until:
            return True
    return False
