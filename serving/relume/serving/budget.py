"""Which replicas may be in memory now, which must go for others, and who waits.

Pure: the caller tells what happened and when, and carries out the effects of each `step`.

Where a replica does not fit, room is made in this order: what is free; what nobody uses, the one
unused longest first (a replica of an idle service, or something that is kept at zero); and last a
busy replica, whose turn ends once somebody has waited `Rules.wait_s` for it. Only a replica that
requests wait for makes others go; a further replica of a service that has one takes free memory.

What holds: the granted bytes are never more than the total. No busy replica goes before its turn of
`Rules.turn_s` is over. Two services do not take each other's place more often than that. A replica
that requests wait for is granted within `wait_s` plus, for itself and for each that waits before
it, one start, one `turn_s` and one drain.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from relume.serving.predictor import Kept
from relume.serving.room import (
    JUST_GRANTED,
    Claim,
    Drop,
    Effect,
    Evict,
    Grant,
    Load,
    LookAt,
    Refuse,
    Rules,
    World,
)


@dataclass(slots=True)
class _Holding:
    bytes: int
    displaced: frozenset[str]
    """The services that went for it."""
    ready_at: float | None = None
    leaving: bool = False


@dataclass(slots=True)
class _Waiter:
    need: int
    since: float
    urgent_at: float | None = None
    """Since when requests wait for it that no other replica of its service can answer."""
    displaced: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Pool:
    """Bytes that are free now, and once all have gone that are on their way out."""

    now: int
    soon: int

    def take(self, need: int) -> None:
        self.now -= need
        self.soon -= need


@dataclass(frozen=True, slots=True)
class _Victim:
    """Something that may go: when it was used last, or its turn began."""

    at: float
    bytes: int
    what: Claim | Kept
    shared: bool = False
    turn: bool = False

    def effect(self, claim: Claim | None) -> Evict | Drop:
        """What is to be done about it, for the replica of `claim`."""
        if isinstance(self.what, Kept):
            return Drop(self.what)
        return Evict(self.what, None if claim is None else claim.service, self.turn)


class Budget:
    """The memory of one machine, and the replicas that hold it or wait for it."""

    def __init__(self, total: int, rules: Rules) -> None:
        self.total = total
        self.rules = rules
        self._pins: dict[str, tuple[int, int]] = {}
        self._holdings: dict[Claim, _Holding] = {}
        self._waiters: dict[Claim, _Waiter] = {}
        self._over = False

    # What happens.

    def pin(self, service: str, replicas: int, need: int) -> None:
        """Set room aside for the replicas that a service always has (minReplicas)."""
        self._pins[service] = (replicas, need)

    def unpin(self, service: str) -> None:
        """The service has no such replicas any more."""
        self._pins.pop(service, None)

    def ask(self, claim: Claim, need: int, now: float) -> None:
        """A replica wants to start."""
        self._waiters[claim] = _Waiter(need, now)

    def ready(self, claim: Claim, now: float) -> None:
        """A replica answers; its turn begins."""
        self._holdings[claim].ready_at = now

    def leaving(self, claim: Claim) -> None:
        """A replica is on its way out; it holds its memory until `release`."""
        if claim in self._holdings:
            self._holdings[claim].leaving = True

    def release(self, claim: Claim) -> None:
        """A replica is gone, or waits no longer."""
        self._waiters.pop(claim, None)
        self._holdings.pop(claim, None)

    def resize(self, claim: Claim, need: int) -> None:
        """What a replica needs is known better now. One that loads has not all of it yet."""
        if (holding := self._holdings.get(claim)) is not None:
            loads = holding.ready_at is None
            holding.bytes = max(holding.bytes, need) if loads else need
        if (waiter := self._waiters.get(claim)) is not None:
            waiter.need = need

    # What people see.

    @property
    def waits(self) -> bool:
        """Whether any replica waits for room, or what runs holds more than there is."""
        return bool(self._waiters) or self._over

    def waiting(self) -> list[Claim]:
        """Return the replicas that wait for room."""
        return list(self._waiters)

    def used(self, kept: Sequence[Kept] = ()) -> int:
        """The bytes that are held, set aside or kept."""
        held = sum(each.bytes for each in self._holdings.values())
        aside = sum(self._aside(service) for service in self._pins)
        return held + aside + sum(each.bytes for each in kept)

    def most(self, service: str, kept: Sequence[Kept] = ()) -> int:
        """The bytes that one replica of the service could have if all went that may go.

        What minReplicas asks for stays, and what all services are started from stays with it.
        """
        others = [n * need for name, (n, need) in self._pins.items() if name != service]
        shared = sum(each.bytes for each in kept if each.service is None and each.in_use)
        return self.total - sum(others) - (shared if others else 0)

    def held_by(self, service: str) -> int:
        """The bytes of the service's replicas that are not on their way out."""
        return sum(
            h.bytes for c, h in self._holdings.items() if c.service == service and not h.leaving
        )

    def holders(self, claim: Claim) -> list[str]:
        """Return the other services that hold memory, the one whose turn is oldest first."""
        holding = sorted(self._holdings.items(), key=lambda item: item[1].ready_at or float("inf"))
        return list(dict.fromkeys(c.service for c, _ in holding if c.service != claim.service))

    def waiting_since(self, claim: Claim) -> float | None:
        """Since when this replica waits for room; None: it does not."""
        waiter = self._waiters.get(claim)
        return None if waiter is None else waiter.since

    def staying(self, service: str) -> int:
        """How many replicas of the service hold memory and are not on their way out."""
        return sum(c.service == service and not h.leaving for c, h in self._holdings.items())

    # What to do about it.

    def step(self, now: float, world: World) -> list[Effect]:
        """Decide at `now` (monotonic seconds) who may start and who has to go."""
        effects: list[Effect] = []
        self._follow_demand(now, world)
        for claim, waiter in list(self._waiters.items()):
            if waiter.need > (most := self.most(claim.service, world.kept)):
                del self._waiters[claim]
                effects.append(Refuse(claim, waiter.need, most))
        leaving = sum(each.bytes for each in self._holdings.values() if each.leaving)
        free = self.total - self.used(world.kept) - world.dropping
        pool = _Pool(free, free + leaving + world.dropping)
        gone: set[Claim | Kept] = set()
        self._over = pool.soon < 0  # what runs has grown
        if self._over:
            found = self._make_room(-pool.soon, None, False, now, world, gone)
            self._over = pool.soon + sum(_bytes(each, self._holdings) for each in found) < 0
            pool.soon = max(pool.soon, 0)
            effects += found
        for claim, waiter in self._in_order():
            effects += self._serve(claim, waiter, pool, now, world, gone)
        effects += [LookAt(at) for at in self._next_look(now, world)]
        return effects

    def _follow_demand(self, now: float, world: World) -> None:
        """Note which waiting replicas are the first of a service that requests wait for."""
        for claim, waiter in self._waiters.items():
            if not world.held.get(claim.service) or self.staying(claim.service):
                waiter.urgent_at = None
            elif waiter.urgent_at is None and not self._urgent(claim.service):
                waiter.urgent_at = now

    def _is_urgent(self, claim: Claim) -> bool:
        return (waiter := self._waiters.get(claim)) is not None and waiter.urgent_at is not None

    def _urgent(self, service: str) -> bool:
        mine = (w for c, w in self._waiters.items() if c.service == service)
        return any(waiter.urgent_at is not None for waiter in mine)

    def _may_displace(self, claim: Claim) -> bool:
        """Whether others may have to go for this replica: it is the first one of its service."""
        mine = (each for each in self._waiters if each.service == claim.service)
        return next(mine, None) == claim and not self.staying(claim.service)

    def _in_order(self) -> list[tuple[Claim, _Waiter]]:
        """Those with room set aside, those that requests wait for, the others; oldest first."""

        def key(item: tuple[Claim, _Waiter]) -> tuple[bool, bool, float]:
            at = item[1].urgent_at
            aside = self._aside(item[0].service) > 0
            return not aside, at is None, item[1].since if at is None else at

        return sorted(self._waiters.items(), key=key)

    def _serve(
        self,
        claim: Claim,
        waiter: _Waiter,
        pool: _Pool,
        now: float,
        world: World,
        gone: set[Claim | Kept],
    ) -> Iterator[Effect]:
        """Grant the replica, or make others go for it where it is due."""
        aside = self._aside(claim.service) and self._pins[claim.service][1]
        if waiter.need - aside <= pool.now:
            pool.take(waiter.need - aside)
            del self._waiters[claim]
            self._holdings[claim] = _Holding(waiter.need, frozenset(waiter.displaced))
            yield Grant(claim)
            return
        if not self._may_displace(claim):
            return
        due = waiter.urgent_at is not None and now >= waiter.urgent_at + self.rules.wait_s
        short = waiter.need - aside - pool.soon
        found = self._make_room(short, claim, due, now, world, gone)
        for effect in found:
            if isinstance(effect, Evict):
                waiter.displaced.add(effect.claim.service)
        if found or short <= 0 or due:
            # What goes for it is its own: nobody takes it who came later.
            pool.soon += sum(_bytes(effect, self._holdings) for effect in found)
            pool.take(waiter.need - aside)
        yield from found

    def _make_room(
        self,
        short: int,
        claim: Claim | None,
        due: bool,
        now: float,
        world: World,
        gone: set[Claim | Kept],
    ) -> list[Evict | Drop]:
        """Mark what goes so that `short` bytes become free; nothing where that cannot be reached.

        `claim` is the replica that needs them; None brings the machine below its total again.
        """
        if short <= 0:
            return []
        victims = sorted(self._idle(claim, now, world), key=lambda v: (v.shared, v.at))
        if due:
            victims += sorted(self._busy(claim, now, world), key=lambda v: v.at)
        chosen: list[_Victim] = []
        for victim in victims:
            if short > 0 and victim.what not in gone:
                chosen.append(victim)
                short -= victim.bytes
        if claim is not None and short > self._freed_later(claim, chosen, world):
            return []
        for victim in chosen:
            gone.add(victim.what)
            if isinstance(victim.what, Claim):
                self._holdings[victim.what].leaving = True
        return [victim.effect(claim) for victim in chosen]

    def _freed_later(self, claim: Claim, chosen: Sequence[_Victim], world: World) -> int:
        """The bytes of what is kept and can be dropped once the chosen replicas have gone."""
        going = {victim.what for victim in chosen}
        stay = {c.of for c, h in self._holdings.items() if not h.leaving and c not in going}
        in_use = [each for each in world.kept if each.in_use and each.service != claim.of]
        return sum(
            each.bytes
            for each in in_use
            if not (stay if each.service is None else each.service in stay)
        )

    def _idle(self, claim: Claim | None, now: float, world: World) -> Iterator[_Victim]:
        """What nobody uses and may go now for the service of `claim`."""
        for kept in world.kept:
            # What it is started from goes last, where it leaves no room for the replica itself.
            shared = kept.service is None or (claim is not None and kept.service == claim.of)
            if not kept.in_use:
                yield _Victim(kept.last_used, kept.bytes, kept, shared=shared)
        for other, holding in self._evictable(claim):
            load = world.loads.get(other, JUST_GRANTED)
            if not self._is_busy(other, world) and now >= self._idle_until(claim, holding, load):
                yield _Victim(load.used_at, holding.bytes, other)

    def _idle_until(self, claim: Claim | None, holding: _Holding, load: Load) -> float:
        """When an idle replica may go at the earliest, for the service of `claim`."""
        if holding.ready_at is None and claim is not None and not self._is_urgent(claim):
            return float("inf")  # else two that nobody asks for could stop each other for ever
        turn = None if holding.ready_at is None else holding.ready_at + self.rules.turn_s
        rested = load.used_at + self.rules.idle_s
        if claim is not None and claim.service in holding.displaced:
            return float("inf") if turn is None else turn
        return rested if turn is None else min(rested, turn)

    def _busy(self, claim: Claim | None, now: float, world: World) -> Iterator[_Victim]:
        """What is busy and has had its turn."""
        for other, holding in self._evictable(claim):
            ready_at = holding.ready_at
            if ready_at is None or now < ready_at + self.rules.turn_s:
                continue
            if self._is_busy(other, world):
                yield _Victim(ready_at, holding.bytes, other, turn=True)

    def _is_busy(self, claim: Claim, world: World) -> bool:
        load = world.loads.get(claim, JUST_GRANTED)
        return load.in_flight > 0 or world.held.get(claim.service, 0) > 0

    def _evictable(self, claim: Claim | None) -> Iterator[tuple[Claim, _Holding]]:
        """The replicas of other services that stay, without those that must always be there."""
        must_stay = {service: replicas for service, (replicas, _) in self._pins.items()}
        for other, holding in self._holdings.items():
            if holding.leaving or (claim is not None and other.service == claim.service):
                continue
            if must_stay.get(other.service, 0) > 0:
                must_stay[other.service] -= 1
            else:
                yield other, holding

    def _aside(self, service: str) -> int:
        """The bytes that are set aside for replicas that are not there now."""
        if service not in self._pins:
            return 0
        replicas, need = self._pins[service]
        return max(replicas - self.staying(service), 0) * need

    def _next_look(self, now: float, world: World) -> list[float]:
        """The next time at which something is due, if anything waits or there is too much."""
        times: list[float] = []
        if self._over:
            idle = ((c, h) for c, h in self._evictable(None) if not self._is_busy(c, world))
            times += (self._idle_until(None, h, world.loads[c]) for c, h in idle)
        for claim, waiter in self._waiters.items():
            if not self._may_displace(claim):
                continue
            if waiter.urgent_at is not None:
                times.append(waiter.urgent_at + self.rules.wait_s)
            for other, holding in self._evictable(claim):
                if not self._is_busy(other, world):
                    times.append(self._idle_until(claim, holding, world.loads[other]))
                if holding.ready_at is not None:
                    times.append(holding.ready_at + self.rules.turn_s)
        return sorted(at for at in times if now < at < float("inf"))[:1]


def _bytes(effect: Evict | Drop, holdings: Mapping[Claim, _Holding]) -> int:
    return effect.kept.bytes if isinstance(effect, Drop) else holdings[effect.claim].bytes
