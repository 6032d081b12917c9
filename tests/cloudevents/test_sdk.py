"""Conversion to and from the SDK's events; tests/conformance runs this with version 2 too."""

import datetime
import importlib
import importlib.metadata
import json
from typing import Any

import pytest
from hypothesis import given

from relume.cloudevents.event import CloudEvent, InvalidEvent
from relume.cloudevents.http import Mode, decode
from relume.cloudevents.sdk import SdkEvent, from_sdk, to_sdk_1, to_sdk_2
from tests.cloud_events import events

VERSION = int(importlib.metadata.version("cloudevents").partition(".")[0])
WHOLE = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}


def to_sdk(event: CloudEvent) -> SdkEvent:
    return to_sdk_1(event) if VERSION == 1 else to_sdk_2(event)


def made_by_sdk(attributes: dict[str, Any], data: object) -> SdkEvent:
    name = "cloudevents.http" if VERSION == 1 else "cloudevents.core.v1.event"
    made: SdkEvent = importlib.import_module(name).CloudEvent({**WHOLE, **attributes}, data)
    return made


def written_by_sdk(event: SdkEvent, mode: Mode) -> tuple[list[tuple[str, str]], bytes]:
    if VERSION == 1:
        module = importlib.import_module("cloudevents.conversion")
        headers, body = getattr(module, f"to_{mode.value}")(event)
    else:
        module = importlib.import_module("cloudevents.core.bindings.http")
        message = getattr(module, f"to_{mode.value}_event")(event)
        headers, body = message.headers, message.body
    return list(headers.items()), body or b""


def less_time(event: CloudEvent) -> CloudEvent:
    """Version 2 holds a time as a datetime, so only the instant is the same."""
    if VERSION == 1 or event.time is None:
        return event
    instant = datetime.datetime.fromisoformat(event.time).timestamp()
    return event.with_attributes(time=repr(instant))


@given(events())
def test_an_event_comes_back_the_same(event: CloudEvent) -> None:
    assert less_time(from_sdk(to_sdk(event))) == less_time(event)


@given(events())
def test_version_1_is_kept_aside_in_version_2(event: CloudEvent) -> None:
    assert from_sdk(to_sdk_1(event)) == event


@pytest.mark.parametrize("mode", [Mode.BINARY, Mode.STRUCTURED])
def test_what_the_sdk_writes_of_ours_is_the_same_event(mode: Mode) -> None:
    given = {**WHOLE, "subject": "a b", "datacontenttype": "image/png"}
    event = CloudEvent.create(given, b"\xff")
    back = decode(*written_by_sdk(to_sdk(event), mode)).event
    assert back.data == event.data
    assert back.attributes == given


@pytest.mark.parametrize(
    ("data", "media_type", "expected"),
    [
        ({"prompt": "Grüße"}, None, '{"prompt": "Grüße"}'.encode()),
        ([1, None], "application/json", b"[1, null]"),
        ("text", "application/json", b'"text"'),
        ("Grüße", "text/plain", "Grüße".encode()),
        ("Grüße", "text/plain; charset=iso-8859-1", "Grüße".encode("latin-1")),
        (b"\xff", "text/plain", b"\xff"),
        (bytearray(b"a"), None, b"a"),
        (None, None, None),
    ],
)
def test_data_of_the_sdk_becomes_bytes(
    data: object, media_type: str | None, expected: bytes | None
) -> None:
    typed = {} if media_type is None else {"datacontenttype": media_type}
    event = from_sdk(made_by_sdk(typed, data))
    assert event.data == expected
    implied = "application/json" if isinstance(data, dict) else media_type
    assert event.datacontenttype == implied


@pytest.mark.parametrize("data", [object(), float("nan"), {"a": {1, 2}}, "\ud800"])
def test_data_that_is_no_json_is_refused(data: object) -> None:
    with pytest.raises(InvalidEvent, match="data"):
        from_sdk(made_by_sdk({}, data))


def test_an_extension_that_is_no_attribute_is_refused_by_name() -> None:
    with pytest.raises(InvalidEvent, match="ratio"):
        from_sdk(made_by_sdk({"ratio": 1.5}, None))


def test_a_time_that_the_sdk_made_up_is_kept_and_ours_is_not_made_up() -> None:
    assert from_sdk(made_by_sdk({}, None)).time is not None
    assert "time" not in to_sdk(CloudEvent.create(WHOLE)).get_attributes()
    assert json.loads(written_by_sdk(to_sdk(CloudEvent.create(WHOLE)), Mode.STRUCTURED)[1]) == WHOLE
