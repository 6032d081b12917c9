"""What is collected while services, Brokers and Triggers are rendered one after the other."""

from dataclasses import dataclass

from relume.cluster.render.draft import Decision, Draft, Json
from relume.cluster.render.rendering import Note
from relume.cluster.render.rules import CLUSTER_SETTING, NOT_YOURS, Rule
from relume.config.head import METADATA
from relume.config.nodes import Node

SERVING = "knative-serving"
LABELS: dict[str, Json] = {"app.kubernetes.io/managed-by": "relume"}


@dataclass(frozen=True, slots=True)
class Setting:
    """A key of a cluster's config map that the rendered files need, and why."""

    namespace: str
    config_map: str
    key: str
    value: str
    why: str


class Book:
    """Drafts by file, notes, and the settings that the cluster needs."""

    def __init__(self) -> None:
        self.decisions: list[Decision] = []
        self.drafts: list[Draft] = []
        self.notes: list[Note] = []
        self._settings: dict[tuple[str, str, str], Setting] = {}

    def adopt(self, file: str, body: dict[str, Json]) -> Draft:
        """A draft that begins as the user's own document, without what a cluster wrote into it."""
        draft = Draft(file, body, self.decisions)
        draft.remove(("status",), NOT_YOURS)
        for name in sorted(METADATA.harmless.keys() - {"labels"}):
            draft.remove(("metadata", name), NOT_YOURS)
        self.drafts.append(draft)
        return draft

    def begin(
        self, file: str, api_version: str, kind: str, name: str, rule: Rule, *, namespace: str = ""
    ) -> Draft:
        """A draft of our own, with its head."""
        draft = Draft(file, {"apiVersion": api_version, "kind": kind}, self.decisions)
        metadata: dict[str, Json] = {"name": name}
        if namespace:
            metadata["namespace"] = namespace
        metadata["labels"] = dict(LABELS)
        draft.body["metadata"] = metadata
        draft.set(("kind",), kind, rule)
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
        origin = node.origin if node is not None else None
        note = (
            Note(origin.file, origin.line, origin.field, message)
            if origin
            else Note(None, 0, "", message)
        )
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
        for setting in self.settings:
            document = f"ConfigMap/{setting.namespace}/{setting.config_map}"
            self._decide(document, f"data.{setting.key}", setting.value, setting.why)
        if longest_s is not None:
            path = "spec.template.spec.terminationGracePeriodSeconds"
            why = "a stopping activator finishes the requests that it holds"
            self._decide(f"Deployment/{SERVING}/activator", path, longest_s, why)

    def _decide(self, document: str, path: str, value: Json, why: str) -> None:
        name = CLUSTER_SETTING.name
        self.decisions.append(Decision("cluster", document, path, value, name, why))

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Every setting, by config map and key."""
        return tuple(self._settings[key] for key in sorted(self._settings))
