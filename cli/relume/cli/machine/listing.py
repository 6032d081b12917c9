"""What `relume up` prints when the plane is up: addresses, and its Triggers in words."""

from collections.abc import Mapping, Sequence

from relume.cli.machine.flows import FlowLine, flow_lines, target
from relume.cli.screen import Screen
from relume.config import (
    All,
    Any_,
    Broker,
    Cesql,
    Exact,
    Filter,
    Function,
    InferenceService,
    Negation,
    NotHonoured,
    Prefix,
    Suffix,
    Trigger,
)
from relume.config.urls import without_secrets
from relume.eventing.delivery.profiles import profile_for
from relume.plane.local import LocalPlane


def show_plane(screen: Screen, plane: LocalPlane, *, as_json: bool) -> None:
    """Services, Brokers, Triggers, flows, their addresses, and the fields that are left out."""
    if as_json:
        screen.json(_document(plane))
        return
    plan = plane.plan
    screen.title(f"relume serves at {plane.http}, Brokers at {plane.broker}")
    screen.pairs([("page", f"{plane.http}/"), ("OpenAI base URL", f"{plane.http}/openai/v1")])
    if plan.services:
        screen.line()
        rows = [_service(service, plane) for service in plan.services]
        screen.table(("service", "model", "replicas", "url"), rows)
    if plan.functions:
        screen.line()
        rows = [_function(function, plane) for function in plan.functions]
        screen.table(("function", "folder", "replicas", "url"), rows)
    if plan.brokers:
        screen.line()
        rows = [_broker(broker, plane) for broker in plan.brokers]
        screen.table(("broker", "delivers as", "url"), rows)
        _show_played(screen, plan.brokers)
    if plan.triggers:
        screen.line()
        rows = [_trigger(trigger) for trigger in plan.triggers]
        screen.table(("trigger", "broker", "events", "subscriber"), rows)
    if flows := list(flow_lines(plan)):
        screen.line()
        screen.table(("flow", "does", "url"), [_flow(each, plane) for each in flows])
    _show_not_honoured(screen, plan.not_honoured)
    if screen.terminal:
        screen.line()
        screen.line("Ctrl-C stops it.", "dim")


def _show_not_honoured(screen: Screen, fields: Sequence[NotHonoured]) -> None:
    if not fields:
        return
    screen.line()
    screen.title("not honoured here")
    for field in fields:
        screen.line(f"  {field.file}:{field.line}: {field.field}: {field.why}", "yellow")


def _service(service: InferenceService, plane: LocalPlane) -> tuple[str, ...]:
    return (
        _name(service),
        without_secrets(service.storage_uri),
        _replicas(service.min_replicas, service.max_replicas),
        plane.destinations.service(_name(service)),
    )


def _function(function: Function, plane: LocalPlane) -> tuple[str, ...]:
    return (
        _name(function),
        str(function.folder),
        _replicas(function.min_replicas, function.max_replicas),
        plane.destinations.service(_name(function)),
    )


def _name(item: InferenceService | Function | Broker) -> str:
    return f"{item.namespace}/{item.name}"


def _addressed(item: InferenceService | Function | Broker, url: str) -> dict[str, object]:
    return {"namespace": item.namespace, "name": item.name, "url": url}


def _replicas(least: int, most: int) -> str:
    return f"{least}…{most or '∞'}"


def _broker(broker: Broker, plane: LocalPlane) -> tuple[str, ...]:
    return (
        _name(broker),
        profile_for(broker).name,
        plane.destinations.ingress(_name(broker)),
    )


def _show_played(screen: Screen, brokers: Sequence[Broker]) -> None:
    """One line for each Broker that plays a kind of Broker: which one, and how."""
    for broker in brokers:
        profile = profile_for(broker)
        if profile.plays is not None:
            screen.line(f"  {broker.namespace}/{broker.name} plays {profile.plays}", "dim")


def _trigger(trigger: Trigger) -> tuple[str, ...]:
    return (
        f"{trigger.namespace}/{trigger.name}",
        trigger.broker,
        events_of(trigger),
        target(trigger.subscriber),
    )


def _flow(line: FlowLine, plane: LocalPlane) -> tuple[str, ...]:
    return (f"{line.kind} {line.namespace}/{line.name}", line.does, _url_of(line, plane) or "-")


def _url_of(line: FlowLine, plane: LocalPlane) -> str | None:
    if not line.addressable:
        return None
    return plane.destinations.flow(line.kind, line.namespace, line.name)


def _document(plane: LocalPlane) -> dict[str, object]:
    plan = plane.plan
    return {
        "http": plane.http,
        "broker": plane.broker,
        "openai": f"{plane.http}/openai/v1",
        "services": [_addressed(s, plane.destinations.service(_name(s))) for s in plan.services],
        "functions": [
            _addressed(f, plane.destinations.service(_name(f))) | {"folder": str(f.folder)}
            for f in plan.functions
        ],
        "brokers": [
            _addressed(b, plane.destinations.ingress(_name(b))) | {"profile": profile_for(b).name}
            for b in plan.brokers
        ],
        "triggers": [
            {"namespace": t.namespace, "name": t.name, "broker": t.broker, "events": events_of(t)}
            for t in plan.triggers
        ],
        "flows": [
            {
                "kind": each.kind,
                "namespace": each.namespace,
                "name": each.name,
                "does": each.does,
                "url": _url_of(each, plane),
            }
            for each in flow_lines(plan)
        ],
        "not_honoured": [
            {"file": str(f.file), "line": f.line, "field": f.field, "why": f.why}
            for f in plan.not_honoured
        ],
    }


def events_of(trigger: Trigger) -> str:
    """Which events a Trigger takes, in words."""
    if trigger.filters:
        one = len(trigger.filters) == 1
        return _words(trigger.filters[0] if one else All(trigger.filters))
    if trigger.filters is None and trigger.legacy_attributes:
        return _pairs(trigger.legacy_attributes, "=")
    return "all"


def _words(filter_: Filter) -> str:
    match filter_:
        case Exact(attributes):
            return _pairs(attributes, "=")
        case Prefix(attributes):
            return _pairs(attributes, "^=")
        case Suffix(attributes):
            return _pairs(attributes, "$=")
        case All(filters):
            return " and ".join(map(_inner, filters))
        case Any_(filters):
            return " or ".join(map(_inner, filters))
        case Negation(negated):
            return f"not {_inner(negated)}"
        case Cesql(expression):
            return " ".join(expression.split())  # it may be written over several lines


def _inner(filter_: Filter) -> str:
    words = _words(filter_)
    return f"({words})" if isinstance(filter_, All | Any_ | Cesql) else words


def _pairs(attributes: Mapping[str, str], sign: str) -> str:
    return ", ".join(f"{name}{sign}{value}" for name, value in attributes.items())
