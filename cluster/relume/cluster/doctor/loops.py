"""Triggers that get their own subscriber's replies.

A Broker feeds a reply to every Trigger. Of a reply of Relume's runtime we know the type and the
source, and that subject, partitionkey and the tracing attributes are the request's.
"""

from collections.abc import Iterator, Mapping

from relume.cluster.admission.judge import child, content, entries, fields
from relume.cluster.doctor.graph import Numbered, named, subscriber
from relume.cluster.findings import Finding, at
from relume.config.nodes import Node, Table

REPLY_TYPES = ("relume.inference.response", "relume.inference.error")
_COPIED = ("subject", "partitionkey", "correlationid", "traceparent", "tracestate", "id", "time")


def judge_loops(documents: Numbered) -> Iterator[tuple[int, Finding]]:
    """Every Trigger whose filter takes a reply of what it sends to."""
    for number, trigger in named(documents, "Trigger").values():
        asked = subscriber(trigger)
        if asked is None or asked[0] != "InferenceService":
            continue
        source = f"/namespaces/{asked[1]}/inferenceservices/{asked[2]}"
        for kind in REPLY_TYPES:
            if _takes(trigger, {"type": kind, "source": source, "specversion": "1.0"}):
                spec = child(trigger, "spec")
                assert spec is not None
                name = "filters" if "filters" in fields(spec) else "filter"
                where = fields(spec).get(name, spec)
                message = f"replies of type {kind} come back to {asked[2]}"
                fix = "Filter on the type of the request: filters: [{exact: {type: …}}]."
                path = f"{spec.path}.{name}"
                yield number, at(where, "reply-loop", message, fix, field=path)
                break


def _takes(trigger: Table, reply: Mapping[str, str]) -> bool:
    """Whether a reply may pass: what we cannot know counts as passing only beside what we do."""
    spec = child(trigger, "spec")
    filters = entries(fields(spec).get("filters"))
    if filters:
        return all(_passes(one, reply) is not False for one in filters) and not any(
            _unknown(one) for one in filters
        )
    attributes = fields(fields(fields(spec).get("filter")).get("attributes"))
    return all(
        name in _COPIED or reply.get(name) == content(node) or (not content(node) and name in reply)
        for name, node in attributes.items()
    )


def _unknown(node: Node) -> bool:
    """Whether a filter is in a language that is not evaluated here."""
    return "cesql" in fields(node) or any(
        _unknown(one)
        for name in ("all", "any", "not")
        for one in (*entries(fields(node).get(name)), *_one(fields(node).get(name)))
    )


def _one(node: Node | None) -> tuple[Node, ...]:
    return (node,) if isinstance(node, Table) else ()


def _passes(node: Node, reply: Mapping[str, str]) -> bool | None:
    """Whether a filter passes a reply; None where it depends on the request."""
    tests = {"exact": str.__eq__, "prefix": str.startswith, "suffix": str.endswith}
    for dialect, value in fields(node).items():
        if dialect in tests:
            return _both(_compare(tests[dialect], value, reply))
        if dialect == "all":
            return _both(_passes(one, reply) for one in entries(value))
        if dialect == "any":
            answers = [_passes(one, reply) for one in entries(value)]
            return True if True in answers else None if None in answers else False
        if dialect == "not":
            inner = _passes(value, reply)
            return None if inner is None else not inner
    return None


def _compare(test: object, value: Node, reply: Mapping[str, str]) -> Iterator[bool | None]:
    for name, wanted in fields(value).items():
        if name in reply:
            yield bool(test(reply[name], content(wanted)))  # type: ignore[operator]
        else:
            yield None if name in _COPIED else False


def _both(answers: Iterator[bool | None]) -> bool | None:
    found = list(answers)
    return False if False in found else None if None in found else True
