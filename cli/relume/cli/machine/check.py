"""`relume up --check`: what this machine would make of manifests; nothing is started."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from relume.base.errors import InvalidInput
from relume.cli.screen import Screen
from relume.config import InferenceService, Machine, Plan
from relume.config.loader import load_plan
from relume.config.machine import require_something
from relume.config.resources import Origin
from relume.config.urls import without_secrets
from relume.config.vllm_flags import RELEASE, installed_release, judged
from relume.plane.launch import missing
from relume.plane.memory import over_budget
from relume.runtimes.models.store import ModelStore, default_root
from relume.serving.openai import served_names


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that is said of a place in a manifest."""

    origin: Origin
    kind: str
    name: str
    why: str

    def to_json(self) -> dict[str, object]:
        at = self.origin
        place: dict[str, object] = {"file": str(at.file), "line": at.line, "field": at.field}
        return place | {"kind": self.kind, "name": self.name, "why": self.why}

    def __str__(self) -> str:
        at = self.origin
        return f"{at.file}:{at.line}: {at.field}: {self.why}"


def check(
    files: Sequence[Path], machine: Machine, *, memory: int | None = None, as_json: bool
) -> int:
    """Print everything that is left out, refused, or to be prepared; 2 where something is refused.

    memory: the budget in bytes that the replicas of minReplicas must fit together. A model that is
    not in the store refuses nothing, and is left out of that sum. Raises InvalidManifest and
    InvalidInput for what cannot be read at all.
    """
    plan = load_plan(files, machine)
    require_something(plan)
    refused = [Line(c.origin, c.kind, c.name, c.why) for c in plan.cannot_run]
    refused += _too_large(plan, memory)
    left_out = [
        Line(Origin(n.file, n.line, n.field), n.kind, n.name, n.why) for n in plan.not_honoured
    ]
    absent = _absent(plan)
    screen = Screen.stdout()
    if as_json:
        screen.json(
            {
                "runs": not refused,
                "services": [_service(service) for service in plan.services],
                "refused": [line.to_json() for line in refused],
                "not_honoured": [line.to_json() for line in left_out],
                "to_prepare": [line.to_json() for line in absent],
                "vllm": {
                    "flags_of": RELEASE,
                    "installed": installed_release(),
                    "checked": judged(),
                },
            }
        )
    else:
        _show(screen, plan, refused, left_out, absent)
    return InvalidInput.exit_code if refused else 0


def _absent(plan: Plan) -> list[Line]:
    """The models that are not here yet; one that is refused is not looked for."""
    store = ModelStore(default_root())
    refused = {wrong.origin for wrong in plan.cannot_run}
    found: list[Line] = []
    for service in plan.services:
        at = service.storage_uri_origin
        if at is None or at in refused or not service.storage_uri:
            continue
        errors = missing(service, store)
        found += [Line(at, "InferenceService", service.name, str(error)) for error in errors]
    return found


def _too_large(plan: Plan, memory: int | None) -> list[Line]:
    """The first service whose minReplicas do not fit into memory beside those before it."""
    store = ModelStore(default_root())
    here = tuple(each for each in plan.services if not missing(each, store))
    found = over_budget(replace(plan, services=here), store, memory)
    if found is None:
        return []
    kind = "InferenceService" if isinstance(found.service, InferenceService) else "function"
    return [Line(found.at, kind, found.service.name, found.why)]


def _names(service: InferenceService) -> list[str]:
    return served_names(service.args) or [service.name]


def _service(service: InferenceService) -> dict[str, object]:
    return {
        "namespace": service.namespace,
        "name": service.name,
        "model": without_secrets(service.storage_uri),
        "folder": service.folder,
        "served_names": _names(service),
    }


def _show(
    screen: Screen,
    plan: Plan,
    refused: Sequence[Line],
    left_out: Sequence[Line],
    absent: Sequence[Line],
) -> None:
    if plan.services:
        rows = [
            (f"{s.namespace}/{s.name}", ", ".join(_names(s)), without_secrets(s.storage_uri) or "-")
            for s in plan.services
        ]
        screen.table(("service", "served as", "model"), rows)
    for title, lines, style in (
        ("refused here", refused, "red"),
        ("not honoured here", left_out, "yellow"),
        ("to prepare first", absent, ""),
    ):
        if lines:
            screen.line()
            screen.title(title)
        for line in lines:
            screen.line(f"  {line}", style)
    if plan.services and not judged():
        screen.line()
        screen.line(
            f"flags of vLLM {installed_release()} are not checked: the table is of {RELEASE}", "dim"
        )
    screen.line()
    verdict = f"{len(refused)} refused" if refused else "relume up runs these files"
    screen.line(f"{verdict}; nothing was started", "bold")
