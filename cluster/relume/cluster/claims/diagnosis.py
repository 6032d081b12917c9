"""Why a node does not fit, found by leaving out one condition after another from the search."""

from dataclasses import dataclass

from relume.cluster.claims import quantity
from relume.cluster.claims.devices import split
from relume.cluster.claims.engine import Engine, Place
from relume.cluster.claims.matching import untolerated
from relume.cluster.claims.quantity import Quantity
from relume.cluster.claims.search import Aborted, Candidate, NumberedAsk, Undecided


@dataclass(frozen=True, slots=True)
class Lack:
    """What a node lacks, in words that follow "no node has …"; the nearest has the highest `order`.

    `rank` is the kind of lack, `near` how many devices there are all the same.
    """

    rank: int
    what: str
    near: int = 0

    @property
    def order(self) -> tuple[int, int]:
        return self.rank, self.near


NOTHING = Lack(0, "any devices")
_POOL, NO_MATCH, _FEW, _TAKEN, _TOGETHER, _SHARED, _CONSTRAINED = range(1, 8)


def lack_of(engine: Engine, place: Place) -> Lack:
    """The one thing in the way on a node where the claims cannot be allocated."""
    if place.incomplete:
        pool = place.incomplete[0]
        troubled = Lack(_POOL, f"a usable pool {pool.name} of {pool.driver}: {pool.trouble}")
        if not place.candidates or engine.wants_all:
            return troubled
    if not place.candidates:
        return NOTHING
    for asks in engine.problem.requests:
        short = [lack for one in asks if (lack := _shortage(engine, place, one)) is not None]
        if len(short) == len(asks):
            return _of_alternatives(short, engine.problem.request_of(asks[0]).name, asks)
    return _constraints(engine, place) or _shared(engine, place) or _together(engine)


def _of_alternatives(short: list[Lack], name: str, asks: tuple[NumberedAsk, ...]) -> Lack:
    nearest = max(short, key=lambda lack: lack.order)
    if len(short) == 1:
        return nearest
    each = "; ".join(f"{a.ask.name}: {lack.what}" for a, lack in zip(asks, short, strict=True))
    return Lack(nearest.rank, f"what any alternative of request {name} needs ({each})")


def _shortage(engine: Engine, place: Place, one: NumberedAsk) -> Lack | None:
    """What this ask alone is short of; None when it is not."""
    matching = [c for c in place.candidates if _matches(engine, one, c)]
    need = len(matching) or 1 if one.ask.mode == "All" else one.ask.count
    label = f"{one.ask.class_name} (request {one.ask.name})"
    if not matching:
        return Lack(NO_MATCH, f"a device that matches {label}")
    if len(matching) < need:
        what = f"{need} devices that match {label}, only {len(matching)}"
        return Lack(_FEW, what, len(matching))
    free = [c for c in matching if c.usable[one.number]]
    if len(free) >= need:
        return None
    what = f"{_devices(need, 'free ')} for {label}: {len(matching)} match"
    return Lack(_TAKEN, what + _why_not_free(engine, one, matching), len(free))


def _why_not_free(engine: Engine, one: NumberedAsk, matching: list[Candidate]) -> str:
    words = []
    used = [c for c in matching if c.device.ident in engine.inventory.used]
    if used and not one.ask.admin_access:
        by = dict.fromkeys(engine.inventory.used[c.device.ident] for c in used)
        words.append(f"{len(used)} in use by {', '.join(list(by)[:3])}")
    taints = [t for c in matching if (t := untolerated(one.ask, c.device)) is not None]
    if taints:
        words.append(f"{len(taints)} tainted {', '.join(dict.fromkeys(map(str, taints)))}")
    small = [c for c in matching if c.takes[one.number] is None]
    if small:
        words.append(f"{len(small)} without the capacity asked for")
    return "".join(f", {word}" for word in words)


def _matches(engine: Engine, one: NumberedAsk, candidate: Candidate) -> bool:
    verdict = candidate.verdicts[one.number]
    if verdict == "in use":
        return engine.matchers[one.number].decide(candidate.device).verdict == "match"
    return verdict == "match"


def _constraints(engine: Engine, place: Place) -> Lack | None:
    everything = range(len(engine.problem.constraints))
    if not everything or not _solves(engine, place, *everything):
        return None
    alone = [i for i in everything if _solves(engine, place, i)]
    blamed = alone[:1] or list(everything)
    return Lack(_CONSTRAINED, " and ".join(_broken(engine, place, i) for i in blamed))


def _broken(engine: Engine, place: Place, number: int) -> str:
    constraint = engine.problem.constraints[number]
    concerned = list(engine.problem.concerned(number))
    matching = [c for c in place.candidates if any(_matches(engine, o, c) for o in concerned)]
    if not any(c.values[number] for c in matching):
        return f"a matching device with the attribute {constraint.attribute}"
    # Of the alternatives of a request, the first stands for it.
    counts = {(one.claim, one.request): one.ask.count for one in reversed(concerned)}
    what = "differ in" if constraint.distinct else "share"
    return f"{_devices(sum(counts.values()))} that {what} {constraint.attribute}"


def _shared(engine: Engine, place: Place) -> Lack | None:
    if _solves(engine, place, "counters"):
        sets = sorted({key[2] for key in place.counters})
        return Lack(
            _SHARED,
            "enough left of the hardware that its partitions share (counter sets "
            f"{', '.join(sets[:4])}{', …' if len(sets) > 4 else ''})",
        )
    if _solves(engine, place, "capacity"):
        return Lack(_SHARED, f"enough capacity left on its shared devices{_room(engine, place)}")
    return None


def _room(engine: Engine, place: Place) -> str:
    """How much of each capacity that is short was asked for, and the most that a device has."""
    short: dict[str, tuple[Quantity, Quantity]] = {}
    for one in engine.problem.asks:
        for candidate in place.candidates:
            device, takes = candidate.device, candidate.takes[one.number]
            if not candidate.usable[one.number] or not device.shareable or not takes:
                continue
            gone = engine.inventory.consumed.get(device.ident, {})
            for name, amount in takes.items():
                left = device.capacity[name].value - gone.get(name, 0)
                short[name] = amount, max(left, short.get(name, (amount, left))[1])
    words = (
        f"{split(name)[1]}: {quantity.write(asked)} asked for, at most {quantity.write(most)} left"
        for name, (asked, most) in short.items()
        if asked > most
    )
    return "".join(f" ({word} of one)" for word in words)


def _together(engine: Engine) -> Lack:
    requests = len(engine.problem.requests)
    return Lack(_TOGETHER, f"devices for all {requests} requests at once: they want the same")


def _solves(engine: Engine, place: Place, *ignore: object) -> bool:
    try:
        return engine.search(place, *ignore).run() is not None
    except (Aborted, Undecided):
        return False


def _devices(count: int, kind: str = "") -> str:
    return f"{count} {kind}device{'' if count == 1 else 's'}"
