"""What an inventory can do for each claim: satisfiable or not, on which devices, and why not."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal
from relume.cluster.claims.claim_fields import Ask
from relume.cluster.claims.classes import Classes
from relume.cluster.claims.contention import beside_each_other
from relume.cluster.claims.devices import Device
from relume.cluster.claims.diagnosis import NOTHING, Reason, blame
from relume.cluster.claims.documents import Document
from relume.cluster.claims.engine import Engine, NodeGroup
from relume.cluster.claims.inventory import Inventory, build
from relume.cluster.claims.matching import ClauseVerdict, Decision, Matcher, tolerated
from relume.cluster.claims.problem import Numbered, Problem
from relume.cluster.claims.workloads import Unit, units
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from relume.cluster.claims.inventory import Ident, Inventory
from relume.cluster.claims.workloads import Unit
if TYPE_CHECKING:
    from relume.cluster.claims.explain import Report


_SAID = 100  # the rank from which a reason is no lack

Answer = Literal["satisfiable", "unsatisfiable", "aborts", "undecided"]


@dataclass(frozen=True, slots=True)
class Alike:
    """Devices of which one ask says the same. `clause` is the number of the deciding clause."""

    title: str
    count: int
    nodes: tuple[str, ...]
    verdict: str
    clause: int | None
    why: str
    state: str


@dataclass(frozen=True, slots=True)
class ClauseCount:
    """One clause of the selectors, where it was written, and how many devices it says what of."""

    text: str
    source: str
    counts: dict[ClauseVerdict, int]


@dataclass(frozen=True, slots=True)
class AskReport:
    """One request, or one alternative of it, against every device."""

    claim: str
    request: str
    ask: Ask
    clauses: tuple[ClauseCount, ...]
    groups: tuple[Alike, ...]


@dataclass(frozen=True, slots=True)
class Witness:
    """A node and the devices there: (claim, request or request/alternative, device)."""

    node: str
    devices: tuple[tuple[str, str, Device], ...]


@dataclass(frozen=True, slots=True)
class Report:
    """The answer for one unit. `nodes` says of every group of nodes why it fits or not.

    `beside` says what is lacking once the other units of the files have their devices.
    """

    unit: Unit
    answer: Answer
    sentence: str
    witness: Witness | None = None
    nodes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    asks: tuple[AskReport, ...] = ()
    beside: str = ""


def explain(documents: Sequence[Document], slices: Sequence[Document]) -> list[Report]:
    """Explain every claim in `documents` against the inventory in `slices`.

    DeviceClasses are taken from both, then from the presets and the drivers' charts. Raises
    InvalidManifest for a document that is wrong, a selector that does not compile included.
    """
    inventory = build([*slices, *(d for d in documents if d.kind == "DeviceClass")])
    classes = Classes.of(inventory.classes.values())
    reports = [report(unit, inventory, classes) for unit in units(documents, slices, classes)]
    shared = {d.name for d in (*documents, *slices) if d.kind == "ResourceClaim"}
    return list(
        beside_each_other(
            reports, inventory, shared, lambda unit, left: report(unit, left, classes)
        )
    )


def report(unit: Unit, inventory: Inventory, classes: Classes) -> Report:
    """Explain one unit."""
    problem = Problem.of(unit.claims)
    if not unit.claims:
        return Report(unit, "satisfiable", "it asks DRA for no device")
    made: dict[object, Matcher] = {}
    matchers: dict[int, Matcher] = {}
    for _, _, one in problem.each_ask():
        found = classes.by_name.get(one.ask.class_name)
        if found is None:
            sentence = f"the DeviceClass {one.ask.class_name} is not in the files read, nor shipped"
            return Report(unit, "unsatisfiable", sentence)
        texts = tuple((s.expression, s.source) for s in (*found.selectors, *one.ask.selectors))
        if texts not in made:
            made[texts] = Matcher.of(one.ask, found)
        matchers[one.number] = made[texts]
    engine = Engine(problem, inventory, matchers)
    groups = engine.solve()
    reasons = [_node_reason(engine, group) for group in groups]
    asks = tuple(_asks(engine))
    answer, sentence, witness = _answer(engine, groups, reasons, asks)
    return Report(unit, answer, sentence, witness, tuple(_nodes(groups, reasons)), asks)


def _answer(
    engine: Engine,
    groups: Sequence[NodeGroup],
    reasons: Sequence[Reason],
    asks: Sequence[AskReport],
) -> tuple[Answer, str, Witness | None]:
    fitting = [group for group in groups if group.kind == "fits"]
    witness = _witness(engine, fitting[0]) if fitting else None
    aborting = [group for group in groups if group.kind == "aborts"]
    if aborting and aborting[0].aborted is not None:
        candidate, number = aborting[0].aborted
        matcher = engine.matchers[number]
        decision = matcher.decide(candidate.device)
        assert decision.clause is not None
        source = matcher.selectors[matcher.clauses[decision.clause].selector].source
        sentence = (
            f"the scheduler stops with an error: {source} on device {candidate.device.title}: "
            f"{decision.why}. Guard the key with has() or .?…orValue()"
        )
        return "aborts", sentence, witness
    if witness is not None:
        count = sum(len(group.nodes) for group in fitting)
        return "satisfiable", f"{count} of {_total(groups)} nodes can serve it", witness
    if any(group.kind == "undecided" for group in groups):
        return "undecided", "the search was given up: too many combinations of devices", None
    return "unsatisfiable", _sentence(reasons, asks), None


def _sentence(reasons: Sequence[Reason], asks: Sequence[AskReport]) -> str:
    if not reasons:
        return "the inventory has no node with devices"
    nearest = max(reasons, key=lambda reason: reason.order)
    sentence = f"no node has {nearest.lacks}"
    if nearest.rank > 2:
        return sentence
    causes = Counter[str]()
    for one in asks:
        for group in one.groups:
            if group.verdict == "no match":
                causes[f"{group.why} ({group.title})"] += group.count
    words = [f"{why} on {count}" for why, count in causes.most_common(3)]
    return sentence + (": " + "; ".join(words) if words else "")


def _witness(engine: Engine, group: NodeGroup) -> Witness:
    devices = []
    for taken in group.taken:
        claim = engine.problem.claims[taken.claim]
        request = claim.requests[taken.request]
        own = taken.ask.ask.name
        name = f"{request.name}/{own}" if request.prioritized else request.name
        devices.append((claim.name, name, taken.candidate.device))
    return Witness(group.place.node, tuple(devices))


def _nodes(
    groups: Sequence[NodeGroup], reasons: Sequence[Reason]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Why, and the nodes of which it holds; the nearest first."""
    said: dict[Reason, list[str]] = {}
    for group, reason in zip(groups, reasons, strict=True):
        said.setdefault(reason, []).extend(group.nodes)
    for reason in sorted(said, key=lambda reason: reason.order, reverse=True):
        lacks = "no devices" if reason == NOTHING else f"lacks {reason.lacks}"
        yield (reason.lacks if reason.rank >= _SAID else lacks), tuple(said[reason])


