"""One ask against one device: the selectors of its class and its own, in the scheduler's order."""

from dataclasses import dataclass, field
from typing import Literal
from relume.cluster.claims.claim_fields import Ask, DeviceClass, Selector
from relume.cluster.claims.devices import Capacity, Device, Taint
from relume.cluster.claims.expressions import CelError, Outcome, Program, Reads, compile_expression
from relume.cluster.claims.quantity import Quantity
from relume.cluster.claims.reasons import conjuncts, why_not
import re
from relume.cluster.claims import quantity
from relume.cluster.claims.devices import Attribute, Device


ClauseVerdict = Literal["match", "no match", "error", "not reached"]


@dataclass(frozen=True, slots=True)
class Clause:
    """One part of a selector between its `&&`."""

    text: str
    selector: int
    program: Program | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What all selectors together say of a device; `clause` decided it, `why` says how."""

    verdict: Literal["match", "no match", "error"]
    clause: int | None = None
    why: str = ""
    clauses: tuple[ClauseVerdict, ...] = ()


@dataclass(slots=True)
class Matcher:
    """The compiled selectors of an ask; remembers its decision for each shape of device."""

    selectors: tuple[Selector, ...]
    programs: tuple[Program, ...]
    clauses: tuple[Clause, ...]
    reads: Reads
    _known: dict[object, Decision] = field(default_factory=dict)

    @classmethod
    def of(cls, ask: Ask, device_class: DeviceClass) -> "Matcher":
        """Compile. Raises InvalidManifest or CelError for a selector that does not compile."""
        selectors = (*device_class.selectors, *ask.selectors)
        programs, clauses = [], []
        for number, selector in enumerate(selectors):
            programs.append(_compiled(selector))
            clauses += [
                Clause(part, number, _part(part)) for part in conjuncts(selector.expression)
            ]
        reads = Reads(frozenset())
        for program in programs:
            reads |= program.reads
        return cls(selectors, tuple(programs), tuple(clauses), reads)

    def decide(self, device: Device) -> Decision:
        """What the scheduler finds: the first selector that does not match ends it."""
        shape = self.reads.shape(device)
        decision = self._known.get(shape)
        if decision is None:
            decision = self._known[shape] = self._decide(device)
        return decision

    def _decide(self, device: Device) -> Decision:
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
            return Decision(outcome.verdict, decider, why, tuple(verdicts))
        return Decision("match", clauses=tuple(verdicts))

    def _decider(
        self, own: list[int], outcome: Outcome, device: Device, verdicts: list[ClauseVerdict]
    ) -> int:
        """The clause with the selector's own verdict; the matches before it are noted."""
        for i in own:
            program = self.clauses[i].program
            found = program.evaluate(device).verdict if program else outcome.verdict
            if found == outcome.verdict:
                return i
            if found == "match":
                verdicts[i] = "match"
        return own[0]


def tolerated(ask: Ask, device: Device) -> Taint | None:
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
    wanted = {
        (name if "/" in name else f"{device.driver}/{name}"): amount
        for name, amount in ask.capacity.items()
    }
    if wanted.keys() - device.capacity.keys():
        return None
    taken: dict[str, Quantity] = {}
    for name, capacity in device.capacity.items():
        amount = _amount(wanted.get(name), capacity)
        if amount is None or amount > capacity.value:
            return None
        taken[name] = amount
    return taken


def _amount(wanted: Quantity | None, capacity: Capacity) -> Quantity | None:
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


def _compiled(selector: Selector) -> Program:
    try:
        return compile_expression(selector.expression)
    except CelError as error:
        if selector.field is not None:
            raise selector.field.wrong(f"CEL does not compile: {error}") from None
        raise CelError(f"{selector.source}: CEL does not compile: {error}") from None


def _part(text: str) -> Program | None:
    try:
        return compile_expression(text)
    except CelError:
        return None


_KEY = r"device\.(attributes|capacity)\[\s*['\"]([^'\"]+)['\"]\s*\]\.([A-Za-z_]\w*)"
_QUOTED = r"['\"]([^'\"]*)['\"]"
_COMPARED = re.compile(
    rf"{_KEY}\.compareTo\((?:quantity|semver)\({_QUOTED}\)\)\s*(>=|<=|==|!=|<|>)\s*(-?\d+)"
)
_ORDERED = re.compile(rf"{_KEY}\.(isGreaterThan|isLessThan)\((?:quantity|semver)\({_QUOTED}\)\)")
_EQUALS = re.compile(rf"{_KEY}\s*==\s*(?:{_QUOTED}|(-?\d+|true|false))")
_DRIVER = re.compile(rf"device\.driver\s*==\s*{_QUOTED}")
_HAS = re.compile(rf"has\({_KEY}\)")
_READ = re.compile(_KEY)
_OPPOSITE = {">=": "<", ">": "<=", "<=": ">", "<": ">=", "==": "!=", "!=": "="}


def conjuncts(expression: str) -> list[str]:
    """The parts of an expression between its outermost `&&`."""
    parts, depth, start, quote, at = [], 0, 0, "", 0
    while at < len(expression):
        letter = expression[at]
        if quote:
            if letter == "\\":
                at += 1
            elif letter == quote:
                quote = ""
        elif letter in "'\"":
            quote = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif depth == 0 and letter in "|?" and expression[at - 1] != ".":
            return [expression.strip()]  # `a && b || c` is no conjunction
        elif depth == 0 and expression.startswith("&&", at):
            parts.append(expression[start:at].strip())
            start, at = at + 2, at + 1
        at += 1
    parts.append(expression[start:].strip())
    return [part for part in parts if part]


def why_not(clause: str, device: Device) -> str:
    """What the device has instead of what the clause wants."""
    if found := _DRIVER.fullmatch(clause):
        return f"driver is {device.driver}, not {found[1]}"
    if found := _HAS.fullmatch(clause):
        return f"has no {_short(found[2], found[3], device)}"
    if found := _COMPARED.fullmatch(clause):
        sign = _OPPOSITE[found[5]] if found[6] == "0" else f"does not compare {found[5]} to"
        return f"{found[3]} {_value(found, device)} {sign} {found[4]}"
    if found := _ORDERED.fullmatch(clause):
        sign = "<=" if found[4] == "isGreaterThan" else ">="
        return f"{found[3]} {_value(found, device)} {sign} {found[5]}"
    if found := _EQUALS.fullmatch(clause):
        return f"{found[3]} is {_value(found, device)}, not {found[4] or found[5]}"
    return values_read(clause, device) or "is false"


def values_read(clause: str, device: Device) -> str:
    """The values that the clause reads, `type=gpu, memory=79.6Gi`; empty when none is plain."""
    pairs = dict.fromkeys((found[3], _value(found, device)) for found in _READ.finditer(clause))
    return ", ".join(f"{name}={value}" for name, value in pairs)


def show(attribute: Attribute) -> str:
    """An attribute's value for people."""
    values = attribute.value if isinstance(attribute.value, tuple) else (attribute.value,)
    words = [str(v).lower() if isinstance(v, bool) else str(v) for v in values]
    return words[0] if not isinstance(attribute.value, tuple) else f"[{', '.join(words)}]"


def _value(found: "re.Match[str]", device: Device) -> str:
    key = f"{found[2]}/{found[3]}"
    if found[1] == "capacity":
        held = device.capacity.get(key)
        return quantity.write(held.value) if held else "(none)"
    attribute = device.attributes.get(key)
    return show(attribute) if attribute else "(none)"


def _short(domain: str, ident: str, device: Device) -> str:
    return ident if domain == device.driver else f"{domain}/{ident}"
