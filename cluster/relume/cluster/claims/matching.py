"""One ask against one device: the selectors of its class and its own, in the scheduler's order.

A selector that does not match is taken apart at its `&&`, so that the part that decided can be
named, and why: `memory 79.6Gi < 80Gi`.
"""

import re
from dataclasses import dataclass, field
from typing import Literal

from relume.cluster.claims import quantity
from relume.cluster.claims.claim import Ask
from relume.cluster.claims.classes import DeviceClass, Selector
from relume.cluster.claims.devices import Device, DeviceAttribute, DeviceCapacity, Taint, qualified
from relume.cluster.claims.expressions import (
    QUOTED,
    SECTION,
    CelError,
    Reads,
    SelectorOutcome,
    SelectorProgram,
    SelectorVerdict,
    compile_expression,
)
from relume.cluster.claims.quantity import Quantity

ClauseVerdict = Literal[SelectorVerdict, "not reached"]

# What matters for the structure of an expression: strings, so that nothing in them counts, `.?`,
# brackets and operators.
_TOKEN = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\.\?|&&|[()\[\]{}|?]""")
_KEY = rf"{SECTION}\.([A-Za-z_]\w*)"
_COMPARED = re.compile(
    rf"{_KEY}\.compareTo\((?:quantity|semver)\({QUOTED}\)\)\s*(>=|<=|==|!=|<|>)\s*(-?\d+)"
)
_ORDERED = re.compile(rf"{_KEY}\.(isGreaterThan|isLessThan)\((?:quantity|semver)\({QUOTED}\)\)")
_EQUALS = re.compile(rf"{_KEY}\s*==\s*(?:{QUOTED}|(-?\d+|true|false))")
OF_DRIVER = re.compile(rf"device\.driver\s*==\s*{QUOTED}")
_HAS = re.compile(rf"has\({_KEY}\)")
_READ = re.compile(_KEY)
_OPPOSITE = {">=": "<", ">": "<=", "<=": ">", "<": ">=", "==": "!=", "!=": "="}


@dataclass(frozen=True, slots=True)
class Clause:
    """One part of a selector between its `&&`; without `program` it does not compile alone."""

    text: str
    selector: int
    program: SelectorProgram | None


@dataclass(frozen=True, slots=True)
class SelectorDecision:
    """What all selectors together say of a device; `clause` decided it, `why` says how."""

    verdict: SelectorVerdict
    clause: int | None = None
    why: str = ""
    clauses: tuple[ClauseVerdict, ...] = ()


@dataclass(slots=True)
class Matcher:
    """The compiled selectors of an ask; remembers its decision for each shape of device."""

    selectors: tuple[Selector, ...]
    programs: tuple[SelectorProgram, ...]
    clauses: tuple[Clause, ...]
    reads: Reads
    _known: dict[object, SelectorDecision] = field(default_factory=dict)

    @classmethod
    def of(cls, ask: Ask, device_class: DeviceClass) -> "Matcher":
        """Compile. Raises InvalidManifest or CelError for a selector that does not compile."""
        selectors = (*device_class.selectors, *ask.selectors)
        programs = tuple(_compiled(selector) for selector in selectors)
        clauses = tuple(
            Clause(part, number, _part(part))
            for number, selector in enumerate(selectors)
            for part in conjuncts(selector.expression)
        )
        reads = Reads(frozenset())
        for program in programs:
            reads |= program.reads
        return cls(selectors, programs, clauses, reads)

    def source(self, clause: int) -> str:
        """Where the selector of a clause was written."""
        return self.selectors[self.clauses[clause].selector].source

    def decide(self, device: Device) -> SelectorDecision:
        """The scheduler's decision: the first selector that does not match ends it."""
        shape = self.reads.shape(device)
        decision = self._known.get(shape)
        if decision is None:
            decision = self._known[shape] = self._decide(device)
        return decision

    def _decide(self, device: Device) -> SelectorDecision:
        verdicts: list[ClauseVerdict] = ["not reached"] * len(self.clauses)
        for number, program in enumerate(self.programs):
            outcome = program.evaluate(device)
            own = [i for i, clause in enumerate(self.clauses) if clause.selector == number]
            if outcome.verdict == "match":
                for i in own:
                    verdicts[i] = "match"
                continue
            decider = self._decider(own, outcome, device, verdicts)
            verdicts[decider] = outcome.verdict
            why = outcome.message or why_not(self.clauses[decider].text, device)
            return SelectorDecision(outcome.verdict, decider, why, tuple(verdicts))
        return SelectorDecision("match", clauses=tuple(verdicts))

    def _decider(
        self,
        own: list[int],
        outcome: SelectorOutcome,
        device: Device,
        verdicts: list[ClauseVerdict],
    ) -> int:
        """The clause with the selector's own verdict; matches before it go into `verdicts`."""
        for i in own:
            program = self.clauses[i].program
            found = program.evaluate(device).verdict if program else outcome.verdict
            if found == outcome.verdict:
                return i
            if found == "match":
                verdicts[i] = "match"
        return own[0]


