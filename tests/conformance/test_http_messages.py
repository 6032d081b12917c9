"""Whole HTTP messages and the events that they carry, clause by clause (HTTP binding 1.0.2)."""

import base64
from dataclasses import dataclass

import pytest

from relume.cloudevents.event import InvalidEvent
from relume.cloudevents.http import Mode, decode


@dataclass(frozen=True)
class Sent:
    """A message as it is written, and what it says. `data` is None where it has none."""

    clause: str
    mode: Mode
    text: str
    attributes: dict[str, object]
    data: bytes | None


REQUIRED = {"specversion": "1.0", "id": "job-9", "source": "urn:queue:9", "type": "job.queued"}
BINARY = """\
ce-specversion: 1.0
ce-id: job-9
ce-source: urn:queue:9
ce-type: job.queued
"""
STRUCTURED = '{"specversion":"1.0","id":"job-9","source":"urn:queue:9","type":"job.queued"%s}'
EMOJI = "%F0%9F%94%A5"

MESSAGES = {
    "the bytes of a binary message are the data": Sent(
        "HTTP 3.1.2",
        Mode.BINARY,
        BINARY + "Content-Type: application/json\n\n{ 'not': json",
        {**REQUIRED, "datacontenttype": "application/json"},
        b"{ 'not': json",
    ),
    "a charset belongs to the data's type": Sent(
        "HTTP 3.1.1",
        Mode.BINARY,
        BINARY + "Content-Type: application/json; charset=utf-8\n\n[1, 2]",
        {**REQUIRED, "datacontenttype": "application/json; charset=utf-8"},
        b"[1, 2]",
    ),
    "a binary message without a body has no data": Sent(
        "HTTP 3.1.2", Mode.BINARY, BINARY + "\n", REQUIRED, None
    ),
    "header names have any case and attributes have none": Sent(
        "HTTP 3.1.3.1",
        Mode.BINARY,
        BINARY.replace("ce-", "CE-") + "Ce-TraceParent: 00-ab-cd-01\n\n",
        {**REQUIRED, "traceparent": "00-ab-cd-01"},
        None,
    ),
    "headers without the prefix are no attributes": Sent(
        "HTTP 3.1.3", Mode.BINARY, BINARY + "User-Agent: probe\nHost: h\n\n", REQUIRED, None
    ),
    "what is percent-encoded is UTF-8": Sent(
        "HTTP 3.1.3.2",
        Mode.BINARY,
        BINARY + f"ce-subject: 20%25%20{EMOJI}\n\n",
        {**REQUIRED, "subject": "20% 🔥"},
        None,
    ),
    "a quoted value loses its quotes before it is decoded": Sent(
        "HTTP 3.1.3.2",
        Mode.BINARY,
        BINARY + 'ce-subject: "a \\"b\\" %25"\n\n',
        {**REQUIRED, "subject": 'a "b" %'},
        None,
    ),
    "a time is an attribute like another": Sent(
        "HTTP 3.1.3",
        Mode.BINARY,
        BINARY + "ce-time: 2026-11-28T09:30:00Z\n\n",
        {**REQUIRED, "time": "2026-11-28T09:30:00Z"},
        None,
    ),
    "a structured message is the event": Sent(
        "HTTP 3.2.2",
        Mode.STRUCTURED,
        "Content-Type: application/cloudevents+json\n\n"
        + STRUCTURED % ',"datacontenttype":"application/json","data":{"n":[1]}',
        {**REQUIRED, "datacontenttype": "application/json"},
        b'{"n":[1]}',
    ),
    "a charset of a structured message belongs to the message": Sent(
        "HTTP 3.2.1",
        Mode.STRUCTURED,
        "Content-Type: application/cloudevents+json; charset=utf-8\n\n"
        + STRUCTURED % ',"datacontenttype":"text/plain","data":"näher"',
        {**REQUIRED, "datacontenttype": "text/plain"},
        "näher".encode(),
    ),
    "a structured message decides for itself, whatever the headers repeat": Sent(
        "HTTP 3.2.3",
        Mode.STRUCTURED,
        "Content-Type: application/cloudevents+json\nce-id: other\n\n" + STRUCTURED % "",
        REQUIRED,
        None,
    ),
    "bytes come in base64": Sent(
        "JSON 3.1.2",
        Mode.STRUCTURED,
        "Content-Type: application/cloudevents+json\n\n"
        + STRUCTURED
        % f',"datacontenttype":"image/gif","data_base64":"{base64.b64encode(b"GIF").decode()}"',
        {**REQUIRED, "datacontenttype": "image/gif"},
        b"GIF",
    ),
    "data without a type is JSON": Sent(
        "JSON 3.1.2",
        Mode.STRUCTURED,
        "Content-Type: application/cloudevents+json\n\n" + STRUCTURED % ',"data":"word"',
        {**REQUIRED, "datacontenttype": "application/json"},
        b'"word"',
    ),
    "an attribute that is null is not set": Sent(
        "JSON 2.2",
        Mode.STRUCTURED,
        "Content-Type: application/cloudevents+json\n\n"
        + STRUCTURED % ',"subject":null,"urgent":true,"size":3',
        {**REQUIRED, "urgent": True, "size": 3},
        None,
    ),
    "a batch of one": Sent(
        "HTTP 3.3.2",
        Mode.BATCH,
        "Content-Type: application/cloudevents-batch+json\n\n[" + STRUCTURED % "" + "]",
        REQUIRED,
        None,
    ),
}

