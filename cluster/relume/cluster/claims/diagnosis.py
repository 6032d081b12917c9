"""Why a node does not fit, found by leaving one condition after the other out of the search."""

from dataclasses import dataclass

from relume.cluster.claims.engine import Engine, Place
from relume.cluster.claims.matching import tolerated
from relume.cluster.claims.problem import Aborted, Candidate, Numbered, Undecided


@dataclass(frozen=True, slots=True)
class Reason:
    """What the node lacks, as the end of "no node has …"; the nearest has the highest `order`."""

    rank: int
    lacks: str
    near: int = 0

    @property
    def order(self) -> tuple[int, int]:
        """By kind of reason, then by how many devices there are."""
        return self.rank, self.near


NOTHING = Reason(0, "any devices")
_POOL, _NO_MATCH, _FEW, _TAKEN, _TOGETHER, _SHARED, _CONSTRAINED = range(1, 8)


def blame(engine: Engine, place: Place) -> Reason:
    """The one thing in the way on a node where the claims cannot be allocated."""
    if place.incomplete:
        pool = place.incomplete[0]
        troubled = Reason(_POOL, f"a usable pool {pool.name} of {pool.driver}: {pool.trouble}")
        if not place.candidates or _any_all(engine):
            return troubled
    if not place.candidates:
        return NOTHING
    for claim, own in zip(engine.problem.claims, engine.problem.asks, strict=True):
        for number, asks in enumerate(own):
            short = [_shortage(engine, place, one) for one in asks]
            if all(reason is not None for reason in short):
                name = claim.requests[number].name
                return _of_alternatives([r for r in short if r is not None], name, asks)
    return _constraints(engine, place) or _shared(engine, place) or _together(engine)


def _any_all(engine: Engine) -> bool:
    return any(one.ask.mode == "All" for _, _, one in engine.problem.each_ask())


def _of_alternatives(short: list[Reason], name: str, asks: tuple[Numbered, ...]) -> Reason:
    nearest = max(short, key=lambda reason: reason.order)
    if len(short) == 1:
        return nearest
    each = "; ".join(f"{a.ask.name}: {r.lacks}" for a, r in zip(asks, short, strict=True))
    return Reason(nearest.rank, f"what any alternative of request {name} needs ({each})")


def _shortage(engine: Engine, place: Place, one: Numbered) -> Reason | None:
    """What this ask alone is short of; None when it is not."""
    matching = [c for c in place.candidates if _matches(engine, one, c)]
    need = len(matching) or 1 if one.ask.mode == "All" else one.ask.count
    label = f"{one.ask.class_name} (request {one.ask.name})"
    if not matching:
        return Reason(_NO_MATCH, f"a device that matches {label}")
    if len(matching) < need:
        return Reason(
            _FEW, f"{need} devices that match {label}, only {len(matching)}", len(matching)
        )
    free = [c for c in matching if c.usable[one.number]]
    if len(free) >= need:
        return None
    lacks = f"{_devices(need, 'free ')} for {label}: {len(matching)} match"
    return Reason(_TAKEN, lacks + _why_not_free(engine, one, matching), len(free))


def _why_not_free(engine: Engine, one: Numbered, matching: list[Candidate]) -> str:
    words = []
    used = [c for c in matching if c.device.ident in engine.inventory.used]
    if used and not one.ask.admin_access:
        by = dict.fromkeys(engine.inventory.used[c.device.ident] for c in used)
        words.append(f"{len(used)} in use by {', '.join(list(by)[:3])}")
    taints = [t for c in matching if (t := tolerated(one.ask, c.device)) is not None]
    if taints:
        kinds = dict.fromkeys(f"{t.key}={t.value}:{t.effect}" for t in taints)
        words.append(f"{len(taints)} tainted {', '.join(kinds)}")
    small = [c for c in matching if c.takes[one.number] is None]
    if small:
        words.append(f"{len(small)} without the capacity asked for")
    return ", " + ", ".join(words) if words else ""


def _matches(engine: Engine, one: Numbered, candidate: Candidate) -> bool:
    verdict = candidate.verdicts[one.number]
    if verdict == "in use":
        return engine.matchers[one.number].decide(candidate.device).verdict == "match"
    return verdict == "match"


def _constraints(engine: Engine, place: Place) -> Reason | None:
    problem = engine.problem
    everything = range(len(problem.constraints))
    if not problem.constraints or not _solves(engine, place, *everything):
        return None
    alone = [i for i in everything if _solves(engine, place, i)]
    blamed = alone[:1] or list(everything)
    return Reason(_CONSTRAINED, " and ".join(_broken(engine, place, i) for i in blamed))


def _broken(engine: Engine, place: Place, number: int) -> str:
    constraint = engine.problem.constraints[number]
    concerned = [one for _, _, one in engine.problem.each_ask() if number in one.constraints]
    matching = [c for c in place.candidates if any(_matches(engine, o, c) for o in concerned)]
    if not any(c.values[number] for c in matching):
        return f"a matching device with the attribute {constraint.attribute}"
    # Of the alternatives of a request, the first stands for it.
    requests = {
        (id(c), r): o.ask.count
        for c, r, o in reversed(list(engine.problem.each_ask()))
        if number in o.constraints
    }
    what = "differ in" if constraint.distinct else "share"
    return f"{_devices(sum(requests.values()))} that {what} {constraint.attribute}"


def _shared(engine: Engine, place: Place) -> Reason | None:
    if _solves(engine, place, "counters"):
        sets = sorted({key[2] for key in place.counters})
        return Reason(
            _SHARED,
            "enough left of the hardware that its partitions share (counter sets "
            f"{', '.join(sets[:4])}{', …' if len(sets) > 4 else ''})",
        )
    if _solves(engine, place, "capacity"):
        return Reason(_SHARED, "enough capacity left on its shared devices")
    return None


def _together(engine: Engine) -> Reason:
    requests = len({(id(c), r) for c, r, _ in engine.problem.each_ask()})
    return Reason(_TOGETHER, f"devices for all {requests} requests at once: they want the same")


def _solves(engine: Engine, place: Place, *ignore: object) -> bool:
    try:
        return engine.search(place, *ignore).run() is not None
    except (Aborted, Undecided):
        return False


def _devices(count: int, kind: str = "") -> str:
    return f"{count} {kind}device{'' if count == 1 else 's'}"
