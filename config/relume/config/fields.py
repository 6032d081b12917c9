"""Which fields a table may have, and what becomes of each: honoured, left out, or refused."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher, get_close_matches

from relume.config.here import ManifestSurroundings
from relume.config.nodes import Node, Table
from relume.config.resources import CannotRun, NotHonoured, Origin

_CLOSE, _VERY_CLOSE = 0.6, 0.75  # shares of equal letters


@dataclass(slots=True)
class Resource:
    """One manifest while it is read.

    What this machine leaves out of it is collected in `left`, and what it cannot do in `cannot`.
    """

    kind: str
    namespace: str
    name: str
    origin: Origin
    body: Table
    annotations: dict[str, Node] = field(default_factory=dict)
    left: list[NotHonoured] = field(default_factory=list)
    cannot: list[CannotRun] = field(default_factory=list)
    here: ManifestSurroundings = field(default_factory=ManifestSurroundings)
    # False for a kind that has no meaning of its own on this machine.
    is_run: bool = True

    def leave_out(self, node: Node, why: str) -> None:
        """Note that `node` has no effect on this machine."""
        self.note(node.origin, why)

    def note(self, at: Origin, why: str) -> None:
        """Note that what is written at `at` has no effect on this machine."""
        self.left.append(NotHonoured(at.file, at.line, at.field, self.kind, self.name, why))

    def cannot_run(self, at: Origin, why: str) -> None:
        """Note that this machine, unlike a cluster, cannot do what is written at `at`."""
        self.cannot.append(CannotRun(at, self.kind, self.name, why))


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of one table.

    `harmless` maps a field that is left out to why no answer changes, `refused` one that would
    change answers to what to do instead.
    """

    honoured: frozenset[str]
    harmless: Mapping[str, str]
    refused: Mapping[str, str]

    @classmethod
    def of(
        cls,
        honoured: str,
        harmless: Mapping[str, str] | None = None,
        refused: Mapping[str, str] | None = None,
    ) -> "Fields":
        """The fields of a table, written as names with spaces between them.

        In `harmless` and `refused` the reason is the key, and its fields are the value.
        """
        return cls(frozenset(honoured.split()), _by_name(harmless), _by_name(refused))

    @property
    def known(self) -> frozenset[str]:
        """Every field that the API has in this table."""
        return self.honoured | self.harmless.keys() | self.refused.keys()

    def refuse_unknown(self, table: Table) -> None:
        """Raise InvalidManifest for the first field that the API does not have."""
        for name, node in table.entries.items():
            if name not in self.known:
                raise node.wrong(f"unknown field{did_you_mean(name, self.known)}")

    def check(self, table: Table, resource: Resource) -> None:
        """Note what is left out or refused here; raises InvalidManifest for an unknown field."""
        self.refuse_unknown(table)
        for name, node in table:
            if name in self.refused:
                why = f"not honoured on this machine: {self.refused[name]}"
                resource.cannot_run(node.origin, why)
            if name in self.harmless:
                resource.leave_out(node, self.harmless[name])


def _by_name(reasons: Mapping[str, str] | None) -> dict[str, str]:
    return {name: why for why, names in (reasons or {}).items() for name in names.split()}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The hint `; did you mean …?` where one of `known` is close to `name`, else nothing.

    A word of a quite different length has to begin like it: `data` is no `metadata` misspelled.
    """
    spelled = {choice.lower(): choice for choice in sorted(known)}
    close = get_close_matches(name.lower(), spelled, n=1, cutoff=_CLOSE)
    return f"; did you mean {spelled[close[0]]}?" if close and _alike(name, close[0]) else ""


def _alike(name: str, other: str) -> bool:
    """Whether one of two close words may be the other one misspelled."""
    if abs(len(other) - len(name)) <= 1 or name.lower()[:3] == other[:3]:
        return True
    return SequenceMatcher(None, name.lower(), other).ratio() >= _VERY_CLOSE
