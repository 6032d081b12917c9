"""The event that `relume send` makes of a file or of options."""

import io
import json
import sys
from pathlib import Path

import pytest

from relume.cli.errors import BadUsage
from relume.cli.machine.envelope import SOURCE, from_file, from_options


@pytest.fixture
def event_file(tmp_path: Path) -> Path:
    return tmp_path / "event.json"


def test_a_complete_file_goes_out_with_its_data_as_written(event_file: Path) -> None:
    event_file.write_text(
        '{"specversion": "1.0", "id": "1", "source": "/s", "type": "t",'
        ' "datacontenttype": "application/json", "data": {"pi": 3.14159265358979323846}}'
    )
    event = from_file(event_file, {})
    assert (event.id, event.source, event.type) == ("1", "/s", "t")
    assert event.data == b'{"pi": 3.14159265358979323846}'


def test_a_file_may_leave_out_what_can_be_made_up(event_file: Path) -> None:
    event_file.write_text('{"type": "t", "data": "words"}')
    first, second = from_file(event_file, {}), from_file(event_file, {})
    assert first.source == SOURCE
    assert first.id != second.id


ENCODINGS = ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("leaves_out", ["", '"specversion": "1.0", "source": "/s", '])
def test_a_file_may_be_in_any_encoding_of_unicode(
    event_file: Path, encoding: str, leaves_out: str
) -> None:
    event_file.write_bytes(f'{{{leaves_out}"id": "1", "type": "t", "data": "ü"}}'.encode(encoding))
    event = from_file(event_file, {})
    assert (event.id, event.type) == ("1", "t")
    assert json.loads(event.data or b"") == "ü"


@pytest.mark.parametrize("encoding", ["utf-8", *ENCODINGS])
def test_standard_input_may_be_so_too(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    text = '{"type": "t", "data": "ü"}'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode(encoding)), "ascii"))
    assert json.loads(from_file(Path("-"), {}).data or b"") == "ü"


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("content_type", [None, "application/json", "application/x+json"])
def test_json_data_goes_out_in_utf_8(
    tmp_path: Path, encoding: str, content_type: str | None
) -> None:
    path = tmp_path / "chat.json"
    path.write_bytes('{"a": "ü"}'.encode(encoding))
    event = from_options("t", f"@{path}", content_type, {})
    assert event.data == '{"a": "ü"}'.encode()
    assert event.datacontenttype == (content_type or "application/json")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_text_with_a_byte_order_mark_goes_out_in_utf_8(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes("Grüße\r\n".encode(encoding))
    event = from_options("t", f"@{path}", None, {})
    assert (event.data, event.datacontenttype) == ("Grüße\r\n".encode(), "text/plain")


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (b"\xff\xfe\x00\xd8", None),
        (b"\xff\xfe\x01\x00\x02\x00", None),
        (b"\x00\x01\x02\x03", None),
        (b"\x00a", None),
        (b"\xff\xfea\x00", "text/plain; charset=utf-16"),
        (b"\xef\xbb\xbfa", "text/csv"),
    ],
    ids=[
        "half a pair",
        "control characters",
        "no text",
        "no mark",
        "as named",
        "as named in UTF-8",
    ],
)
def test_other_bytes_go_out_as_they_are(
    tmp_path: Path, data: bytes, content_type: str | None
) -> None:
    path = tmp_path / "data"
    path.write_bytes(data)
    assert from_options("t", f"@{path}", content_type, {}).data == data


def test_options_change_the_attributes_of_a_file(event_file: Path) -> None:
    event_file.write_text('{"type": "t", "id": "old", "source": "/s"}')
    event = from_file(event_file, {"id": "new", "partitionkey": "k"})
    assert (event.id, event.attributes["partitionkey"]) == ("new", "k")


@pytest.mark.parametrize(
    "text, says",
    [
        ('{"type": "t",\n "data": }', "event.json:2: not JSON"),
        ("[1]", "event.json:1: an event is a JSON object"),
        ('{"id": "1"}', "type"),
        ('{"type": "t", "BAD": "1"}', "BAD"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(event_file: Path, text: str, says: str) -> None:
    event_file.write_text(text)
    with pytest.raises(BadUsage) as caught:
        from_file(event_file, {})
    assert "event.json" in str(caught.value)
    assert says in str(caught.value)


def test_a_file_that_is_not_there_is_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(BadUsage, match="No such file"):
        from_file(tmp_path / "none.json", {})


@pytest.mark.parametrize(
    "data, content_type",
    [
        ('{"messages": []}', "application/json"),
        ("[1, 2]", "application/json"),
        ("42", "text/plain"),
        ("Some words.", "text/plain"),
        ("{not json", "text/plain"),
    ],
)
def test_the_media_type_follows_from_the_data(data: str, content_type: str) -> None:
    event = from_options("t", data, None, {})
    assert event.datacontenttype == content_type
    assert event.data == data.encode()


def test_a_chosen_media_type_wins() -> None:
    assert from_options("t", "{}", "text/plain", {}).datacontenttype == "text/plain"


def test_data_may_be_a_file_of_any_bytes(tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(b"\xff\x00\x01")
    event = from_options("t", f"@{path}", None, {})
    assert (event.data, event.datacontenttype) == (b"\xff\x00\x01", "application/octet-stream")


def test_data_may_come_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"a": 1}')))
    assert json.loads(from_options("t", "-", None, {}).data or b"") == {"a": 1}


def test_an_event_may_have_no_data() -> None:
    event = from_options("t", None, None, {})
    assert event.data is None
    assert event.datacontenttype is None


def test_a_bad_extension_name_is_wrong_input() -> None:
    with pytest.raises(BadUsage, match="Upper"):
        from_options("t", None, None, {"Upper": "x"})
