"""What a plane does when its manifests have changed: what it takes over, and what needs a restart.

Pure. InferenceServices come, go and change while a plane runs: a changed one is the next revision
of its service. Everything else stays as it was when the plane started, and is told.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from relume.base.vocabulary import Json
from relume.config import InferenceService, Plan

#: The fields of a plan that count only after a restart, and what their items are called.
_FIXED: Mapping[str, str] = {
    "functions": "function",
    "brokers": "Broker",
    "triggers": "Trigger",
    "sequences": "Sequence",
    "parallels": "Parallel",
    "request_replies": "RequestReply",
    "ping_sources": "PingSource",
    "sink_bindings": "SinkBinding",
    "objects": "Secret or ConfigMap",
}


@dataclass(frozen=True, slots=True)
class Reload:
    """The services to run from now on, and in words what is different; names are `NS/NAME`."""

    services: tuple[InferenceService, ...]
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    """What does not count before the plane starts again."""

    def to_json(self) -> Json:
        """Return it for the control API."""
        names = ("added", "changed", "removed", "restart")
        return {name: list(getattr(self, name)) for name in names}


def reload(running: Plan, read: Plan) -> Reload:
    """Compare the plan that runs with the one that the files say now."""
    old = {_name(service): service for service in running.services}
    services, added, changed, restart = [], [], [], []
    for service in read.services:
        name = _name(service)
        before = old.pop(name, None)
        if before is None:
            added.append(name)
            services.append(service)
        elif _template(service) == _template(before):
            if service.canary_percent != before.canary_percent:
                changed.append(name)
            services.append(replace(service, generation=before.generation))
        else:
            changed.append(name)
            services.append(replace(service, generation=before.generation + 1))
            if service.container_concurrency != before.container_concurrency:
                restart.append(f"how many jobs and events {name} gets at once")
    return Reload(
        tuple(services),
        tuple(added),
        tuple(changed),
        tuple(old),
        (*restart, *_not_taken_over(running, read)),
    )


def at_once(running: Plan, read: Plan) -> Plan:
    """Return what is there at once after a reload: of a service that shares its requests, both.

    Its minReplicas then count for the revision that runs and for the newest.
    """
    old = {_name(service): service for service in running.services}
    both = [
        before
        for service in read.services
        if (before := old.get(_name(service))) is not None
        and service.canary_percent not in (None, 100)
        and replace(service, generation=before.generation) != before
    ]
    return replace(read, services=(*both, *read.services))


def _template(service: InferenceService) -> InferenceService:
    """What makes a revision: as in Knative, the share of the requests is no part of it."""
    return replace(service, generation=1, canary_percent=None)


def _not_taken_over(running: Plan, read: Plan) -> Iterable[str]:
    for field, kind in _FIXED.items():
        before = {_name(item): item for item in getattr(running, field)}
        after = {_name(item): item for item in getattr(read, field)}
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                yield f"{kind} {name}"


def _name(item: object) -> str:
    return f"{item.namespace}/{item.name}"  # type: ignore[attr-defined]
