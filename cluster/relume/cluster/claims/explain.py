"""What an inventory can do for each claim: satisfiable or not, on which devices, and why not."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from relume.cluster.claims.claim import Ask
from relume.cluster.claims.classes import Classes
from relume.cluster.claims.devices import Device
from relume.cluster.claims.diagnosis import NO_MATCH, NOTHING, Lack, lack_of
from relume.cluster.claims.documents import Document
from relume.cluster.claims.engine import Engine, NodeGroup
from relume.cluster.claims.inventory import Inventory, build
from relume.cluster.claims.matching import (
    ClauseVerdict,
    Matcher,
    SelectorDecision,
    consumed,
    untolerated,
)
from relume.cluster.claims.search import NumberedAsk, Problem
from relume.cluster.claims.workloads import Unit, units

#: How `beside` begins.
ALONE = "alone, but not beside the others: "
_NO_LACK = 100  # ranks from here on say how a node does instead of what it lacks

ClaimAnswer = Literal["satisfiable", "unsatisfiable", "aborts", "undecided"]


@dataclass(frozen=True, slots=True)
class Alike:
    """Devices that are alike for one ask. `clause` is the number of the deciding clause."""

    title: str
    count: int
    nodes: tuple[str, ...]
    verdict: str
    clause: int | None
    why: str
    state: str


@dataclass(frozen=True, slots=True)
class ClauseCount:
    """One clause of the selectors, where it was written, and its number of devices by verdict."""

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
class ClaimReport:
    """The answer for one unit. `nodes` has for every kind of node why it fits or not.

    `placed` are its devices beside the other units of the files, and `beside` is what is lacking
    once those have theirs.
    """

    unit: Unit
    answer: ClaimAnswer
    sentence: str
    witness: Witness | None = None
    nodes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    asks: tuple[AskReport, ...] = ()
    beside: str = ""
    placed: Witness | None = None


@dataclass(frozen=True, slots=True)
class Survey:
    """Every claim of some documents against one inventory.

    `named` are namespace and name of the ResourceClaims, each of which several units may share.
    """

    reports: tuple[ClaimReport, ...]
    inventory: Inventory
    named: Collection[tuple[str, str]] = ()


def explain(documents: Sequence[Document], slices: Sequence[Document]) -> list[ClaimReport]:
    """Explain every claim in `documents` against the inventory in `slices`.

    DeviceClasses are taken from both, then from the presets and the drivers' charts. Raises
    InvalidManifest for a document that is wrong, a selector that does not compile included.
    """
    return list(survey(documents, slices).reports)


def survey(documents: Sequence[Document], slices: Sequence[Document]) -> Survey:
    """`explain`, with the inventory that was read."""
    inventory = build([*slices, *(d for d in documents if d.kind == "DeviceClass")])
    classes = Classes.of(inventory.classes)
    reports = [_report(unit, inventory, classes) for unit in units(documents, slices, classes)]
    named = {(d.namespace, d.name) for d in (*documents, *slices) if d.kind == "ResourceClaim"}
    placed = tuple(_beside_each_other(reports, _Held(inventory, classes, named)))
    return Survey(placed, inventory, named)


def _beside_each_other(reports: Iterable[ClaimReport], held: "_Held") -> Iterator[ClaimReport]:
    """The reports, each with its devices beside the units before it, or with what is lacking.

    Each unit takes the devices of its witness, in the order of the files. The scheduler may take
    others, so this says that somebody may have to wait, not who.
    """
    for report in reports:
        if report.answer != "satisfiable" or not report.unit.claims:
            yield report
            continue
        found = held.again(report)
        if found.answer == "unsatisfiable":
            yield replace(report, beside=f"{ALONE}{found.sentence}")
            continue
        held.take(found)
        yield replace(report, placed=found.witness)


@dataclass(slots=True)
class _Held:
    """What the units before hold. `named` are the ResourceClaims, which several units may share.

    `allocated` are those of them that have devices already; whoever names one gets its devices.
    """

    inventory: Inventory
    classes: Classes
    named: Collection[tuple[str, str]]
    allocated: dict[tuple[str, str], Witness] = field(default_factory=dict)
    _untouched: bool = True

    def again(self, report: ClaimReport) -> ClaimReport:
        """The report on a unit, now that others hold devices."""
        if self._untouched:
            return report
        unit = report.unit
        keys = [_key(unit, one.name) for one in unit.claims]
        known = [self.allocated[key] for key in keys if key in self.allocated]
        left = tuple(c for c in unit.claims if _key(unit, c.name) not in self.allocated)
        nodes = {one.node for one in known}
        if len(nodes) > 1:
            where = " and ".join(sorted(nodes))
            sentence = f"its claims are allocated on different nodes: {where}"
            return replace(report, answer="unsatisfiable", sentence=sentence)
        if not left:
            return replace(report, witness=_joined(known))
        inventory = self.inventory
        if nodes:
            here = tuple(node for node in inventory.nodes if node.name in nodes)
            inventory = replace(inventory, nodes=here)
        found = _report(replace(unit, claims=left), inventory, self.classes)
        known += [found.witness] if found.witness else []
        return replace(found, witness=_joined(known))

    def take(self, report: ClaimReport) -> None:
        """Note what the unit of a report holds from now on."""
        if report.witness is None:
            return
        asks = {(one.claim, one.request): one.ask for one in report.asks}
        used = dict(self.inventory.used)
        shares = {ident: dict(amounts) for ident, amounts in self.inventory.consumed.items()}
        for claim, request, device in report.witness.devices:
            ask = asks.get((claim, request))
            if ask is None or ask.admin_access or _key(report.unit, claim) in self.allocated:
                continue
            if device.shareable:
                taken = shares.setdefault(device.ident, {})
                for name, amount in (consumed(ask, device) or {}).items():
                    taken[name] = taken.get(name, 0) + amount
            else:
                used[device.ident] = report.unit.title
        self.inventory = replace(self.inventory, used=used, consumed=shares)
        self._untouched = False
        for one in report.unit.claims:
            key = _key(report.unit, one.name)
            if key in self.named and key not in self.allocated:
                own = tuple(entry for entry in report.witness.devices if entry[0] == one.name)
                self.allocated[key] = Witness(report.witness.node, own)


def _key(unit: Unit, claim: str) -> tuple[str, str]:
    """Namespace and name of a claim that a unit names."""
    return unit.document.namespace, claim


def _joined(parts: Sequence[Witness]) -> Witness | None:
    if not parts:
        return None
    return Witness(parts[0].node, tuple(entry for part in parts for entry in part.devices))


def _report(unit: Unit, inventory: Inventory, classes: Classes) -> ClaimReport:
    """Explain one unit as if it came alone."""
    if not unit.claims:
        return ClaimReport(unit, "satisfiable", "it asks DRA for no device")
    problem = Problem.of(unit.claims)
    made: dict[object, Matcher] = {}
    matchers: dict[int, Matcher] = {}
    for one in problem.asks:
        found = classes.by_name.get(one.ask.class_name)
        if found is None:
            sentence = f"the DeviceClass {one.ask.class_name} is not in the files read, nor shipped"
            return ClaimReport(unit, "unsatisfiable", sentence)
        texts = tuple((s.expression, s.source) for s in (*found.selectors, *one.ask.selectors))
        if texts not in made:
            made[texts] = Matcher.of(one.ask, found)
        matchers[one.number] = made[texts]
    engine = Engine(problem, inventory, matchers)
    groups = engine.solve()
    lacks = [_lack(engine, group) for group in groups]
    asks = tuple(_ask_report(engine, one) for one in problem.asks)
    answer, sentence = _answer(engine, groups, lacks, asks)
    fitting = next((group for group in groups if group.kind == "fits"), None)
    witness = _witness(problem, fitting) if fitting else None
    return ClaimReport(unit, answer, sentence, witness, tuple(_nodes(groups, lacks)), asks)


def _answer(
    engine: Engine, groups: Sequence[NodeGroup], lacks: Sequence[Lack], asks: Sequence[AskReport]
) -> tuple[ClaimAnswer, str]:
    aborted = next((group.aborted for group in groups if group.aborted is not None), None)
    if aborted is not None:
        matcher, device = engine.matchers[aborted.number], aborted.candidate.device
        decision = matcher.decide(device)
        assert decision.clause is not None
        return "aborts", (
            f"the scheduler stops with an error: {matcher.source(decision.clause)} on device "
            f"{device.title}: {decision.why}. Guard the key with has() or .?…orValue()"
        )
    fitting = sum(len(group.nodes) for group in groups if group.kind == "fits")
    if fitting:
        total = sum(len(group.nodes) for group in groups)
        return "satisfiable", f"{fitting} of {total} nodes can serve it"
    if any(group.kind == "undecided" for group in groups):
        return "undecided", "the search was given up: too many combinations of devices"
    return "unsatisfiable", _sentence(lacks, asks)


def _sentence(lacks: Sequence[Lack], asks: Sequence[AskReport]) -> str:
    """What the nearest node lacks, and where too few devices match, the usual reasons why."""
    if not lacks:
        return "the inventory has no node with devices"
    nearest = max(lacks, key=lambda lack: lack.order)
    sentence = f"no node has {nearest.what}"
    if nearest.rank > NO_MATCH:
        return sentence
    causes = Counter[str]()
    for one in asks:
        for group in one.groups:
            if group.verdict == "no match":
                causes[f"{group.why} ({group.title})"] += group.count
    words = [f"{why} on {count}" for why, count in causes.most_common(3)]
    return sentence + (": " + "; ".join(words) if words else "")


def _witness(problem: Problem, group: NodeGroup) -> Witness:
    devices = (
        (
            problem.claims[taken.ask.claim].name,
            problem.request_of(taken.ask).title(taken.ask.ask),
            taken.candidate.device,
        )
        for taken in group.taken
    )
    return Witness(group.place.node, tuple(devices))


def _lack(engine: Engine, group: NodeGroup) -> Lack:
    """What the nodes of a group lack, or in its place how they do."""
    if group.kind == "fits":
        return Lack(_NO_LACK + 2, "fits")
    if group.aborted is not None:
        device = group.aborted.candidate.device
        return Lack(_NO_LACK + 1, f"the scheduler stops at {device.name}")
    if group.kind == "undecided":
        return Lack(_NO_LACK, "given up")
    return lack_of(engine, group.place)


def _nodes(
    groups: Sequence[NodeGroup], lacks: Sequence[Lack]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each reason with the nodes for which it holds, the nearest nodes first."""
    nodes: dict[Lack, list[str]] = {}
    for group, lack in zip(groups, lacks, strict=True):
        nodes.setdefault(lack, []).extend(group.nodes)
    for lack in sorted(nodes, key=lambda lack: lack.order, reverse=True):
        words = "no devices" if lack == NOTHING else f"lacks {lack.what}"
        yield (lack.what if lack.rank >= _NO_LACK else words), tuple(nodes[lack])


