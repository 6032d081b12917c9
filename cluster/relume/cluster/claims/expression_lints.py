"""Likely mistakes in one CEL selector, found in its text with the table of drivers beside it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from relume.cluster.claims import quantity
from relume.cluster.claims.drivers import DRIVERS, STANDARD, STANDARD_DOMAIN, Driver
from relume.cluster.claims.expressions import QUOTED, SECTION
from relume.cluster.claims.matching import OF_DRIVER
from relume.cluster.claims.presets import label_floors

_READ = re.compile(rf"(has\(\s*)?{SECTION}\.(\??)([A-Za-z_]\w*)")
_TYPE = re.compile(rf"{SECTION}\.type\s*==\s*{QUOTED}")
_AT_LEAST = re.compile(
    rf"{SECTION}\.memory\s*\.\s*(?:compareTo\(\s*quantity\(\s*{QUOTED}\s*\)\s*\)\s*>=?\s*0"
    rf"|isGreaterThan\(\s*quantity\(\s*{QUOTED}\s*\)\s*\))"
)
_ERROR = "an error that stops the whole allocation, not a device that does not match"

Published = Mapping[str, frozenset[str]]
"""The names of attributes and capacities that an inventory's devices have, by domain."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake: a stable word, what is wrong, what to write. `fatal`: it cannot work."""

    reason: str
    message: str
    fix: str
    fatal: bool = False


@dataclass(slots=True)
class Guards:
    """What the selectors before an expression, and the expression itself, have tested."""

    drivers: set[str] = field(default_factory=set)
    types: dict[str, str] = field(default_factory=dict)

    def add(self, expression: str) -> None:
        """Take in what an expression tests."""
        self.drivers.update(OF_DRIVER.findall(expression))
        self.types.update(_types(expression))


def mistakes(expression: str, guards: Guards, published: Published) -> Iterator[Mistake]:
    """The mistakes in an expression.

    `guards` are those of the selectors before it, and are added to. Names in `published` are never
    unknown.
    """
    guards.add(expression)
    reads = _READ.findall(expression)
    guarded = {(*at, ident) for has, *at, optional, ident in reads if has or optional}
    yield from _unknown_types(expression)
    for _, form, domain, _, ident in reads:
        wrong = _unknown(form, domain, ident, published)
        if wrong is None and (form, domain, ident) not in guarded:
            wrong = _unguarded(form, domain, ident, guards)
            guarded.add((form, domain, ident))
        if wrong is not None:
            yield wrong
    yield from _label_sizes(expression)


def unknown_attribute(name: str, published: Published) -> Mistake | None:
    """The mistake in a qualified attribute name of a constraint, if there is one."""
    domain, _, ident = name.partition("/")
    return _unknown("attributes", domain, ident, published)


def _unknown(form: str, domain: str, ident: str, published: Published) -> Mistake | None:
    """The mistake that no device of the domain has the name in this section."""
    if ident in published.get(domain, ()):
        return None
    driver = DRIVERS.get(domain)
    if driver is None:
        if domain != STANDARD_DOMAIN or ident in STANDARD:
            return None
        fix = _instead(None, ident, STANDARD)
        return Mistake("unknown-attribute", f"Kubernetes defines no {ident}", fix, fatal=True)
    newest = driver.newest
    own = newest.names(form)
    if ident in own or ident.startswith("memorySlice"):
        return None
    right = "attributes" if form == "capacity" else "capacity"
    if ident in newest.names(right):
        return Mistake(
            "unknown-attribute",
            f"{ident} of {domain} is not in device.{form}",
            f"read device.{right}['{domain}'].{ident}",
            fatal=True,
        )
    fix = _instead(driver, ident, own)
    if not driver.publishes(ident):
        message = f"{domain} {newest.version} publishes no {ident}"
        return Mistake("unknown-attribute", message, fix, fatal=True)
    last = [r.version for r in driver.releases if ident in r.names("attributes")]
    return Mistake(
        "unknown-attribute",
        f"{domain} published {ident} up to {last[-1] if last else 'an older version'}, and "
        f"no more in {newest.version}",
        fix,
    )


def _instead(driver: Driver | None, ident: str, names: Iterable[str]) -> str:
    """What to write in the place of a name, out of the names that there are."""
    known = driver.instead.get(ident) if driver else None
    lowered = {name.lower(): name for name in sorted(names)}
    close = get_close_matches(ident.lower(), list(lowered), n=1, cutoff=0.6)
    if known or close:
        return f"did you mean {known or lowered[close[0]]}?"
    return f"there is {', '.join(lowered.values())}"


def _types(expression: str) -> Iterator[tuple[str, str]]:
    """Each driver whose attribute `type` is compared, with the value that it is compared with."""
    for form, domain, value in _TYPE.findall(expression):
        if form == "attributes":
            yield domain, value


def _unknown_types(expression: str) -> Iterator[Mistake]:
    for domain, value in _types(expression):
        driver = DRIVERS.get(domain)
        if driver and driver.newest.types and value not in driver.newest.types:
            product = (k for k in ("productName", "model") if driver.publishes(k))
            yield Mistake(
                "unknown-type",
                f"the type of a device of {domain} is {' or '.join(sorted(driver.newest.types))}, "
                f"never {value}",
                f"for a product read {next(product, 'accelerator')}",
                fatal=True,
            )


def _unguarded(form: str, domain: str, ident: str, guards: Guards) -> Mistake | None:
    """The mistake that a key is read of devices that may not have it."""
    driver = DRIVERS.get(domain)
    message = f"not every device of {domain} has {ident}; reading it of one without is {_ERROR}"
    fix = f"write has(device.{form}['{domain}'].{ident}) && first"
    if domain == STANDARD_DOMAIN:
        message = f"not every device has {domain}/{ident}; reading it of one without is {_ERROR}"
    elif domain not in guards.drivers:
        message = f"{ident} is read of devices of other drivers too, which is {_ERROR}"
        fix = f"write device.driver == '{domain}' && first"
    elif driver is None or driver.has(ident, guards.types.get(domain)):
        return None
    return Mistake("unguarded-key", message, fix)


def _label_sizes(expression: str) -> Iterator[Mistake]:
    """Sizes that are on the box: drivers publish what they measure, which is less (KEP-4381)."""
    for form, domain, compared, greater in _AT_LEAST.findall(expression):
        text = compared or greater
        try:
            wanted = quantity.parse(text)
        except ValueError:
            continue
        for label, (floor, cards) in label_floors(domain).items() if form == "capacity" else ():
            if wanted == label << 30 and floor < label << 10:
                yield Mistake(
                    "label-size-quantity",
                    f"{text} is the label, and a card has less to use ({cards}, in MiB)",
                    f"write quantity('{floor >> 10}Gi')",
                )