REFUSED = {
    "no header says that this is an event (HTTP 3)": "Content-Type: application/json\n\n{}",
    "a required attribute is missing (CloudEvents, id)": BINARY.replace("ce-id: job-9\n", "")
    + "\n",
    "a required attribute is empty (CloudEvents, type)": BINARY.replace("job.queued", "") + "\n",
    "the type of the data has a header of its own (HTTP 3.1.1)": BINARY
    + "ce-datacontenttype: text/plain\n\nx",
    "percent-encoded bytes are not UTF-8 (HTTP 3.1.3.2)": BINARY + "ce-subject: %C3%28\n\n",
    "a percent sign stands alone (HTTP 3.1.3.2)": BINARY + "ce-subject: 20%\n\n",
    "an attribute comes twice (HTTP 3.1.3)": BINARY + "ce-id: job-10\n\n",
    "a name has an underscore (CloudEvents, naming)": BINARY + "ce-trace_id: 1\n\n",
    "the format is unknown (HTTP 3.2.1)": "Content-Type: application/cloudevents+cbor\n\nx",
    "the body is no JSON (HTTP 3.2.2)": "Content-Type: application/cloudevents+json\n\n{",
    "data is there twice (JSON 3.1)": "Content-Type: application/cloudevents+json\n\n"
    + STRUCTURED % ',"data":1,"data_base64":"AA=="',
    "a batch is no array (JSON 4.1)": "Content-Type: application/cloudevents-batch+json\n\n"
    + STRUCTURED % "",
}


def parts(text: str) -> tuple[list[tuple[str, str]], bytes]:
    head, _, body = text.partition("\n\n")
    lines = (line.partition(": ") for line in head.splitlines())
    return [(name, value) for name, _, value in lines], body.encode()


@pytest.mark.parametrize(
    "sent", MESSAGES.values(), ids=[f"{s.clause}: {name}" for name, s in MESSAGES.items()]
)
def test_a_message_is_read_as_the_binding_says(sent: Sent) -> None:
    message = decode(*parts(sent.text))
    assert message.mode is sent.mode
    assert message.event.attributes == sent.attributes
    assert message.event.data == sent.data


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_what_the_binding_forbids_is_refused(text: str) -> None:
    with pytest.raises(InvalidEvent):
        decode(*parts(text))
