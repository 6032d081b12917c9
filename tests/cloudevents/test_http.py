"""HTTP binding 1.0.2 and JSON format 1.0.2: modes, headers, data, and what is refused."""

import orjson
import pytest

from relume.cloudevents.event import CloudEvent, InvalidEvent
from relume.cloudevents.header_value import encode_value
from relume.cloudevents.http import (
    Headers,
    Mode,
    decode,
    encode,
    encode_batch,
    mode_of,
)

BINARY = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")]
JSON_MODE = [("content-type", "application/cloudevents+json")]
BATCH_MODE = [("content-type", "application/cloudevents-batch+json")]


def structured(**members: object) -> bytes:
    return orjson.dumps({"specversion": "1.0", "id": "1", "source": "/s", "type": "t", **members})


def make(data: bytes | None = None, **attributes: object) -> CloudEvent:
    return CloudEvent.create({"id": "1", "source": "/s", "type": "t", **attributes}, data)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("Content-Type", "application/cloudevents+json; charset=utf-8")], Mode.STRUCTURED),
        ([("content-type", "Application/CloudEvents-Batch+json")], Mode.BATCH),
        ([("content-type", "application/cloudevents+avro")], Mode.STRUCTURED),
        ([("Ce-Id", "1")], Mode.BINARY),
        ([("content-type", "application/cloudevents+json"), ("ce-id", "1")], Mode.STRUCTURED),
        ([("content-type", "application/json")], None),
        ([("content-type", "application/json"), ("ce-extension", "stray")], None),
        ([], None),
    ],
)
def test_the_content_type_decides_before_the_headers(headers: Headers, expected: Mode) -> None:
    assert mode_of(headers) is expected


def test_binary_data_is_the_body_untouched() -> None:
    body = b' {"n": 12345678901234567890123, "n": 1e400}\n'
    message = decode([*BINARY, ("Content-Type", "application/json")], body)
    assert message.mode is Mode.BINARY
    assert message.event.data == body
    assert message.event.datacontenttype == "application/json"
    assert encode(message.event, Mode.BINARY)[1] == body


def test_binary_without_a_body_has_no_data() -> None:
    assert decode(BINARY, b"").event.data is None


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("Euro € 😀", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
        ('say "hi" at 100%', "say%20%22hi%22%20at%20100%25"),
        ("!#$&'~", "!#$&'~"),
        ("", ""),
    ],
)
def test_header_values_are_percent_encoded_both_ways(text: str, header: str) -> None:
    assert encode_value(text) == header
    assert decode([*BINARY, ("ce-extension", header)], b"").event.attributes["extension"] == text


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ('"quoted text"', "quoted text"),
        (r'"a \"b\" \\c"', r'a "b" \c'),
        ("%41%2525", "A%25"),
        ("plain space", "plain space"),
        ("%e2%82%ac", "€"),
    ],
)
def test_values_of_older_senders_are_read(header: str, text: str) -> None:
    assert decode([*BINARY, ("ce-extension", header)], b"").event.attributes["extension"] == text


@pytest.mark.parametrize("header", ["50%", "%zz", "%C0%A0", '"open', "h\xe9", "\udce9", "%0A"])
def test_a_header_value_that_is_not_encoded_is_refused_by_name(header: str) -> None:
    with pytest.raises(InvalidEvent, match="extension"):
        decode([*BINARY, ("ce-extension", header)], b"")


def test_types_become_canonical_strings_in_headers() -> None:
    headers = dict(encode(make(yes=True, count=-5), Mode.BINARY)[0])
    assert (headers["ce-yes"], headers["ce-count"]) == ("true", "-5")


@pytest.mark.parametrize(
    ("headers", "match"),
    [
        (BINARY[1:], "specversion"),
        (BINARY[:3], "type"),
        ([*BINARY, ("CE-ID", "2")], "twice"),
        ([*BINARY, ("Content-Type", "a/b"), ("content-type", "a/b")], "twice"),
        ([*JSON_MODE, ("Content-Type", "a/b")], "twice"),
        ([*BINARY, ("ce-datacontenttype", "text/plain")], "Content-Type"),
        ([("ce-specversion", "9"), *BINARY[1:]], "specversion"),
        ([*BINARY, ("ce-bad_name", "x")], "bad_name"),
        ([("content-type", "application/cloudevents+avro")], "avro"),
        ([("content-type", "application/cloudevents+json; charset=klingon")], "klingon"),
        ([("content-type", "application/json")], "not a CloudEvent"),
    ],
)
def test_what_is_no_event_is_refused_with_the_reason(headers: Headers, match: str) -> None:
    with pytest.raises(InvalidEvent, match=match):
        decode(headers, b"{}")


