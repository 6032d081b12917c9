"""The memory budget: who may start, who goes, who waits; first by rules, then by any script."""

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relume.serving.budget import Budget
from relume.serving.predictor import Kept
from relume.serving.room import (
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

RULES = Rules(wait_s=20.0, turn_s=5.0, idle_s=0.25)
A, B, C = (Claim(name, 1) for name in "abc")


@dataclass
class Scene:
    """A budget, its time, and what the services do."""

    budget: Budget
    now: float = 100.0
    loads: dict[Claim, Load] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    kept: list[Kept] = field(default_factory=list)
    look_at: float | None = None

    def step(self) -> list[Effect]:
        world = World(self.loads, self.held, self.kept)
        effects = self.budget.step(self.now, world)
        self.look_at = next((e.at for e in effects if isinstance(e, LookAt)), None)
        for effect in effects:
            if isinstance(effect, Grant):
                self.loads[effect.claim] = Load(0, self.now)
        return [effect for effect in effects if not isinstance(effect, LookAt)]

    def asks(self, claim: Claim, need: int, held: int = 1) -> list[Effect]:
        self.held[claim.service] = held
        self.budget.ask(claim, need, self.now)
        return self.step()

    def runs(self, claim: Claim, need: int, in_flight: int = 0, since: float = 1000.0) -> None:
        """A replica that has been ready for `since` seconds."""
        assert Grant(claim) in self.asks(claim, need)
        self.held[claim.service] = 0
        self.budget.ready(claim, self.now - since)
        self.loads[claim] = Load(in_flight, self.now - since)


def scene(total: int = 10) -> Scene:
    return Scene(Budget(total, RULES))


def test_what_fits_starts_at_once() -> None:
    s = scene()
    assert s.asks(A, 6) == [Grant(A)]
    assert s.asks(B, 4) == [Grant(B)]


def test_an_idle_service_goes_at_once_and_the_one_idle_longest_first() -> None:
    s = scene()
    s.runs(A, 5, since=50)
    s.runs(B, 5, since=60)
    assert s.asks(C, 5) == [Evict(B, "c")]
    assert s.step() == []  # it is on its way, and nobody else has to go
    s.budget.release(B)
    assert s.step() == [Grant(C)]


def test_a_busy_service_is_left_alone_until_somebody_has_waited_long_enough() -> None:
    s = scene()
    s.runs(A, 6, in_flight=3)
    assert s.asks(B, 6) == []
    assert s.look_at == 120.0
    s.now = 119.9
    assert s.step() == []
    assert s.look_at == 120.0
    s.now = 120.0
    assert s.step() == [Evict(A, "b", turn=True)]


def test_a_service_whose_requests_only_wait_is_busy_too() -> None:
    s = scene()
    s.runs(A, 6)
    s.held["a"] = 2
    assert s.asks(B, 6) == []
    assert s.look_at == 120.0


def test_a_moment_that_no_float_names_exactly_is_not_missed() -> None:
    s = scene()
    s.runs(A, 6, in_flight=1)
    s.now = 246.29999999999998
    s.asks(B, 6)
    assert s.look_at is not None
    s.now = s.look_at
    assert s.now - 246.29999999999998 < RULES.wait_s
    assert s.step() == [Evict(A, "b", turn=True)]


def test_a_turn_lasts_its_time_however_long_somebody_has_waited() -> None:
    s = scene()
    assert s.asks(A, 6) == [Grant(A)]
    s.asks(B, 6)
    s.now = 130.0
    s.budget.ready(A, 130.0)
    s.loads[A] = Load(1, 130.0)
    assert s.step() == []
    assert s.look_at == 135.0
    s.now = 135.0
    assert s.step() == [Evict(A, "b", turn=True)]


def test_a_client_that_asks_again_keeps_its_replica() -> None:
    s = scene()
    s.runs(A, 6, since=1.0)
    s.loads[A] = Load(0, s.now - 0.1)
    assert s.asks(B, 6) == []
    assert s.look_at == pytest.approx(100.15)
    s.now = 100.15
    assert s.step() == [Evict(A, "b")]


def test_who_had_to_go_does_not_come_back_before_the_turn_of_the_other_is_over() -> None:
    s = scene()
    s.runs(A, 6)
    s.asks(B, 6)
    s.budget.release(A)
    assert Grant(B) in s.step()
    s.budget.ready(B, s.now)
    s.held["b"] = 0
    s.now = 102.0
    assert s.asks(Claim("a", 2), 6) == []
    assert s.look_at == 105.0
    assert s.asks(C, 6) == [Evict(B, "c")]  # a third is not kept waiting for it


def test_what_is_kept_goes_by_its_last_use_and_what_all_start_from_goes_last() -> None:
    s = scene()
    of_a = Kept("the engine of a", "a", 2, last_used=10.0)
    of_b = Kept("the engine of b", "b", 2, last_used=20.0)
    shared = Kept("the warm template", None, 2, last_used=0.0)
    s.kept = [shared, of_b, of_a]
    s.runs(A, 2, in_flight=1)
    assert s.asks(C, 4) == [Drop(of_a)]
    s.kept.remove(of_a)
    assert s.step() == [Grant(C)]
    s.held["c"] = 1
    assert s.asks(Claim("d", 1), 4) == [Drop(of_b), Drop(shared)]


def test_what_is_kept_for_a_service_does_not_go_for_one_of_its_revisions() -> None:
    s = scene()
    of_a = Kept("the engine of a", "a", 2, last_used=10.0)
    of_b = Kept("the engine of b", "b", 2, last_used=20.0)
    s.kept = [of_a, of_b]
    assert s.asks(Claim("a (a-predictor-00002)", 1), 8) == [Drop(of_b)]


def test_what_is_kept_for_a_service_goes_where_it_leaves_no_room_for_it() -> None:
    s = scene()
    s.kept = [Kept("the engine of a", "a", 3, 0.0)]
    assert s.asks(A, 8) == [Drop(s.kept[0])]


def test_a_template_that_is_in_use_goes_after_what_uses_it() -> None:
    s = scene()
    s.kept = [Kept("the warm template", None, 3, 0.0, in_use=True)]
    s.runs(A, 4)
    assert s.asks(B, 9) == [Evict(A, "b")]
    s.budget.release(A)
    s.kept = [Kept("the warm template", None, 3, 0.0)]
    assert s.step() == [Drop(s.kept[0])]


def test_what_can_never_fit_is_refused_at_once_with_the_figures() -> None:
    s = scene()
    s.budget.pin("a", 2, 3)
    assert s.asks(B, 5) == [Refuse(B, need=5, most=4)]
    assert not s.budget.waits


def test_a_minimum_is_set_aside_and_never_goes() -> None:
    s = scene()
    s.budget.pin("a", 1, 6)
    assert s.asks(B, 4) == [Grant(B)]
    assert s.asks(A, 6) == [Grant(A)]
    s.budget.ready(A, s.now)
    s.held = {}
    s.budget.ready(B, s.now)
    s.now += 100
    s.loads[B] = Load(1, s.now)
    assert s.asks(C, 4) == []
    assert s.look_at == s.now + RULES.wait_s
    s.loads[B] = Load(0, s.now)
    assert s.step() == [Evict(B, "c")]


def test_another_replica_takes_free_memory_and_makes_nobody_go() -> None:
    s = scene()
    s.runs(A, 4, in_flight=5)
    s.runs(B, 4)
    s.held["a"] = 3
    assert s.asks(Claim("a", 2), 4, held=3) == []
    s.budget.release(B)
    assert s.step() == [Grant(Claim("a", 2))]


def test_small_ones_do_not_overtake_one_that_has_waited_its_time() -> None:
    s = scene()
    s.runs(A, 7, in_flight=1)
    s.asks(B, 8)
    assert Grant(C) in s.asks(C, 2)  # while it waits patiently, what is free is used
    s.budget.release(C)
    s.held["c"] = 0
    s.now = 120.0
    assert s.step() == [Evict(A, "b", turn=True)]
    assert Grant(Claim("c", 2)) not in s.asks(Claim("c", 2), 2)
    s.budget.release(A)
    assert s.step() == [Grant(B), Grant(Claim("c", 2))]


def test_a_replica_that_grew_makes_idle_ones_go_and_no_busy_one() -> None:
    s = scene()
    s.runs(A, 4, in_flight=1)
    s.runs(B, 4)
    s.budget.resize(A, 8)
    assert s.step() == [Evict(B, None)]
    s.budget.release(B)
    s.budget.resize(A, 11)
    assert s.step() == []


def test_a_replica_that_loads_is_counted_with_all_that_it_will_need() -> None:
    s = scene()
    assert s.asks(A, 6) == [Grant(A)]
    s.budget.resize(A, 1)  # what another one holds by now
    assert s.asks(B, 5) == []
    s.budget.resize(A, 7)
    assert s.budget.used() == 7
    s.budget.ready(A, s.now)
    s.budget.resize(A, 5)
    assert Grant(B) in s.step()


def test_what_is_too_much_goes_as_soon_as_it_is_idle() -> None:
    s = scene()
    s.runs(A, 4, in_flight=1)
    s.runs(B, 6, since=1.0)
    s.loads[B] = Load(0, s.now)
    s.budget.resize(A, 6)
    assert s.step() == []
    assert (s.budget.waits, s.look_at) == (True, s.now + RULES.idle_s)
    s.now += RULES.idle_s
    assert s.step() == [Evict(B, None)]
    assert not s.budget.waits


def test_a_first_replica_that_nobody_asks_for_takes_the_place_of_what_is_idle() -> None:
    s = scene()
    s.kept = [Kept("the engine of c", "c", 3, -1000.0)]
    s.runs(A, 4)
    assert s.asks(B, 6, held=0) == [Drop(s.kept[0])]
    s.kept = []
    assert s.step() == [Grant(B)]
    assert s.asks(C, 4, held=0) == [Evict(A, "c")]  # and not B, which still loads
    assert s.asks(Claim("c", 2), 1, held=0) == []


# Any script.

START_S, DRAIN_S = 8.0, 30.0
NAMES = "abcd"


@dataclass
class Process:
    """A replica: when it is ready, and when its requests end."""

    granted: float | None = None
    ready: float | None = None
    requests: list[float] = field(default_factory=list)
    leaving: bool = False
    used_at: float = 0.0


class Machine(RuleBasedStateMachine):
    """Services that start within START_S and answer within DRAIN_S, asked at any time."""

    @initialize(
        total=st.integers(10, 24),
        needs=st.lists(st.integers(3, 10), min_size=4, max_size=4),
        pinned=st.booleans(),
    )
    def begin(self, total: int, needs: list[int], pinned: bool) -> None:
        self.now = 0.0
        self.budget = Budget(total, RULES)
        self.needs = dict(zip(NAMES, needs, strict=True))
        self.pinned = pinned and total - 3 >= max(needs)
        if self.pinned:
            self.needs["p"] = 3
            self.budget.pin("p", 1, 3)
        self.held: dict[str, list[float]] = defaultdict(list)
        self.processes: dict[Claim, Process] = {}
        self.numbers = count(1)
        self.look_at: float | None = None
        self.swaps: list[tuple[float, str, str]] = []
        self.durations: list[float] = []
        self.start_s = 1.0
        if self.pinned:
            self._ask("p")
            self._step()

    # What may happen.

    @rule(name=st.sampled_from(NAMES), durations=st.lists(st.floats(0.1, DRAIN_S), max_size=3))
    def requests(self, name: str, durations: list[float]) -> None:
        for duration in durations:
            self.durations.append(duration)
            self.held[name].append(self.now)
        self._serve()
        if self.held[name] and not self._staying(name):
            self._ask(name)
        self._step()

    @rule(name=st.sampled_from(NAMES))
    def another_replica(self, name: str) -> None:
        if 0 < len(self._staying(name)) < 3:
            self._ask(name)
            self._step()

    @rule(seconds=st.sampled_from([0.1, 0.3, 1.0, 5.0, 20.0]), start_s=st.floats(0.1, START_S))
    def time_passes(self, seconds: float, start_s: float) -> None:
        self.start_s = start_s
        self._run_until(self.now + seconds)

    @rule(name=st.sampled_from(NAMES))
    def crash(self, name: str) -> None:
        for claim, process in list(self.processes.items()):
            if claim.service == name and process.ready is not None:
                self._gone(claim)
                # It may lose its new place sooner, because a crash ends its turn.
                self.swaps = [swap for swap in self.swaps if name not in swap]
        if self.held[name] and not self._staying(name):
            self._ask(name)
        self._step()

    # The world.

    def _staying(self, name: str) -> list[Process]:
        return [p for c, p in self.processes.items() if c.service == name and not p.leaving]

    def _ask(self, name: str) -> None:
        claim = Claim(name, next(self.numbers))
        self.processes[claim] = Process()
        self.budget.ask(claim, self.needs[name], self.now)

    def _gone(self, claim: Claim) -> None:
        del self.processes[claim]
        self.budget.release(claim)

    def _serve(self) -> None:
        """Ready replicas take every request that waits."""
        for claim, process in self.processes.items():
            if process.ready is not None and process.ready <= self.now and not process.leaving:
                for _ in self.held.pop(claim.service, []):
                    duration = self.durations.pop() if self.durations else 1.0
                    process.requests.append(self.now + duration)

    def _run_until(self, end: float) -> None:
        while True:
            due = [
                at
                for p in self.processes.values()
                for at in (*p.requests, *([p.ready] if p.ready is not None else []))
                if at > self.now
            ]
            if self.look_at is not None and self.look_at > self.now:
                due.append(self.look_at)
            if not due or min(due) > end:
                break
            self._arrive_at(min(due))
        self._arrive_at(end)

    def _arrive_at(self, now: float) -> None:
        self.now = now
        for claim, process in list(self.processes.items()):
            left = [at for at in process.requests if at > now]
            if len(left) < len(process.requests):
                process.requests, process.used_at = left, now
            if process.ready == now and not process.leaving:
                process.used_at = now
                self.budget.ready(claim, now)
            if process.leaving and not process.requests:
                self._gone(claim)
        self._serve()
        self._step()

    def _world(self) -> World:
        loads = {
            c: Load(len(p.requests), p.used_at)
            for c, p in self.processes.items()
            if p.granted is not None
        }
        return World(loads, {name: len(held) for name, held in self.held.items()})

    def _step(self) -> None:
        """Carry out what the budget decides, until it decides nothing more."""
        self.look_at = None
        while True:
            world = self._world()
            effects = self.budget.step(self.now, world)
            for effect in effects:
                match effect:
                    case Grant(claim):
                        process = self.processes[claim]
                        process.granted = process.used_at = self.now
                        process.ready = self.now + self.start_s
                    case Evict():
                        self._evict(effect, world)
                    case Refuse(claim, need, most):
                        assert need > most
                        self._gone(claim)
                        self.held.pop(claim.service, None)
                    case LookAt(at):
                        self.look_at = at
            if all(isinstance(effect, LookAt) for effect in effects):
                return

    def _evict(self, effect: Evict, world: World) -> None:
        claim, now = effect.claim, self.now
        process = self.processes[claim]
        assert claim.service != "p", "a minimum is never evicted"
        assert not process.leaving
        if world.loads[claim].in_flight or world.held.get(claim.service):
            assert effect.turn, "a busy replica goes only at the end of its turn"
            assert process.ready is not None and now >= process.ready + RULES.turn_s
        assert effect.room_for is not None
        back = [
            at
            for at, victim, other in self.swaps
            if (other, victim) == (claim.service, effect.room_for)
        ]
        assert all(now - at >= RULES.turn_s for at in back), "two services swap to and fro"
        self.swaps.append((now, claim.service, effect.room_for))
        process.leaving = True
        if not self._staying(claim.service) and self.held[claim.service]:
            self._ask(claim.service)
        if not process.requests:
            self._gone(claim)

    # What always holds.

    @invariant()
    def the_machine_is_never_over_its_budget(self) -> None:
        granted = [c for c, p in self.processes.items() if p.granted is not None]
        assert sum(self.needs[c.service] for c in granted) <= self.budget.total

    @invariant()
    def everybody_is_served_within_the_bound(self) -> None:
        bound = RULES.wait_s + len(NAMES) * (START_S + RULES.turn_s + DRAIN_S)
        for name, held in self.held.items():
            assert all(self.now - since <= bound for since in held), name

    @invariant()
    def a_minimum_is_there(self) -> None:
        if self.pinned:
            assert any(p.granted is not None for p in self._staying("p"))

    @precondition(lambda self: self.now > 0)
    @rule()
    def in_the_end_everybody_is_served(self) -> None:
        self._run_until(self.now + RULES.wait_s + 4 * (START_S + RULES.turn_s + DRAIN_S) + 1)
        assert not any(self.held.values())


TestAnyScript = Machine.TestCase
TestAnyScript.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
