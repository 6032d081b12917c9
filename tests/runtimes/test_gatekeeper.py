"""The gatekeeper as a real process on a real socket, from the first request to the handover."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("gatekept.py")
CHAT = "/v1/chat/completions"


class Loading:
    """A process that loads behind a gatekeeper."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = 0
        self.gatekeeper = 0

    def started(self) -> "Loading":
        self.port, self.gatekeeper = map(int, self._line().split())
        return self

    def tell(self, command: str) -> str:
        """Send a command and wait until it is done."""
        self.post(command)
        return self._line()

    def post(self, command: str) -> None:
        """Send a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def connect(self) -> socket.socket:
        """A connection to the port that gives up after a minute."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def ask(self, request: bytes) -> "Answer":
        """Send the bytes of a request and read until the other side has closed."""
        with self.connect() as connection:
            connection.sendall(request)
            return Answer(read_all(connection))

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


class Answer:
    """A response as it came over the wire."""

    def __init__(self, received: bytes) -> None:
        head, _, self.body = received.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1])
        pairs = (line.split(": ", 1) for line in lines[1:])
        self.headers = {name.lower(): value for name, value in pairs}


def read_all(connection: socket.socket) -> bytes:
    chunks = []
    while chunk := connection.recv(65536):
        chunks.append(chunk)
    return b"".join(chunks)


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: x", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@pytest.fixture
def loading() -> Iterator[Loading]:
    loading = Loading("tcp").started()
    yield loading
    loading.end()


@pytest.fixture(scope="module")
def steady() -> Iterator[Loading]:
    """One process for the tests that only ask, and leave it as it is."""
    loading = Loading("tcp").started()
    yield loading
    loading.end()


def test_a_request_that_came_before_anybody_listened_for_it_is_answered(tmp_path: Path) -> None:
    os.mkfifo(fifo := tmp_path / "port")
    loading = Loading("tcp", str(fifo))
    try:
        loading.port = int(fifo.read_text())
        with loading.connect() as connection:
            connection.sendall(get("/health"))
            loading.post("go on")
            assert Answer(read_all(connection)).status == 503
    finally:
        loading.end()


