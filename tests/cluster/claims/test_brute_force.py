"""Satisfiable or not, against an allocator that tries everything and knows no shortcut."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cluster.claims.building import (
    DRIVER,
    Json,
    claim,
    device,
    explained,
    request,
    resource_slice,
)


@dataclass(frozen=True)
class Gpu:
    """A device of the generated inventories; `memory` makes it shareable, in GiB."""

    node: int
    kind: int
    root: int | None
    slices: int
    memory: int | None


@dataclass(frozen=True)
class Wanted:
    """A request of the generated claims."""

    kind: int | None
    count: int
    everything: bool
    memory: int


@dataclass(frozen=True)
class Rule:
    distinct: bool
    concerns: tuple[int, ...]


SLICES = 4
gpus = st.builds(
    Gpu,
    node=st.integers(0, 1),
    kind=st.integers(0, 1),
    root=st.sampled_from([None, 0, 1, 2]),
    slices=st.integers(0, 3),
    memory=st.sampled_from([None, None, 4, 8]),
)
wanted = st.builds(
    Wanted,
    kind=st.sampled_from([None, 0, 1]),
    count=st.integers(1, 3),
    everything=st.sampled_from([False, False, False, True]),
    memory=st.integers(0, 5),
)


@st.composite
def alternatives(draw: st.DrawFn) -> tuple[Wanted, ...]:
    return tuple(draw(st.lists(wanted, min_size=1, max_size=2)))


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Gpu], list[tuple[Wanted, ...]], list[Rule]]:
    requests = draw(st.lists(alternatives(), min_size=1, max_size=3))
    indices = st.integers(0, len(requests) - 1)
    rules = st.builds(
        Rule,
        distinct=st.booleans(),
        concerns=st.lists(indices, max_size=3, unique=True).map(tuple),
    )
    return (
        draw(st.lists(gpus, max_size=7)),
        requests,
        draw(st.lists(rules, max_size=2)),
    )


def brute(found: Sequence[Gpu], requests: Sequence[tuple[Wanted, ...]], rules: list[Rule]) -> bool:
    """Whether any choice of devices, on any node, satisfies everything."""
    for node in (0, 1):
        members = [i for i, gpu in enumerate(found) if gpu.node == node]
        for choice in choices(found, members, requests):
            if holds(found, choice, rules):
                return True
    return False


Choice = list[tuple[Wanted, tuple[int, ...]]]


def choices(
    found: Sequence[Gpu], members: list[int], requests: Sequence[tuple[Wanted, ...]]
) -> Iterator[Choice]:
    """Every way to give each request one of its alternatives, and that some devices."""
    if not requests:
        yield []
        return
    for alternative in requests[0]:
        matching = [i for i in members if alternative.kind in (None, found[i].kind)]
        amount = len(matching) if alternative.everything else alternative.count
        if alternative.everything and not matching:
            continue
        for devices in combinations(matching, amount):
            for rest in choices(found, members, requests[1:]):
                yield [(alternative, devices), *rest]


def holds(found: Sequence[Gpu], choice: Choice, rules: list[Rule]) -> bool:
    """Whether the choice breaks no rule: devices, shares, counters, constraints."""
    taken: dict[int, int] = {}
    for alternative, devices in choice:
        for i in devices:
            memory = found[i].memory
            if memory is None:
                if i in taken or alternative.memory:
                    return False  # a whole device, without a capacity to ask for
                taken[i] = 0
                continue
            taken[i] = taken.get(i, 0) + (alternative.memory or memory)
            if taken[i] > memory:
                return False
    if sum(found[i].slices for i in taken) > SLICES:
        return False
    for rule in rules:
        concerned = [
            found[i].root
            for number, (_, devices) in enumerate(choice)
            if not rule.concerns or number in rule.concerns
            for i in devices
        ]
        if None in concerned:
            return False
        different = len(set(concerned))
        if different != len(concerned) if rule.distinct else different > 1:
            return False
    return True


def inventory(found: Sequence[Gpu]) -> list[Json]:
    slices: list[Json] = []
    for node in (0, 1):
        pool = {"name": f"n{node}", "generation": 1, "resourceSliceCount": 2}
        sets = [{"name": "card", "counters": {"slices": {"value": str(SLICES)}}}]
        devices = [as_device(i, gpu) for i, gpu in enumerate(found) if gpu.node == node]
        shared = resource_slice(f"n{node}", (), pool=pool, sharedCounters=sets)
        slices += [shared, resource_slice(f"n{node}", devices, pool=pool)]
    return slices


def as_device(number: int, gpu: Gpu) -> Json:
    attributes: Json = {"kind": gpu.kind}
    if gpu.root is not None:
        attributes["root"] = gpu.root
    fields: Json = {}
    if gpu.slices:
        counters = {"slices": {"value": str(gpu.slices)}}
        fields["consumesCounters"] = [{"counterSet": "card", "counters": counters}]
    if gpu.memory is not None:
        fields["allowMultipleAllocations"] = True
        fields["capacity"] = {"memory": {"value": f"{gpu.memory}Gi"}}
    return device(f"gpu-{number}", attributes, **fields)


def as_request(number: int, asked: tuple[Wanted, ...]) -> Json:
    bodies = []
    for i, one in enumerate(asked):
        read = f"device.attributes['{DRIVER}'].kind"
        expressions = [] if one.kind is None else [f"{read} == {one.kind}"]
        fields: Json = {"allocationMode": "All"} if one.everything else {"count": one.count}
        if one.memory:
            fields["capacity"] = {"requests": {"memory": f"{one.memory}Gi"}}
        body = request(f"alt-{i}", *expressions, **fields)
        exactly = body["exactly"]
        assert isinstance(exactly, dict)
        bodies.append({"name": f"alt-{i}", **exactly})
    return {"name": f"r{number}", "firstAvailable": bodies}


@settings(max_examples=400, deadline=None)
@given(problems())
def test_satisfiable_exactly_when_some_choice_of_devices_is(
    problem: tuple[list[Gpu], list[tuple[Wanted, ...]], list[Rule]],
) -> None:
    found, requests, rules = problem
    constraints: list[Json] = [
        {
            "distinctAttribute" if rule.distinct else "matchAttribute": f"{DRIVER}/root",
            "requests": [f"r{i}" for i in rule.concerns],
        }
        for rule in rules
    ]
    asked = claim(*(as_request(i, r) for i, r in enumerate(requests)), constraints=constraints)
    report = explained(asked, *inventory(found))
    assert (report.answer == "satisfiable") is brute(found, requests, rules), report.sentence
    if report.witness is not None:
        assert len({device.pool for _, _, device in report.witness.devices}) == 1