def test_structured_json_data_keeps_its_text() -> None:
    written = b'{"b":1.50,"a":12345678901234567890123456789,"b":[]}'
    body = structured()[:-1] + b', "data" : ' + written + b" }"
    event = decode(JSON_MODE, body).event
    assert event.data == written
    assert event.datacontenttype == "application/json"
    assert encode(event, Mode.STRUCTURED)[1].endswith(b'"data":' + written + b"}")


@pytest.mark.parametrize(
    ("media_type", "value", "data"),
    [
        ("text/plain", "Grüße", "Grüße".encode()),
        ("application/json", "text", b'"text"'),
        ("application/vnd.x+json", [1, 2], b"[1,2]"),
        ("text/xml", "<a/>", b"<a/>"),
        ("text/plain", {"a": 1}, b'{"a":1}'),
        ("application/json", False, b"false"),
        ("application/json", None, b"null"),
        ("text/plain", None, None),
        ("text/plain; charset=iso-8859-1", "Grüße", "Grüße".encode("latin-1")),
        ("text/plain; charset=UTF8", "Grüße", "Grüße".encode()),
        ('text/plain; a="; charset=utf-16"; Charset="iso-8859-15"', "10 €", b"10 \xa4"),
        ("text/csv; charset=utf-16", "ü", "ü".encode("utf-16")),
        ("application/json; charset=us-ascii", "ü😀", rb'"\u00fc\ud83d\ude00"'),
        ("application/json; charset=iso-8859-1", {"ü": "€"}, rb'{"\u00fc":"\u20ac"}'),
    ],
)
def test_structured_data_by_media_type(media_type: str, value: object, data: bytes | None) -> None:
    event = decode(JSON_MODE, structured(datacontenttype=media_type, data=value)).event
    assert event.data == data


def test_data_base64_is_binary_whatever_the_type() -> None:
    body = structured(datacontenttype="application/json", data_base64="AP8=")
    assert decode(JSON_MODE, body).event.data == b"\x00\xff"


@pytest.mark.parametrize(
    ("data", "media_type", "member"),
    [
        (b'{"a":1}', "application/json", "data"),
        (b"not json", "application/json", "data_base64"),
        (b"null", "application/json", "data"),
        (b"1e400", "application/json", "data_base64"),
        (b"[" * 1024 + b"]" * 1024, "application/json", "data_base64"),
        (b"[" * 1000 + b"]" * 1000, "application/json", "data"),
        (b"1],[2", "application/json", "data_base64"),
        (b"", "application/json", "data_base64"),
        (b"", "text/plain", "data"),
        (b"text", "text/plain", "data"),
        (b"\xff", "text/plain", "data_base64"),
        (b"Gr\xfc\xdfe", "text/plain; charset=iso-8859-1", "data"),
        (b"Gr\xfc\xdfe", "text/plain; charset=utf-8", "data_base64"),
        (b"text", "text/plain; charset=klingon", "data_base64"),
        ("ü".encode("utf-16-be"), "text/plain; charset=utf-16", "data_base64"),
        (b'"\xfc"', "application/json; charset=iso-8859-1", "data_base64"),
        (b"\xef\xbb\xbftext", "text/plain; charset=utf-8", "data_base64"),
        (b"\x89PNG", "image/png", "data_base64"),
        (b"{}", None, "data_base64"),
    ],
)
def test_structured_data_comes_back_the_same(
    data: bytes, media_type: str | None, member: str
) -> None:
    typed = {} if media_type is None else {"datacontenttype": media_type}
    event = make(data, **typed)
    headers, body = encode(event, Mode.STRUCTURED)
    assert member in orjson.loads(body)
    assert decode(headers, body).event == event


def test_json_attributes_keep_their_types_and_null_is_unset() -> None:
    event = decode(JSON_MODE, structured(count=5, yes=True, subject=None)).event
    assert event.attributes["count"] == 5
    assert event.attributes["yes"] is True
    assert event.subject is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"id"}',
        b"{'id':1}",
        b'{"a":1,}',
        structured() + b"x",
        structured(count=1.5),
        structured(count=2**31),
        structured(object={}),
        structured(data=1, data_base64="AA=="),
        structured(data_base64="a"),
        structured(data_base64=5),
        structured(datacontenttype="text/plain")[:-1] + b',"data":"\\ud800"}',
        structured()[:-1] + b',"data":NaN}',
        structured()[:-1] + b',"id":"2"}',
        structured()[:-1] + b',"i\\u0064":"2"}',
        structured(datacontenttype="text/plain; charset=iso-8859-1", data="€"),
        structured(datacontenttype="text/plain; charset=klingon", data="text"),
        structured()[:-1] + b',"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"\xff\xfe",
        b'{"id":"1","source":"/s","type":"t"}',
    ],
)
def test_a_bad_structured_body_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidEvent):
        decode(JSON_MODE, body)


