"""Writes eventing/CLOUDEVENTS.md: where our codec and the SDK's two versions disagree, and why.

.venv/bin/python -m tests.conformance.differential
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relume.cloudevents.event import InvalidEvent, canonical, charset_of, decoded, is_json, is_text
from relume.cloudevents.http import Mode, decode, encode
from tests.conformance.probes import PROBES, Probe
from tests.conformance.sdk_versions import ROOT, run_with_sdk

DOCUMENT: Path = ROOT / "eventing" / "CLOUDEVENTS.md"
EXPECTED = {
    "specversion": "1.0",
    "id": "1",
    "source": "/s",
    "type": "t",
    "time": "2026-01-01T00:00:00Z",
}
HEAD = """\
# CloudEvents over HTTP: Relume and the SDK, message by message

Relume reads and writes CloudEvents 1.0.2 with a codec of its own, `relume.cloudevents.http`: \
binary, structured and batched mode, the JSON format, version 0.3 read as 1.0.
`relume.cloudevents.sdk` converts to and from the events of the CloudEvents SDK for Python, 1.x \
and 2.x.

{total} messages were read by Relume and by both versions of the SDK. The table has those on which \
they differ, with the clause that decides: `HTTP` is the HTTP protocol binding, `JSON` the JSON \
event format, `spec` the core specification, each 1.0.2.
Relume reads here by the letter, as a Broker does with `relume up --strict-events`. Without it, a \
header that is not encoded is read as it is meant ([`README.md`](README.md)).
What is not shown of an event is as it was sent. "Then in a header" and "then in binary mode" mean \
that the event was written again.
Relume differs from SDK {one} on {differ_one} messages and from SDK {two} on {differ_two}; all \
three agree on {agree}.

Written by `python -m tests.conformance.differential`; a test keeps it current.

| message | Relume | SDK {one} | SDK {two} | decided by |
|---|---|---|---|---|
"""


def ours(probe: Probe) -> str:
    """How our codec reads the probe, in the words of the table."""
    try:
        message = decode(probe.headers, probe.body)
        if len(message.events) != 1:
            return f"{len(message.events)} events"
        event = message.event
    except InvalidEvent:
        return "refused"
    if probe.write is not None:
        headers, body = encode(event, Mode(probe.write))
        return written(dict(headers), body)
    attributes = {name: canonical(value) for name, value in event.attributes.items()}
    return event_shown(attributes, shown(event.data, attributes.get("datacontenttype")))


def theirs(reading: dict[str, Any]) -> str:
    """How a version of the SDK read a probe, in the words of the table."""
    if "error" in reading:
        return f"refused ({reading['error']})"
    if "headers" in reading:
        headers = {name.lower(): value for name, value in reading["headers"].items()}
        return written(headers, base64.b64decode(reading["body"]))
    attributes = reading["attributes"]
    media_type = attributes.get("datacontenttype")
    data = reading["data"] if "data" in reading else base64.b64decode(reading["bytes"])
    return event_shown(attributes, shown(data, media_type))


def shown(data: object, media_type: str | None) -> str:
    """Data as JSON, as a text in quotes, or as bytes: by its type, not by how a reader holds it."""
    if data is None:
        return ""
    if isinstance(data, bytes):
        try:
            if media_type is not None and is_json(media_type):
                return f"data {json.dumps(json.loads(data), ensure_ascii=False)}"
            if media_type is not None and is_text(media_type):
                data = decoded(data, charset_of(media_type) or "utf-8")
        except (ValueError, LookupError):
            pass
    if isinstance(data, bytes):
        return f"data of bytes {data.hex(' ')}"
    if isinstance(data, str) and media_type is not None and is_text(media_type):
        return f"data the text {data}"
    return f"data {json.dumps(data, ensure_ascii=False)}"


def event_shown(attributes: dict[str, str], data: str) -> str:
    """What of an event is not as every probe has it."""
    parts = [f"no {name}" for name in EXPECTED if name not in attributes]
    parts += [
        f"{name} {value or '(empty)'}"
        for name, value in sorted(attributes.items())
        if EXPECTED.get(name) != value and name != "datacontenttype"
    ]
    if "datacontenttype" in attributes:
        parts.append(attributes["datacontenttype"])
    return ", ".join([*parts, *([data] if data else [])]) or "as sent"


def written(headers: dict[str, str], body: bytes) -> str:
    """What of a written message is not as every probe has it."""
    usual = {f"ce-{name}": value for name, value in EXPECTED.items()}
    parts = [f"{n}: {v}" for n, v in sorted(headers.items()) if usual.get(n) != v]
    return ", ".join([*parts, *([f"body {body.decode('latin-1')}"] if body else [])])


def rows() -> Iterator[tuple[Probe, str, str, str]]:
    """Every probe and its three readings. Runs both SDKs, each in a process of its own."""
    module = ("-m", "tests.conformance.sdk_reading")
    _, one = json.loads(run_with_sdk(1, *module))
    _, two = json.loads(run_with_sdk(2, *module))
    for probe, first, second in zip(PROBES, one, two, strict=True):
        yield probe, ours(probe), theirs(first), theirs(second)


def versions() -> tuple[str, str]:
    """The versions of the SDK that were compared."""
    program = "import importlib.metadata as m; print(m.version('cloudevents'))"
    return run_with_sdk(1, "-c", program).strip(), run_with_sdk(2, "-c", program).strip()


def same(left: str, right: str) -> bool:
    """Whether two readings agree; how an error is called does not matter."""
    return left == right or (left.startswith("refused") and right.startswith("refused"))


def document() -> str:
    """The text of eventing/CLOUDEVENTS.md."""
    table = list(rows())
    one, two = versions()
    head = HEAD.format(
        total=len(table),
        one=one,
        two=two,
        differ_one=sum(not same(ours, first) for _, ours, first, _ in table),
        differ_two=sum(not same(ours, second) for _, ours, _, second in table),
        agree=sum(same(ours, first) and same(ours, second) for _, ours, first, second in table),
    )
    lines = [
        "| " + " | ".join(map(cell, (probe.asks, ours, first, second, probe.clause))) + " |\n"
        for probe, ours, first, second in table
        if not (same(ours, first) and same(ours, second))
    ]
    return head + "".join(lines)


def cell(text: str) -> str:
    """A text as a table cell, printable."""
    visible = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
    return visible.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    DOCUMENT.write_text(document())