@pytest.mark.parametrize("path", [CHAT, "/health", "/v2/health/ready", "/", "/v1/models", "/ping"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_every_route_says_503_and_when_to_try_again(
    steady: Loading, path: str, method: str
) -> None:
    """Checklist A10."""
    answer = steady.ask(get(path, method))
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["connection"] == "close"
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert (json.loads(answer.body)["reason"], json.loads(answer.body)["retryable"]) == (
        "loading",
        True,
    )


def test_an_answer_has_the_shape_of_its_route(steady: Loading) -> None:
    openai = json.loads(steady.ask(get(CHAT, "POST")).body)["error"]
    assert openai.keys() == {"message", "type", "param", "code"}
    assert openai["code"] == 503
    for path in ("/v1/models/m:predict", "/v1/models/org/m:predict", "/v2/models/m/infer?a=b"):
        assert isinstance(json.loads(steady.ask(get(path, "POST")).body)["error"], str)


def test_a_head_request_has_no_body(steady: Loading) -> None:
    answer = steady.ask(get("/health", "HEAD"))
    assert (answer.status, answer.body) == (503, b"")
    assert int(answer.headers["content-length"]) > 0


@pytest.mark.parametrize("path", ["/livez", "/v2/health/live", "/livez?verbose"])
def test_the_process_is_alive_while_it_loads(steady: Loading, path: str) -> None:
    assert steady.ask(get(path)).status == 200


def test_startup_tells_how_far_the_load_is(loading: Loading) -> None:
    assert json.loads(loading.ask(get("/startup")).body)["phases_ms"] == {}
    loading.tell("record import")
    loading.tell("enter weights")
    answer = loading.ask(get("/startup"))
    assert answer.status == 200
    assert json.loads(answer.body) == {
        "state": "loading",
        "phase": "weights",
        "phases_ms": {"import": 12.0},
    }
    assert "weights" in json.loads(loading.ask(get(CHAT, "POST")).body)["error"]["message"]


BIG = b"x" * (2 << 20)
BODIES = {
    "length": (f"content-length: {len(BIG)}", BIG),
    "chunked": ("transfer-encoding: chunked", b"%x\r\n%s\r\n0\r\n\r\n" % (len(BIG), BIG)),
    "expect": (f"expect: 100-continue\r\ncontent-length: {len(BIG)}", BIG),
    "wrong length": ("content-length: ²", BIG),
    "less than said": ("content-length: 99999999", b"x"),
}


@pytest.mark.parametrize(("header", "body"), BODIES.values(), ids=BODIES.keys())
def test_a_client_that_sends_its_whole_body_first_still_gets_the_answer(
    loading: Loading, header: str, body: bytes
) -> None:
    with loading.connect() as connection:
        connection.sendall(post(CHAT, b"", header))
        connection.sendall(body)  # blocks unless the other side reads on
        assert Answer(read_all(connection)).status == 503


def test_a_client_that_waits_for_100_continue_is_refused_at_once(loading: Loading) -> None:
    answer = loading.ask(post(CHAT, b"", "expect: 100-continue", "content-length: 5"))
    assert answer.status == 503


@pytest.mark.parametrize(
    "headers",
    [b"ce-subject: %b\r\n" % (b"s" * 70_000), b"".join(b"ce-x%d: x\r\n" % n for n in range(180))],
    ids=["a long header", "many headers"],
)
def test_a_request_with_larger_headers_than_python_reads_is_told_to_try_again(
    steady: Loading, headers: bytes
) -> None:
    answer = steady.ask(b"POST / HTTP/1.1\r\nHost: h\r\n" + headers + b"\r\n")
    assert answer.status == 503
    assert answer.headers["retry-after"]
    assert json.loads(answer.body)["reason"] == "loading"


def test_a_client_that_says_nonsense_or_nothing_harms_nobody_else(loading: Loading) -> None:
    with loading.connect() as silent, loading.connect() as rude:
        rude.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        assert loading.ask(get("/health")).status == 503
        silent.close()
    assert loading.ask(get("/health")).status == 503


def test_it_listens_on_a_unix_socket_too(tmp_path: Path) -> None:
    where = str(tmp_path / "s")
    loading = Loading(where).started()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(where)
            connection.sendall(get("/health"))
            assert Answer(read_all(connection)).status == 503
    finally:
        loading.end()


def test_no_connection_is_lost_in_the_handover(loading: Loading) -> None:
    """Clients ask without a pause: each is answered by the gatekeeper or by who comes after it."""
    enough = threading.Event()
    answered, owned = threading.Semaphore(0), threading.Semaphore(0)
    statuses: list[list[int]] = [[] for _ in range(4)]
    failures: list[BaseException] = []

    def ask_on(seen: list[int]) -> None:
        try:
            while not enough.is_set():
                seen.append(loading.ask(get("/health")).status)
                (owned if seen[-1] == 200 else answered).release()
        except BaseException as error:  # noqa: BLE001 - told to the test's own thread
            failures.append(error)

    clients = [threading.Thread(target=ask_on, args=(seen,)) for seen in statuses]
    for client in clients:
        client.start()
    assert all(answered.acquire(timeout=60) for _ in range(200)), failures
    loading.tell("dismiss")
    loading.post("serve")
    assert all(owned.acquire(timeout=60) for _ in range(200)), failures
    enough.set()
    for client in clients:
        client.join()
    assert failures == []
    for seen in statuses:
        assert seen == sorted(seen, reverse=True), "after the owner, the gatekeeper again"
    assert {status for seen in statuses for status in seen} == {503, 200}


def test_a_connection_made_between_the_two_waits_for_the_owner(loading: Loading) -> None:
    loading.tell("dismiss")
    with loading.connect() as connection:
        connection.sendall(get("/health"))
        loading.post("serve")
        answer = Answer(read_all(connection))
    assert (answer.status, answer.body) == (200, b"owner")


def test_a_body_on_its_way_when_the_gatekeeper_is_dismissed_keeps_its_answer(
    loading: Loading,
) -> None:
    with loading.connect() as connection:
        connection.sendall(post(CHAT, b"x", "content-length: 3"))
        first = connection.recv(1)
        loading.post("dismiss")
        connection.sendall(b"xx")
        assert Answer(first + read_all(connection)).status == 503


def test_a_client_that_keeps_a_connection_open_does_not_hold_up_the_handover(
    loading: Loading,
) -> None:
    with loading.connect() as silent, loading.connect() as slow:
        slow.sendall(b"POST / HTTP/1.1\r\ncontent-le")
        assert loading.ask(get("/health")).status == 503  # both are accepted by now
        seconds = float(loading.tell("dismiss"))
        assert silent.recv(1) == b""
    assert seconds < 5  # 1 s is waited; without a bound it were the 10 s of an idle connection


def test_a_dismissed_gatekeeper_leaves_no_process(loading: Loading) -> None:
    assert Path(f"/proc/{loading.gatekeeper}").exists()
    loading.tell("dismiss")
    assert not Path(f"/proc/{loading.gatekeeper}").exists()
    loading.tell("dismiss")  # again, to no effect


def test_it_dies_with_its_parent_however_that_ends(loading: Loading) -> None:
    handle = os.pidfd_open(loading.gatekeeper)
    os.kill(loading.process.pid, signal.SIGKILL)
    assert select.select([handle], [], [], 20)[0], "the gatekeeper outlived its parent"
    os.close(handle)
    with pytest.raises(ConnectionRefusedError):
        loading.connect()