def test_the_charset_of_a_structured_body_is_honoured() -> None:
    headers = [("content-type", 'application/cloudevents+json; charset="UTF-16"')]
    body = structured(subject="Grüße").decode().encode("utf-16")
    assert decode(headers, body).event.subject == "Grüße"


def test_a_batch_goes_both_ways_and_may_be_empty() -> None:
    events = (make(b'{"a":1}', datacontenttype="application/json"), make(subject="two"))
    for batch in (events, ()):
        headers, body = encode_batch(batch)
        assert decode(headers, body).events == batch
    with pytest.raises(InvalidEvent, match="exactly one"):
        assert decode(*encode_batch(events)).event


@pytest.mark.parametrize("body", [b"{}", b"[", b"[" + structured() + b",]", b"null", b""])
def test_a_bad_batch_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidEvent):
        decode(BATCH_MODE, body)


@pytest.mark.parametrize("bad", [b"1", b"{}", b"[]", structured(id=""), structured(data_base64=1)])
def test_a_batch_is_refused_by_the_index_of_its_bad_event(bad: bytes) -> None:
    good = structured(data=[{"text": "]}"}, '"']) + b" "
    with pytest.raises(InvalidEvent, match=r"^\[2\]: "):
        decode(BATCH_MODE, b" [%b, %b,%b,%b ] " % (good, good, bad, good))


def test_members_are_found_however_they_are_written() -> None:
    written = rb' { "d\u0061ta" : [ "\\", "\"]}", {"data":"{"} ] ,"extension":"a\\\"data\":1" } '
    body = b" [ %b%b ]" % (structured()[:-1] + b"," + written.lstrip(b" {"), b"," + structured())
    first, second = decode(BATCH_MODE, body).events
    assert first.data == rb'[ "\\", "\"]}", {"data":"{"} ]'
    assert first.attributes["extension"] == r'a\"data":1'
    assert second.data is None


def test_text_that_no_unicode_string_holds_stays_an_escape_in_json_data() -> None:
    body = structured()[:-1] + rb',"data":{"prompt":"\ud83d"}}'
    event = decode(JSON_MODE, body).event
    assert event.data == rb'{"prompt":"\ud83d"}'
    assert decode(*encode(event, Mode.STRUCTURED)).event == event


def test_many_quotes_in_a_header_cost_no_more_than_they_are_long() -> None:
    value = '"' + '\\"' * 200_000
    with pytest.raises(InvalidEvent, match="unbalanced"):
        decode([*BINARY, ("ce-extension", value)], b"")


def test_version_0_3_is_read_as_1_0() -> None:
    body = orjson.dumps(
        {
            "specversion": "0.3",
            "id": "1",
            "source": "/s",
            "type": "t",
            "schemaurl": "https://example.com/s",
            "datacontenttype": "image/png",
            "datacontentencoding": "base64",
            "data": "AP8=",
        }
    )
    event = decode(JSON_MODE, body).event
    assert event.attributes["specversion"] == "1.0"
    assert event.attributes["dataschema"] == "https://example.com/s"
    assert "datacontentencoding" not in event.attributes
    assert event.data == b"\x00\xff"
    old = [("ce-specversion", "0.3"), *BINARY[1:], ("ce-schemaurl", "a:b")]
    binary = decode([*old, ("ce-datacontentencoding", "base64")], b"x").event
    assert binary.attributes["dataschema"] == "a:b"
    assert "datacontentencoding" not in binary.attributes
    assert binary.data == b"x"


def test_version_0_3_ignores_the_encoding_of_what_is_no_text() -> None:
    body = structured(specversion="0.3", datacontentencoding="Base64", data={"a": 1})
    assert decode(JSON_MODE, body).event.data == b'{"a":1}'
    with pytest.raises(InvalidEvent, match="datacontentencoding"):
        decode(JSON_MODE, structured(specversion="0.3", datacontentencoding="gzip", data="a"))
