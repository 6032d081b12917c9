"""Destinations, delivery and filters, which Knative Eventing's kinds share.

Source: knative/pkg apis/duck/v1/{destination,knative_reference}.go; knative/eventing
pkg/apis/duck/v1/delivery_types.go, pkg/apis/eventing/v1/trigger_validation.go.
"""

import re
import ssl

from relume.cesql.parser import ParseError, parse
from relume.cluster.admission.judge import Judge, child, content, entries, fields, number
from relume.config.eventing import ATTRIBUTE_NAME
from relume.config.nodes import Node

# rickb777/date period: a sign, then numbers with these marks in this order. Of a fraction only its
# first digit is kept, so that PT0.05S is nothing.
_PERIOD = re.compile(
    r"[+-]?P(?=[0-9+\-T0])((?P<Y>[^YMWDT]+)Y)?((?P<O>[^MWDT]+)M)?((?P<W>[^WDT]+)W)?((?P<D>[^DT]+)D)?"
    r"(T((?P<H>[^HMS]+)H)?((?P<M>[^MS]+)M)?((?P<S>[^S]+)S)?)?"
)
_NUMBER = re.compile(r"[+-]?\d+([.,]\d*)?", re.ASCII)
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(//([^/?#]*@)?(?P<host>[^/?#]*))?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_HOST = re.compile(r"(\[[^\]]*\]|[^\[\]:]*)(:\d*)?")
_DIALECTS = ("exact", "prefix", "suffix", "all", "any", "not", "cesql")


def judge_destination(node: Node | None, owner: Node, name: str, judge: Judge) -> None:
    """A `ref`, a `uri`, or a relative `uri` on a `ref`; `owner` is where it is missing."""
    reference, uri = child(node, "ref"), child(node, "uri")
    path = f"{owner.path}.{name}"
    if reference is None and uri is None:
        message = f"expected at least one, got none: {path}.ref, {path}.uri"
        fix = "Write ref or uri."
        judge.say(node or owner, "missing-field", message, fix, field=f"{path}.ref")
    elif uri is None:
        assert reference is not None
        judge_reference(reference, judge)
    else:
        why, found = url_error(content(uri)), _ABSOLUTE.match(content(uri))
        # Without a ref an absolute URI has a host too.
        absolute = found is not None and bool(found["host"] or reference is not None)
        if why is not None or (absolute and reference is None):
            _judge_certificates(child(node, "CACerts"), f"{path}.caCert", judge)
        if why is not None:
            judge.invalid(uri, why)
        elif absolute and reference is not None:
            judge.say(
                uri,
                "conflict",
                "Absolute URI is not allowed when Ref or [apiVersion, kind, name] is present: "
                f"{path}.ref, {path}.uri, {path}[apiVersion, kind, name]",
                "Write a path, or remove the ref.",
            )
        elif not absolute and reference is None:
            fix = "Write http://host/path."
            judge.invalid(uri, "Relative URI is not allowed without a ref", fix)


def _judge_certificates(node: Node | None, field: str, judge: Judge) -> None:
    """The certificate of the authority that signed the destination's."""
    if node is None:
        return
    try:
        ssl.create_default_context(cadata=content(node))
    except (ValueError, ssl.SSLError):
        judge.invalid(node, "CA Cert provided is invalid", shown="", field=field)


def url_error(text: str) -> str | None:
    """Why Go's net/url refuses a text; None if the text is a URL."""
    if any(character < " " or character == "\x7f" for character in text):
        return "invalid control character in URL"
    before, colon, _ = re.split(r"([/?#])", text, maxsplit=1)[0].partition(":")
    scheme = _SCHEME.fullmatch(before) if colon else None
    if colon and scheme is None:
        return "missing protocol scheme" if not before else "first path segment contains a colon"
    rest = text[len(before) + 1 :] if scheme else text
    path, _, fragment = rest.partition("#")
    path = path.partition("?")[0]
    if path.startswith("//"):
        host, _, path = path[2:].partition("/")
        host = host.rpartition("@")[2]
        if re.search(r"[ <>\"{}|\\^`]", host) or ("%" in host and "[" not in host):
            return f"invalid character or escape in host name {host}"
        if not _HOST.fullmatch(host):
            return f"invalid host or port {host}"
    if re.search(r"%(?![0-9A-Fa-f]{2})", path + fragment):
        return "invalid URL escape"
    return None


def judge_reference(node: Node, judge: Judge) -> None:
    """A reference to another object by apiVersion, kind and name."""
    judge.check_filled(node, "name", "kind")
    group = child(node, "group")
    grouped = judge.cluster.enabled("kreference-group")
    if not content(node, "apiVersion") and not (grouped and content(group)):
        judge.missing(node, "apiVersion")
    if group is not None and content(group) and not grouped:
        judge.closed(group, "kreference-group")


def judge_delivery(node: Node | None, judge: Judge) -> None:
    """Retries, the waits between them, the time of an attempt, and the sink of what failed."""
    inside = fields(node)
    if node is not None and "deadLetterSink" in inside:
        judge_destination(inside["deadLetterSink"], node, "deadLetterSink", judge)
    retry, value = inside.get("retry"), number(node, "retry")
    if retry is not None and value is not None and value < 0:
        judge.invalid(retry, "must not be negative")
    for name, words in (
        ("backoffPolicy", ("linear", "exponential")),
        ("format", ("json", "binary")),
    ):
        if name in inside and content(inside[name]) not in words:
            judge.invalid(inside[name], f"must be {' or '.join(words)}")
    if (delay := inside.get("backoffDelay")) is not None and _tenths(content(delay)) is None:
        judge.invalid(delay, "must be an ISO 8601 duration, such as PT0.2S")
    if (timeout := inside.get("timeout")) is not None:
        if not judge.cluster.enabled("delivery-timeout"):
            judge.closed(timeout, "delivery-timeout")
        elif not _tenths(content(timeout)):
            judge.invalid(timeout, "must be an ISO 8601 duration above nothing, such as PT5M")
    if (most := inside.get("retryAfterMax")) is not None:
        tenths = _tenths(content(most))
        if not judge.cluster.enabled("delivery-retryafter"):
            judge.closed(most, "delivery-retryafter")
        elif tenths is None or tenths < 0:
            judge.invalid(most, "must be an ISO 8601 duration, such as PT1M")


def judge_period(node: Node, judge: Judge) -> None:
    """A duration that is longer than zero."""
    tenths = _tenths(content(node))
    if tenths is None or tenths <= 0:
        judge.invalid(node, "must be a positive ISO 8601 duration, such as PT1M")


def judge_lasting(node: Node, judge: Judge) -> None:
    """A duration that may be zero."""
    tenths = _tenths(content(node))
    if tenths is None or tenths < 0:
        judge.invalid(node, "must be an ISO 8601 duration, such as PT168H")


def _tenths(text: str) -> float | None:
    """Tenths of seconds in an ISO 8601 duration (a month has 30 days); None for any other text."""
    if text == "P0":
        return 0.0
    match = _PERIOD.fullmatch(text)
    if match is None or not any(match.groupdict().values()):
        return None
    total = 0.0
    seconds = {"Y": 31557600, "O": 2592000, "W": 604800, "D": 86400, "H": 3600, "M": 60, "S": 1}
    for mark, written in match.groupdict().items():
        if written is None:
            continue
        if not _NUMBER.fullmatch(written) or len(written) > 15:
            return None
        whole, _, fraction = written.replace(",", ".").partition(".")
        total += int(whole + (fraction[:1] or "0")) * seconds[mark]
    return -total if text.startswith("-") else total


def judge_filters(node: Node | None, judge: Judge) -> None:
    """`filters`: each has one dialect, at any depth."""
    for one in entries(node):
        _judge_filter(one, judge)


def judge_attributes(node: Node | None, judge: Judge) -> None:
    """Names of CloudEvents attributes."""
    for name, value in fields(node).items():
        if not ATTRIBUTE_NAME.fullmatch(name):
            path = value.path.removesuffix(f".{name}" if name else '.""')
            judge.say(
                value,
                "invalid-value",
                f'invalid key name "{name}": {path}[{name}]: Attribute name must start with a '
                "letter and can only contain lowercase alphanumeric",
                "Rename the attribute in the events too: CloudEvents allows no other names.",
                field=f"{path}[{name}]",
            )


def _judge_filter(node: Node, judge: Judge) -> None:
    inside = fields(node)
    chosen = [n for n in _DIALECTS if fields(inside.get(n)) or entries(inside.get(n))]
    if content(inside.get("cesql")):
        chosen.append("cesql")
    if "not" in inside and "not" not in chosen:
        chosen.append("not")
    if len(chosen) > 1:
        judge.say(
            node,
            "one-of",
            f"multiple dialects found, filters can have only one dialect set: {', '.join(chosen)}",
            "Write each dialect as an item of its own: filters must all hold.",
        )
    for name in ("exact", "prefix", "suffix"):
        judge_attributes(inside.get(name), judge)
    for name in ("all", "any"):
        judge_filters(inside.get(name), judge)
    if "not" in inside:
        _judge_filter(inside["not"], judge)
    expression = inside.get("cesql")
    if expression is not None and content(expression):
        try:
            parse(content(expression))
        except ParseError as error:
            message = f"invalid value: {content(expression)}: {error}"
            judge.say(expression, "invalid-expression", message)
