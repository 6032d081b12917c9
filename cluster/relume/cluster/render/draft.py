"""The documents that rendering makes, and the record of which rule decided each field.

A `Draft` is one document, a `Book` collects the drafts, notes and cluster settings of a whole
rendering, and a `Rendering` is the result.
"""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relume.base.vocabulary import SERVING_NAMESPACE, JsonValue
from relume.cluster.render.rules import CLUSTER_SETTING, NOT_YOURS, RenderRule
from relume.config.head import METADATA
from relume.config.nodes import Node

PathStep = str | int

LABELS: dict[str, JsonValue] = {"app.kubernetes.io/managed-by": "relume"}


@dataclass(frozen=True, slots=True)
class FieldDecision:
    """One field that a rule has set, and why.

    `path` is written as Kubernetes writes it, "" for a whole document. The value None means that
    the field was removed.
    """

    file: str
    document: str
    path: str
    value: JsonValue
    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something that whoever applies the files should know, at the field that it is about."""

    file: Path | None
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.file else ""
        return f"{where}{self.field}: {self.message}" if self.field else f"{where}{self.message}"


@dataclass(frozen=True, slots=True)
class Setting:
    """A key of one of Knative's config maps that the rendered files need, and why."""

    config_map: str
    key: str
    value: str
    why: str
    namespace: str = SERVING_NAMESPACE


@dataclass(frozen=True, slots=True)
class Rendering:
    """`documents` by file, relative to the folder; `files` is their text, in the same order."""

    documents: Mapping[str, tuple[dict[str, JsonValue], ...]]
    files: Mapping[str, str]
    notes: tuple[Note, ...]
    decisions: tuple[FieldDecision, ...]


class Draft:
    """One document of one file.

    A draft begins as the user's own document, or as an empty one. Each later change names the rule
    that makes it.
    """

    def __init__(
        self, file: str, body: dict[str, JsonValue], decisions: list[FieldDecision]
    ) -> None:
        self.file = file
        self.body = body
        self._decisions = decisions

    @property
    def label(self) -> str:
        """The document's kind, namespace and name in one word."""
        names = [self.get("metadata", key) for key in ("namespace", "name")]
        return "/".join([str(self.body.get("kind", "")), *(str(name) for name in names if name)])

    def get(self, *path: PathStep) -> JsonValue:
        """The value at `path`, None where there is none."""
        here: JsonValue = self.body
        for key in path:
            if isinstance(here, dict) and isinstance(key, str):
                here = here.get(key)
            elif isinstance(here, list) and isinstance(key, int) and key < len(here):
                here = here[key]
            else:
                return None
        return here

    def set(
        self, path: Sequence[PathStep], value: JsonValue, rule: RenderRule, reason: str = ""
    ) -> None:
        """Put `value` at `path`, making the tables on the way; a list on the way must be there."""
        self._store(path, deepcopy(value))
        self._record(path, value, rule, reason)

    def fill(
        self, values: Mapping[str, JsonValue], rule: RenderRule, reasons: Mapping[str, str]
    ) -> None:
        """Set fields of `spec`; `reasons` are those that differ from the rule's own."""
        for name, value in values.items():
            self.set(("spec", name), value, rule, reasons.get(name, ""))

    def put(
        self,
        path: Sequence[PathStep],
        item: dict[str, JsonValue],
        rule: RenderRule,
        reason: str = "",
    ) -> None:
        """Append an item with a `name` to the list at `path`, unless one of that name is there."""
        found = self.get(*path)
        items = found if isinstance(found, list) else []
        if any(isinstance(other, dict) and other.get("name") == item["name"] for other in items):
            return
        if not items:
            self._store(path, items)
        items.append(deepcopy(item))
        self._record([*path, len(items) - 1], item, rule, reason)

    def remove(self, path: Sequence[PathStep], rule: RenderRule, reason: str = "") -> None:
        """Remove the field at `path`, and the tables that this leaves empty."""
        here = self.get(*path[:-1])
        last = path[-1]
        if not isinstance(here, dict) or not isinstance(last, str) or last not in here:
            return
        del here[last]
        self._record(path, None, rule, reason)
        if not here and len(path) > 1:
            self.remove(path[:-1], rule, reason)

    def _store(self, path: Sequence[PathStep], value: JsonValue) -> None:
        here: Any = self.body
        for key in path[:-1]:
            if isinstance(here, dict) and here.get(key) is None:
                here[key] = {}
            here = here[key]
        here[path[-1]] = value

    def _record(
        self, path: Sequence[PathStep], value: JsonValue, rule: RenderRule, reason: str
    ) -> None:
        why = reason or rule.why
        value = deepcopy(value)
        self._decisions.append(
            FieldDecision(self.file, self.label, spell(path), value, rule.name, why)
        )