def untolerated(ask: Ask, device: Device) -> Taint | None:
    """The first taint that keeps the device from this ask, None when there is none (KEP-5055)."""
    for taint in device.taints:
        keeps_away = taint.effect in ("NoSchedule", "NoExecute")
        if keeps_away and not any(toleration.holds(taint) for toleration in ask.tolerations):
            return taint
    return None


def consumed(ask: Ask, device: Device) -> dict[str, Quantity] | None:
    """What the ask takes of each capacity; None when the device cannot give that (KEP-5075).

    A capacity that is not asked for costs its default, or all of it where there is none.
    """
    wanted = {qualified(name, device.driver): amount for name, amount in ask.capacity.items()}
    if wanted.keys() - device.capacity.keys():
        return None
    taken: dict[str, Quantity] = {}
    for name, capacity in device.capacity.items():
        amount = _amount(wanted.get(name), capacity)
        if amount is None or amount > capacity.value:
            return None
        taken[name] = amount
    return taken


def _amount(wanted: Quantity | None, capacity: DeviceCapacity) -> Quantity | None:
    policy = capacity.policy
    if policy is None:
        return capacity.value if wanted is None else wanted
    if wanted is None:
        return capacity.value if policy.default is None else policy.default
    if policy.valid_values:
        return min((value for value in policy.valid_values if value >= wanted), default=None)
    if policy.least is None:
        return wanted
    amount = max(wanted, policy.least)
    if policy.step:
        amount = policy.least + -((policy.least - amount) // policy.step) * policy.step
    return None if policy.most is not None and amount > policy.most else amount


def _compiled(selector: Selector) -> SelectorProgram:
    try:
        return compile_expression(selector.expression)
    except CelError as error:
        if selector.field is not None:
            raise selector.field.wrong(f"CEL does not compile: {error}") from None
        raise CelError(f"{selector.source}: CEL does not compile: {error}") from None


def _part(text: str) -> SelectorProgram | None:
    try:
        return compile_expression(text)
    except CelError:
        return None


def conjuncts(expression: str) -> list[str]:
    """The parts of an expression between its outermost `&&`."""
    parts, depth, start = [], 0, 0
    for token in _TOKEN.finditer(expression):
        if token[0] in ("(", "[", "{"):
            depth += 1
        elif token[0] in (")", "]", "}"):
            depth -= 1
        elif depth == 0 and token[0] in ("|", "?"):
            return [expression.strip()]  # `a && b || c` is no conjunction
        elif depth == 0 and token[0] == "&&":
            parts.append(expression[start : token.start()])
            start = token.end()
    parts.append(expression[start:])
    return [part.strip() for part in parts if part.strip()]


def why_not(clause: str, device: Device) -> str:
    """Why a clause does not hold: what the device has instead of what the clause wants."""
    if found := OF_DRIVER.fullmatch(clause):
        return f"driver is {device.driver}, not {found[1]}"
    if found := _HAS.fullmatch(clause):
        domain, name = found[2], found[3]
        return f"has no {name if domain == device.driver else f'{domain}/{name}'}"
    if found := _COMPARED.fullmatch(clause):
        sign = _OPPOSITE[found[5]] if found[6] == "0" else f"does not compare {found[5]} to"
        return f"{found[3]} {_value(found, device)} {sign} {found[4]}"
    if found := _ORDERED.fullmatch(clause):
        sign = "<=" if found[4] == "isGreaterThan" else ">="
        return f"{found[3]} {_value(found, device)} {sign} {found[5]}"
    if found := _EQUALS.fullmatch(clause):
        return f"{found[3]} is {_value(found, device)}, not {found[4] or found[5]}"
    pairs = dict.fromkeys((found[3], _value(found, device)) for found in _READ.finditer(clause))
    return ", ".join(f"{name}={value}" for name, value in pairs) or "is false"


def _value(found: "re.Match[str]", device: Device) -> str:
    """What the device has under the key that was found."""
    key = f"{found[2]}/{found[3]}"
    if found[1] == "capacity":
        held = device.capacity.get(key)
        return quantity.write(held.value) if held else "(none)"
    attribute = device.attributes.get(key)
    return _shown(attribute) if attribute else "(none)"


def _shown(attribute: DeviceAttribute) -> str:
    value = attribute.value
    words = [
        str(v).lower() if isinstance(v, bool) else str(v)
        for v in (value if isinstance(value, tuple) else (value,))
    ]
    return f"[{', '.join(words)}]" if isinstance(value, tuple) else words[0]
