"""Why a Trigger takes an event or does not: the tree of its filter clauses, with the facts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Dialect = Literal["none", "attributes", "exact", "prefix", "suffix", "all", "any", "not", "cesql"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One clause and what it says about one event.

    `field` is where the clause is written (`spec.filters[0].exact.type`), `asked` what it wants,
    `had` the values of the attributes that it looks at (None: the event has no such attribute).
    `clauses` are those inside it, without the ones that CESQL must not evaluate because the result
    was known before, and `joined` is how they count. `error` is why a CESQL clause has no value.
    """

    dialect: Dialect
    field: str
    asked: str
    passed: bool
    had: Mapping[str, str | None]
    clauses: "tuple[Verdict, ...]" = ()
    joined: Literal["and", "or", "xor"] = "and"
    error: str | None = None

    @property
    def decisive(self) -> "Verdict":
        """The smallest clause that settles the matter by itself.

        Where all clauses had to pass and did, or one had to and none did, none of them does: then
        it is the clause around them.
        """
        deciding = self._deciding()
        return self if deciding is None else deciding.decisive

    def to_json(self) -> dict[str, object]:
        """The whole tree as JSON types."""
        return {
            "dialect": self.dialect,
            "field": self.field,
            "asked": self.asked,
            "passed": self.passed,
            "had": dict(self.had),
            "error": self.error,
            "clauses": [clause.to_json() for clause in self.clauses],
        }

    def _deciding(self) -> "Verdict | None":
        if len(self.clauses) == 1:
            return self.clauses[0]
        if self.error is not None:
            return next((clause for clause in self.clauses if clause.error is not None), None)
        if self.joined == "xor" or self.passed == (self.joined == "and"):
            return None
        return next((clause for clause in self.clauses if clause.passed == self.passed), None)
