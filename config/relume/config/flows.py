"""Read Sequences, Parallels and RequestReplies (knative/eventing `pkg/apis/{flows,eventing}`)."""

from relume.config.durations import iso8601_duration, read_seconds
from relume.config.eventing import (
    DESTINATION,
    leave_out_annotations,
    read_delivery,
    read_destination,
)
from relume.config.fields import Fields, Resource
from relume.config.nodes import Node, Table
from relume.config.resources import (
    Branch,
    Delivery,
    Destination,
    ParallelFlow,
    RequestReply,
    SequenceFlow,
    Step,
)

SEQUENCE_SPEC = Fields.of("steps channelTemplate reply")
PARALLEL_SPEC = Fields.of("branches channelTemplate reply")
STEP = Fields(DESTINATION.honoured | {"delivery"}, DESTINATION.harmless, DESTINATION.refused)
BRANCH = Fields.of("filter subscriber reply delivery")
CHANNEL_TEMPLATE = Fields.of("apiVersion kind spec")
REQUEST_REPLY_SPEC = Fields.of("brokerRef correlationAttribute replyAttribute timeout delivery")
BROKER_REF = Fields.of(
    "apiVersion kind name",
    refused={"a RequestReply is in its Broker's namespace": "namespace", "write uri": "address"},
)
# The fields of the Channels of knative/eventing and of its extensions for Kafka and NATS.
CHANNEL_SPEC = Fields.of(
    "delivery",
    harmless={
        "it is a setting of the Channel's store": "numPartitions replicationFactor "
        "retentionDuration stream consumerConfigTemplate"
    },
    refused={"the steps and branches are the subscribers": "subscribers"},
)
_CHANNELS = "every Channel is stored in JetStream on this machine"
_CORE = ("id", "source", "specversion", "type")


def read_sequence(resource: Resource) -> SequenceFlow:
    """The Sequence of `resource`; whether what it refers to exists is checked later."""
    spec = resource.body.need("spec", "write spec.steps").table()
    SEQUENCE_SPEC.check(spec, resource)
    leave_out_annotations(resource)
    return SequenceFlow(
        namespace=resource.namespace,
        name=resource.name,
        steps=tuple(_read_step(item, resource) for item in _some(spec, "steps")),
        reply=_optional(spec.get("reply"), resource),
        channel_delivery=_channel_delivery(spec.get("channelTemplate"), resource),
        origin=resource.origin,
    )


def read_parallel(resource: Resource) -> ParallelFlow:
    """The Parallel of `resource`; whether what it refers to exists is checked later."""
    spec = resource.body.need("spec", "write spec.branches").table()
    PARALLEL_SPEC.check(spec, resource)
    leave_out_annotations(resource)
    return ParallelFlow(
        namespace=resource.namespace,
        name=resource.name,
        branches=tuple(_read_branch(item, resource) for item in _some(spec, "branches")),
        reply=_optional(spec.get("reply"), resource),
        channel_delivery=_channel_delivery(spec.get("channelTemplate"), resource),
        origin=resource.origin,
    )


def read_request_reply(resource: Resource) -> RequestReply:
    """The RequestReply of `resource`, with the defaults of Knative's webhook."""
    spec = resource.body.need("spec", "write spec.brokerRef").table()
    REQUEST_REPLY_SPEC.check(spec, resource)
    leave_out_annotations(resource)
    reference = spec.need("brokerRef", "name the Broker").table()
    BROKER_REF.check(reference, resource)
    if (kind := reference.get("kind")) is not None:
        kind.one_of("Broker")
    timeout = spec.get("timeout")
    correlation = _extension(spec.get("correlationAttribute"), "correlationid")
    reply = _extension(spec.get("replyAttribute"), "replyid")
    if correlation == reply:
        at = spec.get("replyAttribute") or spec.need("correlationAttribute", "")
        raise at.wrong(f"{reply} is the correlationAttribute too: a request would answer itself")
    return RequestReply(
        namespace=resource.namespace,
        name=resource.name,
        broker=reference.need("name", "name the Broker").filled(),
        correlation_attribute=correlation,
        reply_attribute=reply,
        timeout_s=30.0 if timeout is None else _positive(timeout),
        delivery=read_delivery(spec.get("delivery"), resource),
        origin=resource.origin,
    )


def _some(spec: Table, name: str) -> tuple[Node, ...]:
    node = spec.need(name, "write at least one")
    items = node.items()
    if not items:
        raise node.wrong("is empty: write at least one")
    return items


def _read_step(node: Node, resource: Resource) -> Step:
    subscriber = read_destination(node, resource, STEP)
    return Step(subscriber, read_delivery(node.table().get("delivery"), resource))


def _read_branch(node: Node, resource: Resource) -> Branch:
    table = node.table()
    BRANCH.check(table, resource)
    subscriber = table.need("subscriber", "write subscriber.ref or subscriber.uri")
    return Branch(
        subscriber=read_destination(subscriber, resource),
        filter=_optional(table.get("filter"), resource),
        reply=_optional(table.get("reply"), resource),
        delivery=read_delivery(table.get("delivery"), resource),
    )


def _optional(node: Node | None, resource: Resource) -> Destination | None:
    return None if node is None else read_destination(node, resource)


def _channel_delivery(node: Node | None, resource: Resource) -> Delivery | None:
    """The delivery of a channel template; the rest of the template has no effect here."""
    if node is None:
        return None
    table = node.table()
    CHANNEL_TEMPLATE.check(table, resource)
    for name in ("apiVersion", "kind"):
        table.need(name, "a channel template names a kind of Channel").filled()
    resource.leave_out(node, f"{_CHANNELS}; of its spec only delivery counts")
    if (spec := table.get("spec")) is None:
        return None
    CHANNEL_SPEC.check(spec.table(), resource)
    return read_delivery(spec.table().get("delivery"), resource)


def _extension(node: Node | None, default: str) -> str:
    """The name of an extension attribute; an empty one is the default, as in Knative's webhook."""
    name = "" if node is None else node.text()
    if node is not None and (name in _CORE or (name and not _is_attribute(name))):
        raise node.wrong(
            f"invalid value: {name}: write an extension of lower case letters and digits that is "
            f"not {', '.join(_CORE)}"
        )
    return name or default


def _is_attribute(name: str) -> bool:
    return name.isascii() and name.isalnum() and name == name.lower()


def _positive(node: Node) -> float:
    seconds = read_seconds(node, iso8601_duration)
    if not seconds:
        raise node.wrong(f"invalid value: {node.text()}: must be longer than PT0S")
    return seconds
