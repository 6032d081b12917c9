"""What Knative names the Channels and Subscriptions that it makes of a flow.

A flow is run here as it is on a cluster, so its parts have the same names: in logs, in `relume
status` and in dead letters. Names without an equal on a cluster end in `-reply` and in the kind.
Sources: knative/eventing `pkg/reconciler/{sequence,parallel}/resources`.
"""

from collections.abc import Iterator

from relume.config.resources import ParallelFlow, PingSource, RequestReply, SequenceFlow

Flow = SequenceFlow | ParallelFlow
# The host of every RequestReply of a cluster is the service request-reply; here it is a path.
REQUEST_REPLY_PATH = "/request-reply"


def sequence_channel(name: str, step: int) -> str:
    """The Channel in front of a step of a Sequence, and its Subscription."""
    return f"{name}-kn-sequence-{step}"


def parallel_channel(name: str) -> str:
    """The Channel in front of a Parallel."""
    return f"{name}-kn-parallel"


def branch_channel(name: str, branch: int) -> str:
    """The Channel between filter and subscriber of a branch, and the subscriber's Subscription."""
    return f"{name}-kn-parallel-{branch}"


def filter_subscription(name: str, branch: int) -> str:
    """The Subscription of the filter of a branch."""
    return f"{name}-kn-parallel-filter-{branch}"


def reply_channel(subscription: str) -> str:
    """Where replies wait whose destination is a service or a URI and not one of our logs."""
    return f"{subscription}-reply"


def ping_channel(name: str) -> str:
    """Where the events of a PingSource wait whose sink is a service or a URI."""
    return f"{name}-kn-pingsource"


def reply_trigger(name: str) -> str:
    """The Trigger that brings answers to a RequestReply."""
    return f"{name}-kn-requestreply"


def entry_of(kind: str, name: str) -> str | None:
    """The log that takes what is sent to a Broker or flow; None for another kind."""
    match kind:
        case "Broker":
            return name
        case "Sequence":
            return sequence_channel(name, 0)
        case "Parallel":
            return parallel_channel(name)
        case _:
            return None


def channels_of(item: Flow | PingSource) -> Iterator[str]:
    """Every name that a flow or source may use for a log of its own."""
    match item:
        case SequenceFlow(name=name, steps=steps):
            for number in range(len(steps)):
                yield sequence_channel(name, number)
            yield reply_channel(sequence_channel(name, len(steps) - 1))
        case ParallelFlow(name=name, branches=branches):
            yield parallel_channel(name)
            for number in range(len(branches)):
                yield branch_channel(name, number)
                yield reply_channel(branch_channel(name, number))
        case PingSource(name=name):
            yield ping_channel(name)


def trigger_of(item: RequestReply) -> str:
    """The name that a RequestReply uses for a Trigger of its Broker."""
    return reply_trigger(item.name)
