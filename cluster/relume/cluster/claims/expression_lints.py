"""Likely mistakes in one CEL selector, found in its text with the drivers' catalogue beside it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from relume.cluster.claims import quantity
from relume.cluster.claims.drivers import DRIVERS, STANDARD, Driver
from relume.cluster.claims.presets import label_floors

_READ = re.compile(
    r"(has\(\s*)?device\.(attributes|capacity)\[\s*['\"]([^'\"]+)['\"]\s*\]\.(\??)([A-Za-z_]\w*)"
)
_DRIVER = re.compile(r"device\.driver\s*==\s*['\"]([^'\"]+)['\"]")
_TYPE = re.compile(
    r"device\.attributes\[\s*['\"]([^'\"]+)['\"]\s*\]\.type\s*==\s*['\"]([^'\"]*)['\"]"
)
_AT_LEAST = re.compile(
    r"device\.capacity\[\s*['\"]([^'\"]+)['\"]\s*\]\.memory\s*\.\s*"
    r"(?:compareTo\(\s*quantity\(\s*['\"]([^'\"]+)['\"]\s*\)\s*\)\s*>=?\s*0"
    r"|isGreaterThan\(\s*quantity\(\s*['\"]([^'\"]+)['\"]\s*\)\s*\))"
)


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
        self.drivers.update(_DRIVER.findall(expression))
        self.types.update(dict(_TYPE.findall(expression)))


def mistakes(
    expression: str, guards: Guards, published: Mapping[str, frozenset[str]]
) -> Iterator[Mistake]:
    """The mistakes in an expression.

    `guards` are those of the selectors before it, and are added to; `published` are the names that
    an inventory's devices have, by domain: these are never unknown.
    """
    guards.add(expression)
    guarded = {
        (form, domain, ident)
        for has, form, domain, optional, ident in _READ.findall(expression)
        if has or optional
    }
    seen = set(guarded)
    yield from _types(expression)
    for has, form, domain, optional, ident in _READ.findall(expression):
        wrong = _unknown(form, domain, ident, published)
        if wrong is not None:
            yield wrong
        elif (form, domain, ident) not in seen and not has and not optional:
            yield from _unguarded(form, domain, ident, guards)
        seen.add((form, domain, ident))
    yield from _labels(expression)


def unknown_attribute(name: str, published: Mapping[str, frozenset[str]]) -> Mistake | None:
    """The mistake in a qualified attribute name of a constraint, if there is one."""
    domain, _, ident = name.partition("/")
    return _unknown("attributes", domain, ident, published)


def _unknown(
    form: str, domain: str, ident: str, published: Mapping[str, frozenset[str]]
) -> Mistake | None:
    if ident in published.get(domain, ()):
        return None
    if domain == "resource.kubernetes.io":
        if f"{domain}/{ident}" in STANDARD:
            return None
        return _no_such(ident, "Kubernetes defines", [s.partition("/")[2] for s in STANDARD], "")
    driver = DRIVERS.get(domain)
    if driver is None:
        return None
    newest = driver.newest
    own = newest.capacity if form == "capacity" else newest.attributes | newest.optional
    other = newest.attributes | newest.optional if form == "capacity" else newest.capacity
    if ident in own or ident.startswith("memorySlice"):
        return None
    if ident in other:
        right = "attributes" if form == "capacity" else "capacity"
        return Mistake(
            "unknown-attribute",
            f"{ident} of {domain} is not in device.{form}",
            f"read device.{right}['{domain}'].{ident}",
            fatal=True,
        )
    if driver.publishes(ident):
        last = [r.version for r in driver.releases if ident in (r.attributes | r.optional)]
        return Mistake(
            "unknown-attribute",
            f"{domain} published {ident} up to {last[-1] if last else 'an older version'}, and "
            f"no more in {newest.version}",
            _instead(driver, ident, sorted(own)),
        )
    return _no_such(ident, f"{domain} {newest.version} publishes", sorted(own), domain)


def _no_such(ident: str, who: str, names: list[str], domain: str) -> Mistake:
    driver = DRIVERS.get(domain)
    fix = _instead(driver, ident, names)
    return Mistake("unknown-attribute", f"{who} no {ident}", fix, fatal=True)


def _instead(driver: Driver | None, ident: str, names: list[str]) -> str:
    known = driver.instead.get(ident) if driver else None
    lowered = {name.lower(): name for name in names}
    close = get_close_matches(ident.lower(), list(lowered), n=1, cutoff=0.6)
    if known or close:
        return f"did you mean {known or lowered[close[0]]}?"
    return f"there is {', '.join(names)}"


def _types(expression: str) -> Iterator[Mistake]:
    for domain, value in _TYPE.findall(expression):
        driver = DRIVERS.get(domain)
        if driver and driver.newest.types and value not in driver.newest.types:
            there = " or ".join(sorted(driver.newest.types))
            yield Mistake(
                "unknown-type",
                f"the type of a device of {domain} is {there}, never {value}",
                f"for a product read {_product(driver)}",
                fatal=True,
            )


def _product(driver: Driver) -> str:
    return next((k for k in ("productName", "model") if driver.publishes(k)), "accelerator")


def _unguarded(form: str, domain: str, ident: str, guards: Guards) -> Iterator[Mistake]:
    read = f"device.{form}['{domain}'].{ident}"
    driver = DRIVERS.get(domain)
    error = "an error that stops the whole allocation, not a device that does not match"
    if domain not in guards.drivers and domain != "resource.kubernetes.io":
        yield Mistake(
            "unguarded-key",
            f"{ident} is read of devices of other drivers too, which is {error}",
            f"write device.driver == '{domain}' && first",
        )
    elif driver is not None and not driver.has(ident, guards.types.get(domain)):
        yield Mistake(
            "unguarded-key",
            f"not every device of {domain} has {ident}; reading it of one without is {error}",
            f"write has({read}) && first",
        )
    elif domain == "resource.kubernetes.io":
        yield Mistake(
            "unguarded-key",
            f"not every device has {domain}/{ident}; reading it of one without is {error}",
            f"write has({read}) && first",
        )


def _labels(expression: str) -> Iterator[Mistake]:
    """KEP-4381 capacities are what the driver measures: less than the number on the box."""
    for domain, compared, greater in _AT_LEAST.findall(expression):
        text = compared or greater
        try:
            wanted = quantity.parse(text)
        except ValueError:
            continue
        for label, (floor, cards) in label_floors(domain).items():
            if wanted == label << 30 and floor < label << 10:
                yield Mistake(
                    "label-size-quantity",
                    f"{text} is the label, and a card has less to use ({cards}, in MiB)",
                    f"write quantity('{floor >> 10}Gi')",
                )
