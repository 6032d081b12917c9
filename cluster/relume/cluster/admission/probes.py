"""The probes of a revision's container (knative/serving pkg/apis/serving/k8s_validation.go)."""

from relume.cluster.admission.judge import INT32, Judge, content, fields, number
from relume.config.nodes import Node

_HANDLERS = ("httpGet", "tcpSocket", "exec", "grpc")


def judge_probe(probe: Node, judge: Judge, *, readiness: bool, port: str, own: bool) -> None:
    """One probe. `own`: of the container that has `port`, which a probe may leave out."""
    chosen = [name for name in _HANDLERS if name in fields(probe)]
    if len(chosen) > 1:
        judge.several(probe, *chosen)
    elif not chosen and not (readiness and own):  # the webhook adds a TCP readiness probe itself
        judge.missing(probe, *_HANDLERS, reason="one-of")
    for name in ("httpGet", "tcpSocket"):
        if name in chosen:
            _judge_port(fields(probe)[name], judge, port=port, own=own)
    if readiness:
        _judge_numbers(probe, judge)


def _judge_port(handler: Node, judge: Judge, *, port: str, own: bool) -> None:
    node = fields(handler).get("port")
    named = content(node) if number(node) is None else ""
    if own and node is not None and named and named != port:
        judge.invalid(node, "Probe port must match container port", "Write the port's number.")
    elif not own and not named and not number(node):
        where = handler if node is None else node
        judge.say(
            where,
            "missing-field",
            f"invalid value: {content(node) or 0}: Probe port must be specified",
            "Name the port.",
            field=f"{handler.path}.port",
        )


def _judge_numbers(probe: Node, judge: Judge) -> None:
    """A readiness probe; without a period it is Knative's own, which tries again at once."""
    inside = fields(probe)
    period = number(inside.get("periodSeconds")) or 0
    for name, low in (("periodSeconds", 0), ("initialDelaySeconds", 0), ("successThreshold", 1)):
        value = number(inside.get(name))
        if value is not None and value < low and not (name == "successThreshold" and value == 0):
            judge.bounds(inside[name], low, INT32)
    for name in ("failureThreshold", "timeoutSeconds"):
        value, node = number(inside.get(name)), inside.get(name)
        if not value or node is None:  # 0 is filled in
            continue
        if period == 0:
            judge.say(
                node,
                "conflict",
                f"{name} is disallowed when periodSeconds is zero",
                "Set periodSeconds, or remove the field.",
            )
        elif value < 1:
            judge.bounds(node, 1, INT32)
