"""What an item's verdict rests on: what was asked, what came back, kept as a file with its hash."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from relume.base.vocabulary import Json
from relume.cluster.apply.api import ApiAnswer, ClusterApi

Outcome = Literal["pass", "fail", "unknown"]
#: What is kept of a collection; the rest is counted.
_MOST_ITEMS = 50


@dataclass(frozen=True, slots=True)
class Seen:
    """A verdict, and the sentence that says why."""

    outcome: Outcome
    saw: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """A file of the report."""

    name: str
    content: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclass(slots=True)
class Recorder:
    """A cluster that remembers what it was asked for one item. Implements what probes read."""

    api: ClusterApi
    asked: list[Json] = field(default_factory=list)

    def get(self, path: str) -> Json | None:
        """See `ClusterApi.get`."""
        answer = self.api.get(path)
        self.asked.append({"get": path, "answer": answer})
        return answer

    def list(
        self, path: str, keep: Callable[[Json], Json] = lambda item: item
    ) -> Sequence[Json] | None:
        """See `ClusterApi.list`; `keep` takes from an item what may be shown to others."""
        answer = self.api.list(path)
        kept = None if answer is None else [keep(item) for item in answer[:_MOST_ITEMS]]
        count = None if answer is None else len(answer)
        self.asked.append({"list": path, "count": count, "items": kept})
        return answer

    def try_create(self, path: str, body: Json) -> ApiAnswer:
        """Let the API server judge an object, and keep nothing of it (dry run)."""
        answer = self.api.change("POST", path, body, dryRun="All", fieldManager="relume")
        said = {"code": answer.code, "body": answer.body}
        self.asked.append({"dry run": path, "object": body, "answer": said})
        return answer

    def evidence(self, item: str, seen: Seen) -> Evidence:
        """The file of this item."""
        content = {"item": item, "verdict": seen.outcome, "saw": seen.saw, "asked": self.asked}
        text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, default=str)
        return Evidence(f"{item}.json", text.encode() + b"\n")
