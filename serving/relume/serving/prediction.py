"""When a start will be over, from the starts that the ledger remembers. Pure.

A start is predicted from the last starts of the same service of the same kind (template, fresh). A
service that has none is predicted from the starts of the other services of this machine. Each of
them gives one time: its own, with the phases that are over here replaced by what they took here. So
only the phases that are left are guessed. The prediction is the median of these times. What a start
has waited for before its process began is no part of it.

A prediction that has turned out to be wrong is not told any more (`told_ms`). Starts from before a
change of the service are left out as soon as two starts show the change (`_since_a_change`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from relume.base.vocabulary import MEMORY_PHASE, PREDICTOR_PHASES
from relume.serving.ledger import ColdStart

#: So many starts are looked at: enough for a median, and few enough to follow a change.
NEWEST = 20
# An interval between two answers counts for so much less after so many more of them.
_COUNTED = 16
# Starts that differ by more than this factor are those of different models, disks or machines.
_ALIKE = 2.0
# A phase may always take so much longer than predicted before that is called late, in ms.
_LATE_MS = 1000.0
# A process is ready before the first token.
_BEFORE_READY = PREDICTOR_PHASES[: PREDICTOR_PHASES.index("first_token")]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is predicted for: a service, and whether it is a model or a function."""

    namespace: str
    service: str
    is_model: bool = True


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a start is. `started` is its kind, None where it is not known yet; times in ms."""

    started: str | None = None
    elapsed: float = 0.0
    """Since the process was asked for."""
    phase: str = ""
    """The phase that runs, "" where the process has told none."""
    phases: Mapping[str, float] = field(default_factory=dict)
    """The phases that are over."""

    def to_json(self) -> dict[str, object]:
        """Return how far the start is, in ms rounded to 0.1."""
        return {
            "started": self.started,
            "elapsed": round(self.elapsed, 1),
            "phases": {name: round(ms, 1) for name, ms in self.phases.items()},
        }


NOT_STARTED = Progress()


class Pace:
    """How fast requests are answered while others wait. Times in seconds."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._mean: float | None = None

    def left(self, now: float, held: int) -> None:
        """A request was answered at `now`, and so many wait behind it."""
        if self._last is not None:
            took = now - self._last
            self._mean = took if self._mean is None else self._mean + (took - self._mean) / _COUNTED
        self._last = now if held else None

    def ends_in_s(self, held: int) -> float | None:
        """Predict when the last of so many requests has a replica; None where nothing tells."""
        return None if self._mean is None else self._mean * held


def left_ms(
    history: Sequence[ColdStart], subject: Subject, progress: Progress = NOT_STARTED
) -> float | None:
    """Predict in how many ms the process will be ready; None where no start is remembered.

    history: the ledger's entries, oldest first. 0 where the start takes longer than was predicted.
    """
    found = [_left(entry, progress) for entry in alike(history, subject, progress.started)]
    return median(found) if found else None


def told_ms(
    history: Sequence[ColdStart], subject: Subject, progress: Progress = NOT_STARTED
) -> float | None:
    """Return what `left_ms` predicts, or None where somebody who waits is better told nothing.

    That is while the start waits for memory, which nobody can predict, and while its phase is late:
    the time that was said to be left has passed once more, and the phase is still the same.
    """
    if progress.phase == MEMORY_PHASE:
        return None
    left = left_ms(history, subject, progress)
    if left is None:
        return None
    late = [_late(entry, progress) for entry in alike(history, subject, progress.started)]
    return None if median(late) > max(left, _LATE_MS) else left


def first_byte_ms(history: Sequence[ColdStart], subject: Subject) -> float | None:
    """Predict how long a request at zero waits for its first byte; None as for `left_ms`."""
    totals = [entry.total for entry in alike(history, subject, None) if entry.total is not None]
    return median(totals) if totals else None


def alike(
    history: Sequence[ColdStart], subject: Subject, started: str | None
) -> Sequence[ColdStart]:
    """Return the starts to predict from: the newest ones that succeeded, newest first.

    Where `started` is None, the kind is that of the newest start of the service.
    """
    ready = [entry for entry in reversed(history) if _succeeded(entry)]
    own = [e for e in ready if (e.namespace, e.service) == (subject.namespace, subject.service)]
    kind = started or (own[0].started if own else None)
    if same := _of_kind(own, kind):
        return _since_a_change(same[:NEWEST])
    others = (entry for entry in ready if _is_model(entry) is subject.is_model)
    return _of_kind(others, kind)[:NEWEST]


def _since_a_change(newest_first: Sequence[ColdStart]) -> Sequence[ColdStart]:
    """Return the starts that are like the newest two, up to the first one that is not.

    Where these two are not alike, one of them is an exception, and all starts count.
    """
    if len(newest_first) < 3:
        return newest_first
    one, two = (_whole(entry) for entry in newest_first[:2])
    if max(one, two) > _ALIKE * min(one, two):
        return newest_first
    now = (one + two) / 2
    changed = (
        i
        for i, entry in enumerate(newest_first)
        if max(_whole(entry), now) > _ALIKE * min(_whole(entry), now)
    )
    return newest_first[: next(changed, len(newest_first))]


def _of_kind(entries: Iterable[ColdStart], kind: str | None) -> list[ColdStart]:
    return [entry for entry in entries if kind is None or entry.started == kind]


def _succeeded(entry: ColdStart) -> bool:
    return entry.outcome == "ready" and entry.ready is not None


def _is_model(entry: ColdStart) -> bool:
    """Whether a model was loaded; a function has other phases, which its launcher measures."""
    return any(name in entry.phases for name in PREDICTOR_PHASES)


def _left(entry: ColdStart, progress: Progress) -> float:
    """Return what would be left if the rest took as long as in `entry`."""
    if progress.phase and progress.phase not in PREDICTOR_PHASES:
        return _whole(entry)  # its process has not begun
    return max(_by_the_clock(entry, progress), _still_to_come(entry, progress), 0.0)


def _late(entry: ColdStart, progress: Progress) -> float:
    """Return by how much the running phase takes longer than in `entry`; negative: it does not."""
    return max(_still_to_come(entry, progress), 0.0) - _by_the_clock(entry, progress)


def _by_the_clock(entry: ColdStart, progress: Progress) -> float:
    """Return when the start would be over, however far it is; negative where that is past."""
    over = [name for name in progress.phases if name in _BEFORE_READY]
    later = sum(progress.phases[name] - entry.phases.get(name, 0.0) for name in over)
    return _whole(entry) + later - (progress.elapsed - _waited(progress.phases))


def _whole(entry: ColdStart) -> float:
    """Return how long a start took, without what it waited for before its process began."""
    assert entry.ready is not None
    return entry.ready - _waited(entry.phases)


def _waited(phases: Mapping[str, float]) -> float:
    """Return for how many ms the start waited for room in memory, before its process began."""
    return phases.get(MEMORY_PHASE, 0.0)


def _still_to_come(entry: ColdStart, progress: Progress) -> float:
    """Return the phases of `entry` that have not begun here: so much is left at least."""
    if progress.phase not in _BEFORE_READY:
        return 0.0
    after = _BEFORE_READY[_BEFORE_READY.index(progress.phase) + 1 :]
    return sum(entry.phases.get(name, 0.0) for name in after if name not in progress.phases)
