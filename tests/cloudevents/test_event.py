"""CloudEvents 1.0.2 "Context Attributes" and "Type System"."""

import pytest

from relume.cloudevents.event import CloudEvent, InvalidEvent, canonical, is_json

MINIMUM = {"id": "1", "source": "/s", "type": "t"}


def test_specversion_is_filled_in_when_absent() -> None:
    assert CloudEvent.create(MINIMUM).attributes["specversion"] == "1.0"


@pytest.mark.parametrize("missing", ["id", "source", "type"])
def test_a_required_attribute_cannot_be_missing_or_empty(missing: str) -> None:
    with pytest.raises(InvalidEvent, match=missing):
        CloudEvent.create({k: v for k, v in MINIMUM.items() if k != missing})
    with pytest.raises(InvalidEvent, match=missing):
        CloudEvent.create({**MINIMUM, missing: ""})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("specversion", "2.0"),
        ("specversion", "0.3"),
        ("id", 7),
        ("source", "/has space"),
        ("source", "/%zz"),
        ("source", "/é"),
        ("type", True),
        ("subject", ""),
        ("subject", "tab\there"),
        ("subject", "\ud800"),
        ("subject", "\ufdd0"),
        ("subject", "\U0001fffe"),
        ("dataschema", "relative/path"),
        ("datacontenttype", "json"),
        ("datacontenttype", "text/plain\r\nx: y"),
        ("time", "yesterday"),
        ("time", "2018-02-30T00:00:00Z"),
        ("time", "2018-04-05T03:56:24"),
        ("time", "2018-04-05T03:56:24+24:00"),
        ("bigint", 2**31),
        ("fraction", 1.5),
        ("object", {}),
        ("Upper", "x"),
        ("under_score", "x"),
        ("", "x"),
        ("data", "x"),
    ],
)
def test_a_bad_attribute_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidEvent) as refused:
        CloudEvent.create({**MINIMUM, name: value})
    assert str(refused.value).startswith((f"{name}:", f"{name!r}:"))
    assert refused.value.reason == "invalid-event"
    assert not refused.value.retryable


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("source", "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66"),
        ("source", "1-555-123-4567"),
        ("dataschema", "https://example.com/schema#v1"),
        ("datacontenttype", "application/json; charset=utf-8"),
        ("time", "2018-04-05t03:56:24.123456789z"),
        ("time", "1990-12-31T23:59:60Z"),
        ("time", "2018-04-05T03:56:24-07:00"),
        ("extension1", -(2**31)),
        ("extension2", False),
        ("extension3", ""),
        ("knativekafkapartitionlonger", "names over 20 characters are only discouraged"),
        ("subject", "Grüße 🌎"),
    ],
)
def test_a_good_attribute_is_kept_as_it_is(name: str, value: object) -> None:
    assert CloudEvent.create({**MINIMUM, name: value}).attributes[name] == value


def test_with_attributes_sets_and_removes_on_a_copy() -> None:
    event = CloudEvent.create({**MINIMUM, "subject": "old"}, b"data")
    changed = event.with_attributes(subject=None, extension=1)
    assert changed.subject is None
    assert changed.attributes["extension"] == 1
    assert changed.data == b"data"
    assert event.subject == "old"


def test_canonical_strings_follow_the_type_system() -> None:
    assert [canonical(v) for v in ("x", True, False, -3)] == ["x", "true", "false", "-3"]


@pytest.mark.parametrize(
    ("media_type", "expected"),
    [
        (None, True),
        ("application/json", True),
        ("text/json;charset=utf-8", True),
        ("application/vnd.api+JSON", True),
        ("text/plain", False),
        ("application/jsonl", False),
    ],
)
def test_json_media_types(media_type: str | None, expected: bool) -> None:
    assert is_json(media_type) is expected
