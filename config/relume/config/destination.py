"""Read a `ref` and `uri`: who gets an event, and `delivery`: how hard to try."""

from collections.abc import Callable
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from relume.config.durations import iso8601_duration
from relume.config.eventing import Delivery, Destination, Ref
from relume.config.fields import Fields, Resource, did_you_mean
from relume.config.metadata import API_VERSIONS
from relume.config.names import namespace_name
from relume.config.nodes import Node, Table

ADDRESSABLE = ("InferenceService", "Broker")  # what a ref can name on this machine
_NO_TOKENS = "no identity tokens are issued here"

DESTINATION = Fields(
    honoured=frozenset({"ref", "uri"}),
    refused={
        "CACerts": "certificates of the system are used: write an address that they cover",
        "audience": _NO_TOKENS,
    },
)
REF = Fields(
    honoured=frozenset({"apiVersion", "kind", "name", "namespace"}),
    refused={"group": "write apiVersion", "address": "write uri"},
)
DELIVERY = Fields(
    honoured=frozenset(
        {"retry", "backoffPolicy", "backoffDelay", "timeout", "deadLetterSink", "retryAfterMax"}
    ),
    harmless={"format": "every event is delivered in binary mode, which every subscriber reads"},
)


def read_destination(node: Node, resource: Resource) -> Destination:
    """A `ref`, a `uri`, or a relative `uri` on a `ref`, as Knative's Destination has it."""
    table = node.table()
    DESTINATION.check(table, resource)
    ref_node, uri_node = table.get("ref"), table.get("uri")
    if ref_node is None and uri_node is None:
        raise node.wrong("expected at least one, got none: write ref or uri")
    ref = None if ref_node is None else _read_ref(ref_node.table(), resource)
    if uri_node is None:
        return Destination(ref=ref)
    return Destination(ref=ref, uri=_url(uri_node) if ref is None else _path(uri_node))


def _read_ref(table: Table, resource: Resource) -> Ref:
    REF.check(table, resource)
    kind_node = table.need("kind", f"known are {' and '.join(ADDRESSABLE)}")
    kind = kind_node.text()
    if kind not in ADDRESSABLE:
        known = " and ".join(ADDRESSABLE)
        hint = did_you_mean(kind, ADDRESSABLE)
        raise kind_node.wrong(f"{kind} is not on this machine: known kinds are {known}{hint}")
    version = table.need("apiVersion", f"write {API_VERSIONS[kind]}")
    if version.text() != API_VERSIONS[kind]:
        raise version.wrong(f"{version.text()} is not known for {kind}: write {API_VERSIONS[kind]}")
    name = table.need("name", f"name the {kind}").filled()
    namespace = table.get("namespace")
    return Ref(
        kind=kind,
        namespace=resource.namespace if namespace is None else namespace_name(namespace),
        name=name,
        api_version=version.text(),
    )


def _path(node: Node) -> str:
    """A path on the ref, with a / in front whether or not it was written."""
    uri = node.filled()
    if _parts(node).scheme or uri.startswith("//"):
        raise node.wrong("an absolute URI is not allowed beside a ref: write a path")
    return uri if uri.startswith("/") else f"/{uri}"


def _url(node: Node) -> str:
    uri = node.filled()
    parts = _parts(node)
    if not parts.scheme or not parts.hostname:
        raise node.wrong("a relative URI is not allowed without a ref: write http://host/path")
    if parts.scheme not in ("http", "https"):
        raise node.wrong(f"invalid value: {uri}: events are sent over http or https")
    return uri


def _parts(node: Node) -> SplitResult:
    """The parts of a URI; raises InvalidManifest where it is none."""
    uri = node.text()
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError as error:
        raise node.wrong(f"invalid value: {uri}: {error}") from error
    if any(character.isspace() or not character.isprintable() for character in uri):
        raise node.wrong(f"invalid value: {uri!r}: no URI has such a character")
    return parts


def read_delivery(node: Node | None, resource: Resource) -> Delivery | None:
    """A DeliverySpec; None where there is none, so that the Broker's or the default applies."""
    if node is None:
        return None
    table = node.table()
    DELIVERY.check(table, resource)
    retry, sink = table.get("retry"), table.get("deadLetterSink")
    return Delivery(
        retry=None if retry is None else retry.integer(),
        backoff_policy=_policy(table.get("backoffPolicy")),
        backoff_delay_s=_seconds(table.get("backoffDelay"), lambda s: s >= 0),
        timeout_s=_seconds(table.get("timeout"), lambda s: s > 0),
        dead_letter_sink=None if sink is None else read_destination(sink, resource),
        retry_after_max_s=_seconds(table.get("retryAfterMax"), lambda s: s >= 0),
    )


def _policy(node: Node | None) -> Literal["linear", "exponential"] | None:
    if node is None:
        return None
    return "linear" if node.one_of("linear", "exponential") == "linear" else "exponential"


def _seconds(node: Node | None, allowed: Callable[[float], bool]) -> float | None:
    if node is None:
        return None
    text = node.text()
    try:
        seconds = iso8601_duration(text)
    except ValueError as error:
        raise node.wrong(f"invalid value: {text}: {error}") from error
    if not allowed(seconds):
        raise node.wrong(f"invalid value: {text}: must be more than nothing")
    return seconds
