"""What a plane does when its manifests have changed: what it runs from now on, and what it refuses.

Pure. Everything comes, goes and changes while a plane runs. A changed InferenceService or function
is the next revision of its service. What a cluster would refuse to change is refused here too, with
its line, before anything has changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from relume.base.errors import InvalidManifest
from relume.base.vocabulary import BROKER_CLASS, DELIVERY_ORDER, Json
from relume.config import Broker, Function, InferenceService, Plan, Trigger
from relume.config.config_objects import by_key, files_of, variables_of

# What a Broker without the annotation is.
_DEFAULT_CLASS = "one without a class"
#: The other fields of a plan, and what their items are called.
_OTHERS: Mapping[str, str] = {
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
    """What to run from now on, and in words what is different.

    InferenceServices are named `NS/NAME`, everything else `KIND NS/NAME`. `shares` has the percent
    of the newest revision of each that has no new one and only another share of the requests.
    """

    plan: Plan
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    shares: tuple[tuple[str, int], ...] = ()

    def to_json(self) -> Json:
        """Return it for the control API; `shares` only where there are some."""
        names = ("added", "changed", "removed")
        found = {name: list(getattr(self, name)) for name in names}
        return {**found, "shares": dict(self.shares)} if self.shares else found


@dataclass(slots=True)
class _Differences:
    added: list[str]
    changed: list[str]
    removed: list[str]
    shares: list[tuple[str, int]]


def reload(running: Plan, read: Plan) -> Reload:
    """Compare the plan that runs with the one that the files say now.

    Raises InvalidManifest for what cannot be changed while it runs.
    """
    _check_fixed(running, read)
    found = _Differences([], [], [], [])
    services = tuple(_services(running, read, found))
    functions = tuple(_functions(running, read, found))
    for of_plan, kind in _OTHERS.items():
        before = {_name(item): item for item in getattr(running, of_plan)}
        for item in getattr(read, of_plan):
            name = _name(item)
            if name not in before:
                found.added.append(f"{kind} {name}")
            elif before.pop(name) != item:
                found.changed.append(f"{kind} {name}")
        found.removed += [f"{kind} {name}" for name in before]
    plan = replace(read, services=services, functions=functions)
    return Reload(
        plan,
        tuple(found.added),
        tuple(found.changed),
        tuple(found.removed),
        tuple(found.shares),
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
        and _percent(service) < 100
        and replace(service, generation=before.generation) != before
    ]
    return replace(read, services=(*both, *read.services))


def _services(running: Plan, read: Plan, found: _Differences) -> list[InferenceService]:
    old = {_name(service): service for service in running.services}
    services = []
    for service in read.services:
        name = _name(service)
        before = old.pop(name, None)
        if before is None:
            found.added.append(name)
            services.append(service)
        elif _template(service) == _template(before):
            if (share := _percent(service)) != _percent(before):
                found.changed.append(name)
                found.shares.append((name, share))
            services.append(replace(service, generation=before.generation))
        else:
            found.changed.append(name)
            services.append(replace(service, generation=before.generation + 1))
    found.removed += old
    return services


def _percent(service: InferenceService) -> int:
    """The share of the newest revision; without the field it gets all requests."""
    return 100 if service.canary_percent is None else service.canary_percent


def _template(service: InferenceService) -> InferenceService:
    """What makes a revision: as in Knative, the share of the requests is no part of it."""
    return replace(service, generation=1, canary_percent=None)


def _functions(running: Plan, read: Plan, found: _Differences) -> list[Function]:
    old = {_name(function): function for function in running.functions}
    functions = []
    for function in read.functions:
        name = f"function {_name(function)}"
        before = old.pop(_name(function), None)
        if before is None:
            found.added.append(name)
            functions.append(function)
        elif _process(function, read) == _process(before, running):
            functions.append(replace(function, generation=before.generation))
        else:
            found.changed.append(name)
            functions.append(replace(function, generation=before.generation + 1))
    found.removed += [f"function {name}" for name in old]
    return functions


def _process(function: Function, plan: Plan) -> tuple[object, ...]:
    """What a process of a function is made of: Secrets, ConfigMaps and SinkBindings too."""
    objects, name = by_key(plan.objects), _name(function)
    bound = [each for each in plan.sink_bindings if _name(each.subject) == name]
    own = replace(function, generation=1)
    return own, variables_of(function, objects), files_of(function, objects), bound


def _check_fixed(running: Plan, read: Plan) -> None:
    """Refuse what a cluster would refuse too, or what would change the order of waiting events."""
    brokers = {_name(each): each for each in running.brokers}
    for broker in read.brokers:
        was = brokers.get(_name(broker), broker)
        if broker.broker_class != was.broker_class:
            where = f"metadata.annotations[{BROKER_CLASS}]"
            raise _fixed(broker, where, f"the Broker runs as {was.broker_class or _DEFAULT_CLASS}")
    triggers = {_name(each): each for each in running.triggers}
    for trigger in read.triggers:
        before = triggers.get(_name(trigger), trigger)
        if trigger.broker != before.broker:
            raise _fixed(trigger, "spec.broker", f"the Trigger reads {before.broker}")
        if trigger.ordered != before.ordered:
            order = "ordered" if before.ordered else "unordered"
            where = f"metadata.annotations[{DELIVERY_ORDER}]"
            raise _fixed(trigger, where, f"the Trigger runs as {order}")


def _fixed(item: Broker | Trigger, where: str, now: str) -> InvalidManifest:
    kind = type(item).__name__
    fix = f"write it as it was, give the {kind} another name, or start relume up again"
    message = f"{now}, which cannot be changed while it runs: {fix}"
    if item.origin is None:
        raise AssertionError("what is read from a file knows its line")
    return InvalidManifest(message, file=item.origin.file, line=item.origin.line, field=where)


def _name(item: object) -> str:
    return f"{item.namespace}/{item.name}"  # type: ignore[attr-defined]