def _ask_report(engine: Engine, one: NumberedAsk) -> AskReport:
    matcher = engine.matchers[one.number]
    decisions: Counter[SelectorDecision] = Counter()
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
    clauses = tuple(
        ClauseCount(clause.text, matcher.source(number), dict(counts[number]))
        for number, clause in enumerate(matcher.clauses)
    )
    request = engine.problem.request_of(one).title(one.ask)
    return AskReport(
        engine.problem.claims[one.claim].name, request, one.ask, clauses, tuple(groups)
    )


def _state(engine: Engine, one: NumberedAsk, device: Device, trouble: str | None) -> str:
    """Whether the device is free, or what keeps it from the ask."""
    if trouble is not None:
        return f"pool: {trouble}"
    holder = engine.inventory.used.get(device.ident)
    if holder is not None:
        return f"in use by {holder}"
    taint = untolerated(one.ask, device)
    if taint is not None:
        return f"tainted {taint}"
    told = [str(one) for one in device.taints if one.effect == "None"]
    return f"free, told {', '.join(told)}" if told else "free"


def title(device: Device) -> str:
    """What the device is, for people: its product, model or accelerator, with its partition."""
    own, driver = device.attributes, device.driver
    named = (own.get(f"{driver}/{k}") for k in ("productName", "model", "accelerator", "tpuGen"))
    name = next((str(held.value) for held in named if held and held.value), driver)
    profile = own.get(f"{driver}/profile")
    return f"{name} {profile.value}" if profile else name
