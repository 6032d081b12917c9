"""Files in a folder, and the events that a sink gets."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from func_python.http import ASGIApplication
from function import new
from function.files import Folder


class Received:
    """A sink that answers each event with the next of `answers`, or with 202."""

    def __init__(self) -> None:
        self.events: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode("latin-1").split("\r\n")[1:-2]
                headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                status = self.answers.pop(0) if self.answers else 202
                if status == 202:
                    self.events.append((headers, body))
                writer.write(f"HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def sink() -> AsyncIterator[Received]:
    received = Received()
    server = await asyncio.start_server(received.serve, "127.0.0.1", 0)
    received.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/default/files"
    yield received
    server.close()


@pytest.fixture
async def started(tmp_path: Path, sink: Received) -> AsyncIterator[Callable[..., object]]:
    functions = []

    def start(**cfg: str):
        function = new()
        values = {"K_SINK": sink.url, "WATCH_FOLDER": str(tmp_path), "WATCH_SECONDS": "3600"}
        function.start(values | {"WATCH_STILL_SECONDS": "0"} | cfg)
        functions.append(function)
        return function

    yield start
    for function in functions:
        function.stop()


async def ask(function: object) -> httpx.Response:
    transport = httpx.ASGITransport(ASGIApplication(function))
    async with httpx.AsyncClient(transport=transport, base_url="http://f") as client:
        return await client.post("/")


async def test_a_file_becomes_one_event(started, sink: Received, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "ä 1.txt").write_text("Grüße")
    function = started(K_CE_OVERRIDES='{"extensions": {"tenant": "north"}}')
    for told in (["letters/ä 1.txt"], []):
        response = await ask(function)
        assert (response.status_code, response.json()["told"]) == (200, told)
    ((headers, body),) = sink.events
    assert body.decode() == "Grüße"
    assert headers["ce-type"] == "com.example.file.arrived"
    assert headers["ce-source"] == "/functions/folder-watch"
    assert headers["ce-subject"] == "letters/%C3%A4%201.txt"
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers["ce-tenant"] == "north"


async def test_a_restart_tells_nothing_twice_and_a_change_is_told(started, sink, tmp_path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}')
    await started().look()
    await started().look()
    assert len(sink.events) == 1
    (tmp_path / "a.json").write_text('{"a": 2}')
    assert await started().look() == ["a.json"]
    ids = {headers["ce-id"] for headers, _ in sink.events}
    assert len(ids) == 2
    assert sink.events[1][0]["content-type"] == "application/json"


async def test_what_the_sink_does_not_take_is_told_again_with_the_same_id(
    started, sink: Received, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("a")
    function = started()
    sink.answers = [503, 503]
    await asyncio.sleep(0)
    assert (await ask(function)).status_code == 503
    assert "503" in function.ready()[1]
    while not sink.events:
        await function.look()
    assert [headers["ce-subject"] for headers, _ in sink.events] == ["a.txt"]


async def test_a_kill_between_the_post_and_the_record_repeats_the_same_event(
    started, sink: Received, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Broker has the id already, and stores the event once."""
    (tmp_path / "a.txt").write_text("a")

    class Killed(BaseException):
        pass

    def dies(self: Folder, found: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        function = started()
        function.stop()  # no look but the one below
        patched.setattr(Folder, "told", dies)
        with pytest.raises(Killed):
            await function.look()
    await started().look()
    first, second = sink.events
    assert first[0]["ce-id"] == second[0]["ce-id"]


async def test_files_that_still_grow_hidden_ones_and_links_wait(started, sink, tmp_path) -> None:
    (tmp_path / "fresh.txt").write_text("x")
    (tmp_path / ".hidden").write_text("x")
    (tmp_path / "old.txt").write_text("x")
    os.utime(tmp_path / "old.txt", (1, 1))
    (tmp_path / "link").symlink_to("/etc/hostname")
    await started(WATCH_STILL_SECONDS="60").look()
    assert [headers["ce-subject"] for headers, _ in sink.events] == ["old.txt"]


async def test_a_file_that_is_too_large_is_told_as_an_error(started, sink, tmp_path) -> None:
    (tmp_path / "large.bin").write_bytes(b"x" * 101)
    (tmp_path / "odd.txt").write_bytes(b"\xff" * 99)
    function = started(WATCH_MOST_BYTES="100")
    await function.look()
    await function.look()
    large, odd = sink.events
    assert large[0]["ce-type"] == "relume.function.error"
    assert json.loads(large[1])["reason"] == "file-too-large"
    assert (odd[0]["content-type"], odd[1]) == ("application/octet-stream", b"\xff" * 99)


async def test_files_are_found_without_being_asked(started, sink, tmp_path: Path) -> None:
    function = started(WATCH_SECONDS="0.05")
    (tmp_path / "a.txt").write_text("a")
    until = time.monotonic() + 10
    while not sink.events and time.monotonic() < until:
        await asyncio.sleep(0.02)
    assert len(sink.events) == 1
    assert function.alive()[0]


@pytest.mark.parametrize(
    ("cfg", "told"),
    [
        ({"WATCH_FOLDER": "/nowhere"}, "WATCH_FOLDER"),
        ({"WATCH_FOLDER": ""}, "WATCH_FOLDER"),
        ({"WATCH_SECONDS": "often"}, "WATCH_SECONDS"),
        ({"K_SINK": ""}, "K_SINK"),
        ({"K_CE_OVERRIDES": "{"}, "K_CE_OVERRIDES"),
    ],
)
async def test_wrong_variables_end_the_start(tmp_path: Path, cfg: dict, told: str) -> None:
    values = {"K_SINK": "http://x/", "WATCH_FOLDER": str(tmp_path)}
    with pytest.raises(ValueError, match=told):
        new().start(values | cfg)
