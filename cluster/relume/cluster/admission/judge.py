"""What the rules of admission share: reading values, and saying what is wrong as a webhook does.

The functions that read take a node that may be absent and a path of fields below it, so that a
rule need not ask at each step whether the step is there.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from relume.cluster.admission.cluster import SHIPPED, Cluster
from relume.cluster.findings import Finding, at
from relume.config.nodes import Items, Node, Scalar, Table

INT32 = 2**31 - 1
_T = TypeVar("_T")


@dataclass(slots=True)
class Judge:
    """Gathers the findings of one document on one cluster."""

    cluster: Cluster = SHIPPED
    found: list[Finding] = field(default_factory=list)

    def say(
        self, node: Node, reason: str, message: str, fix: str = "", field: str | None = None
    ) -> None:
        """Add a finding at `node`, or at another `field` on its line."""
        self.found.append(at(node, reason, message, fix, field=field))

    def invalid(
        self,
        node: Node,
        why: str = "",
        fix: str = "",
        *,
        shown: str | None = None,
        field: str | None = None,
    ) -> None:
        """Refuse a value. `field` is set where the webhook names another place than the node's."""
        text = content(node) if shown is None else shown
        message = f"invalid value: {text}{': ' if why else ''}{why}"
        self.say(node, "invalid-value", message, fix, field)

    def bounds(self, node: Node, low: object, high: object, *, field: str | None = None) -> None:
        """Refuse a value that is outside of bounds; `field` as in `invalid`."""
        fix = f"Write a value from {low} to {high}."
        self.say(node, "out-of-range", f"expected {low} <= {content(node)} <= {high}", fix, field)

    def not_allowed(self, node: Node, why: str = "", fix: str = "") -> None:
        """Refuse a field that must not be set, whatever the flags."""
        self.say(node, "not-allowed", f"must not set the field(s): {node.path}{why}", fix)

    def closed(self, node: Node, flag: str, why: str = "") -> None:
        """Refuse a field that must not be set while `flag` is off."""
        fix = f"Remove the field, or set {flag}: enabled in the config-features map."
        cause = f"the feature flag {flag} is {self.cluster.flag(flag)}"
        message = f"must not set the field(s): {node.path}{why}: {cause}"
        self.say(node, "feature-off", message, fix)

    def unsupported(self, node: Node, words: Iterable[str], *, field: str | None = None) -> None:
        """Refuse a word that is none of `words`."""
        known = ", ".join(f'"{word}"' for word in words)
        message = f'unsupported value: "{content(node)}": supported: {known}'
        self.say(node, "unsupported-value", message, field=field)

    def repeated(self, node: Node, *, field: str | None = None) -> None:
        """Refuse a value that an earlier item of the list has."""
        self.say(node, "duplicate-item", f'duplicate value: "{content(node)}"', field=field)

    def missing(
        self, table: Node, *names: str, reason: str = "missing-field", path: str | None = None
    ) -> None:
        """Ask for one of these fields of `table`; `path` where the webhook names it otherwise."""
        path = table.path if path is None else path
        paths = [f"{path}.{name}" if path else name for name in names]
        if len(paths) == 1:
            message = f"missing field(s): {paths[0]}"
        else:
            message = f"expected exactly one, got neither: {', '.join(paths)}"
        self.say(table, reason, message, f"Add {' or '.join(names)}.", field=paths[0])

    def several(self, table: Node, *names: str, path: str | None = None) -> None:
        """Refuse a table in which more than one of its fields `names` is set; `path` as above."""
        paths = [f"{table.path if path is None else path}.{name}" for name in names]
        self.say(
            table, "one-of", f"expected exactly one, got both: {', '.join(paths)}", field=paths[0]
        )

    def check_number(
        self, node: Node | None, low: int, high: int, *, field: str | None = None
    ) -> None:
        """Ask for a number within bounds. The schema refuses what is not a number."""
        value = number(node)
        if node is not None and value is not None and not low <= value <= high:
            self.bounds(node, low, high, field=field)

    def check_word(self, node: Node | None, words: Iterable[str], *, empty: bool = True) -> None:
        """Ask for one of `words`; an empty text passes too if `empty` is true."""
        words = tuple(words)
        if node is not None and content(node) not in words and not (empty and not content(node)):
            self.unsupported(node, words)

    def check_filled(self, table: Node, *names: str, path: str | None = None) -> None:
        """Ask for a text in each of these fields of `table`; `path` as in `missing`."""
        for name in names:
            if not content(table, name):
                self.missing(table, name, path=path)

    def check_one_of(self, table: Node, *names: str, path: str | None = None) -> list[str]:
        """Ask for exactly one of these fields of `table`; returns those that are set."""
        chosen = [name for name in names if name in fields(table)]
        if len(chosen) > 1:
            self.several(table, *chosen, path=path)
        elif not chosen:
            self.missing(table, *names, reason="one-of", path=path)
        return chosen

    def parsed(
        self, node: Node | None, read: Callable[[str], _T], *, field: str | None = None
    ) -> _T | None:
        """Return what `read` makes of a text, or refuse the text if `read` raises ValueError."""
        if node is None:
            return None
        try:
            return read(content(node))
        except ValueError as error:
            self.invalid(node, str(error), field=field)
            return None

    def adopt(self, other: "Judge", reason: str) -> None:
        """Take over what another judge found, its refusals under another reason."""
        for finding in other.found:
            refused = finding.effect == "refused"
            self.found.append(replace(finding, reason=reason) if refused else finding)


def child(node: Node | None, *path: str) -> Node | None:
    """The node at a path of fields; None where it is absent or null."""
    for name in path:
        node = node.get(name) if isinstance(node, Table) else None
    return node


def content(node: Node | None, *path: str) -> str:
    """The text of a scalar; "" for anything else."""
    node = child(node, *path)
    return node.content if isinstance(node, Scalar) else ""


def number(node: Node | None, *path: str) -> int | None:
    """The whole number in a node; None if it holds anything else."""
    node = child(node, *path)
    return int(node.content) if isinstance(node, Scalar) and node.kind == "integer" else None


def truth(node: Node | None, *path: str) -> bool:
    """Whether the node is true."""
    node = child(node, *path)
    return isinstance(node, Scalar) and node.kind == "boolean" and node.boolean()


def fields(node: Node | None, *path: str) -> Mapping[str, Node]:
    """The fields of a table that are not null; empty for anything else."""
    node = child(node, *path)
    return dict(node) if isinstance(node, Table) else {}


def entries(node: Node | None, *path: str) -> tuple[Node, ...]:
    """The items of a list; empty for anything else."""
    node = child(node, *path)
    return node.nodes if isinstance(node, Items) else ()


def is_set(node: Node | None, *, pointer: bool = False) -> bool:
    """Whether a field is set: Knative's defaulting removes empty and zero values.

    A field behind a pointer in the Go type (`pointer`) keeps its zero value.
    """
    if node is None:
        return False
    if pointer:
        return True
    if isinstance(node, Scalar):
        return node.content not in ("", "0") and not (node.kind == "boolean" and not node.boolean())
    return bool(fields(node) or entries(node))