def _node_reason(engine: Engine, group: NodeGroup) -> Reason:
    match group.kind:
        case "fits":
            return Reason(_SAID + 2, "fits")
        case "aborts":
            assert group.aborted is not None
            return Reason(_SAID + 1, f"the scheduler stops at {group.aborted[0].device.name}")
        case "undecided":
            return Reason(_SAID, "given up")
    return blame(engine, group.place)


def _total(groups: Iterable[NodeGroup]) -> int:
    return sum(len(group.nodes) for group in groups)


def _asks(engine: Engine) -> Iterator[AskReport]:
    for claim, number, one in engine.problem.each_ask():
        request = claim.requests[number]
        name = f"{request.name}/{one.ask.name}" if request.prioritized else request.name
        clauses, groups = _devices(engine, one)
        yield AskReport(claim.name, name, one.ask, clauses, groups)


def _devices(engine: Engine, one: Numbered) -> tuple[tuple[ClauseCount, ...], tuple[Alike, ...]]:
    matcher = engine.matchers[one.number]
    decisions: Counter[Decision] = Counter()
    alike: dict[tuple[str, str, int | None, str, str], list[str]] = {}
    for pool in engine.inventory.pools:
        for device in pool.devices:
            decision = matcher.decide(device)
            decisions[decision] += 1
            refused = decision.verdict == "no match"
            state = "" if refused else _state(engine, one, device, pool.trouble)
            key = (title(device), decision.verdict, decision.clause, decision.why, state)
            alike.setdefault(key, []).append(device.placement.node or "any node")
    counts: list[Counter[ClauseVerdict]] = [Counter() for _ in matcher.clauses]
    for decision, devices in decisions.items():
        for counter, verdict in zip(counts, decision.clauses, strict=True):
            counter[verdict] += devices
    groups = [
        Alike(name, len(nodes), tuple(dict.fromkeys(nodes)), verdict, clause, why, state)
        for (name, verdict, clause, why, state), nodes in alike.items()
    ]
    order = {"match": 0, "error": 1, "no match": 2}
    groups.sort(key=lambda group: (order[group.verdict], -group.count))
    written = tuple(
        ClauseCount(clause.text, matcher.selectors[clause.selector].source, dict(counter))
        for clause, counter in zip(matcher.clauses, counts, strict=True)
    )
    return written, tuple(groups)


def _state(engine: Engine, one: Numbered, device: Device, trouble: str | None) -> str:
    if trouble is not None:
        return f"pool: {trouble}"
    holder = engine.inventory.used.get(device.ident)
    if holder is not None:
        return f"in use by {holder}"
    taint = tolerated(one.ask, device)
    if taint is not None:
        return f"tainted {taint.key}={taint.value}:{taint.effect}"
    return "free"


def title(device: Device) -> str:
    """What the device is, for people: its product, model or accelerator, with its partition."""
    own, driver = device.attributes, device.driver
    name = driver
    for key in ("productName", "model", "accelerator", "tpuGen"):
        held = own.get(f"{driver}/{key}")
        if held is not None and held.value:
            name = str(held.value)
            break
    profile = own.get(f"{driver}/profile")
    return f"{name} {profile.value}" if profile else name


def beside_each_other(
    reports: Sequence["Report"],
    inventory: Inventory,
    shared: Collection[str],
    judge: Callable[[Unit, Inventory], "Report"],
) -> Iterator["Report"]:
    """The reports, with what is lacking for those that fit alone, but not beside the others.

    `shared` are the names of ResourceClaims: several workloads may use the devices of one.
    """
    used = dict(inventory.used)
    for report in reports:
        found = report
        if report.answer == "satisfiable" and len(used) > len(inventory.used):
            found = judge(report.unit, replace(inventory, used=used))
            if found.answer == "unsatisfiable":
                yield replace(report, beside=f"alone, but not beside the others: {found.sentence}")
                continue
        yield report
        used |= dict.fromkeys(_held(found, shared), report.unit.title)


def _held(report: "Report", shared: Collection[str]) -> Iterator[Ident]:
    """The devices of the witness that nobody else can have."""
    watching = {(one.claim, one.request) for one in report.asks if one.ask.admin_access}
    for claim, request, device in report.witness.devices if report.witness else ():
        if not device.shareable and claim not in shared and (claim, request) not in watching:
            yield device.ident