def spell(path: Sequence[PathStep]) -> str:
    """A path as Kubernetes writes it: `spec.filters[0].exact`."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.removeprefix(".")


class Book:
    """Drafts by file, notes, and the settings that the cluster needs.

    `given` are kind, namespace and name of the documents that the user wrote.
    """

    def __init__(self, given: Iterable[tuple[str, str, str]] = ()) -> None:
        self.given = frozenset(given)
        self.decisions: list[FieldDecision] = []
        self.drafts: list[Draft] = []
        self.notes: list[Note] = []
        self._settings: dict[tuple[str, str, str], Setting] = {}

    def adopt(self, file: str, body: dict[str, JsonValue]) -> Draft:
        """A draft that begins as the user's own document, without what a cluster wrote into it."""
        draft = Draft(file, body, self.decisions)
        draft.remove(("status",), NOT_YOURS)
        for name in sorted(METADATA.harmless.keys() - {"labels"}):
            draft.remove(("metadata", name), NOT_YOURS)
        self.drafts.append(draft)
        return draft

    def begin(
        self,
        file: str,
        api_version: str,
        kind: str,
        name: str,
        rule: RenderRule,
        spec: Mapping[str, JsonValue] | None = None,
        reasons: Mapping[str, str] | None = None,
        *,
        namespace: str = "",
    ) -> Draft:
        """A new document with this `spec`; `reasons` by field, where the rule's own does not do."""
        draft = Draft(file, {"apiVersion": api_version, "kind": kind}, self.decisions)
        metadata: dict[str, JsonValue] = {"name": name}
        if namespace:
            metadata["namespace"] = namespace
        draft.body["metadata"] = {**metadata, "labels": dict(LABELS)}
        draft.set(("kind",), kind, rule)
        draft.fill(spec or {}, rule, reasons or {})
        self.drafts.append(draft)
        return draft

    def has(self, kind: str, name: str, file: str) -> bool:
        """Whether `file` has that document already."""
        return any(
            draft.file == file
            and (draft.get("kind"), draft.get("metadata", "name")) == (kind, name)
            for draft in self.drafts
        )

    def note(self, node: Node | None, message: str) -> None:
        """Tell the reader something about a field, once."""
        if node is None:
            self.tell(Note(None, 0, "", message))
        else:
            self.tell(Note(node.file, node.line, node.path, message))

    def tell(self, note: Note) -> None:
        """Add a note, once."""
        if note not in self.notes:
            self.notes.append(note)

    def need(self, setting: Setting) -> None:
        """Ask for a key of a config map; of two numbers for one key the larger counts."""
        key = (setting.namespace, setting.config_map, setting.key)
        known = self._settings.get(key)
        if known is None or (setting.value.isdigit() and int(known.value) < int(setting.value)):
            self._settings[key] = setting

    def decide_settings(self, longest_s: int | None) -> None:
        """Record why each setting is there, and the activator's grace of `longest_s` seconds."""
        for one in self.settings:
            document = f"ConfigMap/{one.namespace}/{one.config_map}"
            self.decide("cluster", document, f"data.{one.key}", one.value, CLUSTER_SETTING, one.why)
        if longest_s is not None:
            path = "spec.template.spec.terminationGracePeriodSeconds"
            why = "a stopping activator finishes the requests that it holds"
            document = f"Deployment/{SERVING_NAMESPACE}/activator"
            self.decide("cluster", document, path, longest_s, CLUSTER_SETTING, why)

    def decide(
        self, file: str, document: str, path: str, value: JsonValue, rule: RenderRule, why: str
    ) -> None:
        """Record why a field has its value, in a file that is no document of the base."""
        self.decisions.append(FieldDecision(file, document, path, value, rule.name, why))

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Every setting, by config map and key."""
        return tuple(self._settings[key] for key in sorted(self._settings))
