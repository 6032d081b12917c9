"""What the rules of admission share: reading values, and saying what is wrong as a webhook does."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from relume.cluster.admission.cluster import SHIPPED, Cluster
from relume.cluster.findings import Finding, at
from relume.config.nodes import Items, Node, Scalar, Table

INT32 = 2**31 - 1


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
        """The value is refused; `field` where the webhook names another place than the node's."""
        text = content(node) if shown is None else shown
        message = f"invalid value: {text}{': ' if why else ''}{why}"
        self.say(node, "invalid-value", message, fix, field)

    def bounds(self, node: Node, low: object, high: object, *, field: str | None = None) -> None:
        """The value is outside of bounds; `field` as in `invalid`."""
        fix = f"Write a value from {low} to {high}."
        self.say(node, "out-of-range", f"expected {low} <= {content(node)} <= {high}", fix, field)

    def not_allowed(self, node: Node, why: str = "", fix: str = "") -> None:
        """The field must not be set, whatever the flags."""
        self.say(node, "not-allowed", f"must not set the field(s): {node.path}{why}", fix)

    def closed(self, node: Node, flag: str, why: str = "") -> None:
        """The field must not be set while `flag` is off."""
        fix = f"Remove the field, or set {flag}: enabled in the config-features map."
        self.say(node, "feature-off", f"must not set the field(s): {node.path}{why}", fix)

    def missing(
        self, table: Node, *names: str, reason: str = "missing-field", path: str | None = None
    ) -> None:
        """One of these fields of `table` is needed; `path` where the webhook names it otherwise."""
        path = table.path if path is None else path
        paths = [f"{path}.{name}" if path else name for name in names]
        if len(paths) == 1:
            message = f"missing field(s): {paths[0]}"
        else:
            message = f"expected exactly one, got neither: {', '.join(paths)}"
        self.say(table, reason, message, f"Add {' or '.join(names)}.", field=paths[0])

    def several(self, table: Node, *names: str, path: str | None = None) -> None:
        """More than one of these fields of `table` is set; `path` as in `missing`."""
        paths = [f"{table.path if path is None else path}.{name}" for name in names]
        self.say(
            table, "one-of", f"expected exactly one, got both: {', '.join(paths)}", field=paths[0]
        )

    def adopt(self, other: "Judge", reason: str) -> None:
        """Take over what another judge found, its refusals under another reason."""
        for finding in other.found:
            refused = finding.effect == "refused"
            self.found.append(replace(finding, reason=reason) if refused else finding)


def content(node: Node | None) -> str:
    """The text of a scalar, "" of anything else."""
    return node.content if isinstance(node, Scalar) else ""


def number(node: Node | None) -> int | None:
    """The whole number of a node; None where there is none."""
    if not isinstance(node, Scalar) or node.kind != "integer" or len(node.content) > 30:
        return None
    try:
        return int(node.content.replace("_", ""), 0)
    except ValueError:
        return int(node.content, 8) if set(node.content.lstrip("+-")) <= set("01234567") else None


def truth(node: Node | None) -> bool:
    """Whether the node is true."""
    return isinstance(node, Scalar) and node.kind == "boolean" and node.boolean()


def fields(node: Node | None) -> Mapping[str, Node]:
    """The fields of a table that are not null; nothing of anything else."""
    return dict(node) if isinstance(node, Table) else {}


def entries(node: Node | None) -> tuple[Node, ...]:
    """The items of a list; nothing of anything else."""
    return node.nodes if isinstance(node, Items) else ()


def child(node: Node | None, *path: str) -> Node | None:
    """The node at a path of fields, or None."""
    for name in path:
        node = fields(node).get(name)
    return node


def is_set(node: Node | None, *, pointer: bool = False) -> bool:
    """Whether a field says anything: Knative's defaulting removes empty and zero values.

    Not those behind a pointer, where zero is a value of its own.
    """
    if node is None:
        return False
    if pointer:
        return True
    if isinstance(node, Scalar):
        return node.content not in ("", "0") and not (node.kind == "boolean" and not node.boolean())
    return bool(fields(node) or entries(node))


def subset(table: Table, names: Iterable[str]) -> Table:
    """The table with these fields only."""
    wanted = set(names)
    kept = {name: node for name, node in table if name in wanted}
    return Table(table.file, table.line, table.path, kept)
