"""Flows and sources of a plan in words: what each does, and where it takes events."""

from collections.abc import Iterator
from dataclasses import dataclass

from relume.config import Destination, ParallelFlow, PingSource, Plan, SequenceFlow, SinkBinding
from relume.config.urls import without_secrets


@dataclass(frozen=True, slots=True)
class FlowLine:
    """One flow or source; `addressable`: events can be posted to it."""

    kind: str
    namespace: str
    name: str
    does: str
    addressable: bool = True


def flow_lines(plan: Plan) -> Iterator[FlowLine]:
    """Every flow and source, in the order of the plan."""
    for sequence in plan.sequences:
        yield FlowLine("Sequence", sequence.namespace, sequence.name, _steps(sequence))
    for parallel in plan.parallels:
        yield FlowLine("Parallel", parallel.namespace, parallel.name, _branches(parallel))
    for each in plan.request_replies:
        does = f"asks Broker {each.broker}, and waits {each.timeout_s:g} s for the answer"
        yield FlowLine("RequestReply", each.namespace, each.name, does)
    for source in plan.ping_sources:
        yield FlowLine("PingSource", source.namespace, source.name, _pings(source), False)
    for binding in plan.sink_bindings:
        yield FlowLine("SinkBinding", binding.namespace, binding.name, _binds(binding), False)


def target(destination: Destination) -> str:
    """A destination in words: kind and name, or the URL."""
    if destination.ref is None:
        return without_secrets(destination.uri or "")
    return f"{destination.ref.kind} {destination.ref.name}{destination.uri or ''}"


def _steps(flow: SequenceFlow) -> str:
    ways = [target(step.subscriber) for step in flow.steps]
    return " → ".join(ways if flow.reply is None else [*ways, target(flow.reply)])


def _branches(flow: ParallelFlow) -> str:
    return "; ".join(
        " → ".join(
            target(each)
            for each in (branch.filter, branch.subscriber, branch.reply or flow.reply)
            if each is not None
        )
        for branch in flow.branches
    )


def _pings(source: PingSource) -> str:
    return f"{source.schedule} ({source.timezone or 'UTC'}) → {target(source.sink)}"


def _binds(binding: SinkBinding) -> str:
    return f"K_SINK of {binding.subject.kind} {binding.subject.name} is {target(binding.sink)}"
