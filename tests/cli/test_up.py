"""`relume up` as a process, with a real nats-server and no model: start, serve, stop."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic, sleep

import httpx
import psutil
import pytest

from relume.cli.machine.client import find_plane
from relume.plane.addresses import StateFolder

COMMAND = [sys.executable, "-m", "relume.cli.main"]
WITHIN_S = 90.0

MANIFEST = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {{name: asleep}}
spec:
  predictor:
    minReplicas: 0
    tolerations: [{{operator: Exists}}]
    model:
      modelFormat: {{name: vLLM}}
      storageUri: file://{model}
---
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {{name: inbox}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: ask}}
spec:
  broker: inbox
  filters: [exact: {{type: ask}}, cesql: "NOT EXISTS muted AND source LIKE '/%'"]
  subscriber: {{uri: "{subscriber}"}}
"""


class Subscriber(BaseHTTPRequestHandler):
    """Answers an event as a predictor would; holds those whose id is `hold` until released."""

    released = threading.Event()
    held = threading.Event()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if self.headers["ce-id"] == "hold":
            self.held.set()
            self.released.wait(WITHIN_S)
        body = b'{"choices": [{"message": {"content": "It sleeps."}}]}'
        self.send_response(200)
        headers = {
            "ce-specversion": "1.0",
            "ce-id": f"answer-{self.headers['ce-id']}",
            "ce-source": "/subscriber",
            "ce-type": "relume.inference.response",
            "ce-causationid": self.headers["ce-id"],
            "content-type": "application/json",
            "content-length": str(len(body)),
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def subscriber() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Subscriber)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    Subscriber.released.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def manifest(tmp_path: Path, subscriber: str) -> Path:
    (tmp_path / "model").mkdir()
    file = tmp_path / "plane.yaml"
    file.write_text(MANIFEST.format(model=tmp_path / "model", subscriber=subscriber))
    return file


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state folder, which the other commands find too."""
    monkeypatch.setenv("RELUME_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("RELUME_URL", raising=False)
    return tmp_path / "state"


@contextmanager
def up(manifest: Path, *args: str) -> Iterator["subprocess.Popen[str]"]:
    """A plane that is ready; its state folder is RELUME_STATE."""
    process = subprocess.Popen(
        [
            *COMMAND,
            "up",
            str(manifest),
            "--no-template",
            "--port",
            "0",
            "--broker-port",
            "0",
            *args,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        folder = StateFolder(Path(os.environ["RELUME_STATE"]))
        until(lambda: process.poll() is not None or _pid(folder) == process.pid)
        yield process
    finally:
        process.kill()
        process.communicate()


def _pid(folder: StateFolder) -> int | None:
    plane = folder.read()
    return plane.pid if plane else None


def until(reached: Callable[[], bool]) -> None:
    deadline = monotonic() + WITHIN_S
    while not reached():
        assert monotonic() < deadline
        sleep(0.02)


def relume(*args: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*COMMAND, *args], capture_output=True, text=True, timeout=WITHIN_S)


def replayed() -> str:
    """The records of the plane so far, one JSON object a line."""
    return relume("events", "--replay", "100", "--no-follow", "-o", "json").stdout


def addresses(state: Path) -> dict[str, str]:
    plane: dict[str, str] = json.loads((state / "plane.json").read_text())
    return plane


def family(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    parent = psutil.Process(process.pid)
    return [parent, *parent.children(recursive=True)]


def test_an_event_goes_through_the_plane_and_the_answer_is_printed(
    manifest: Path, state: Path
) -> None:
    with up(manifest):
        sent = relume("send", "--type", "ask", "--data", "words", "--id", "e-1", "--wait")
        assert (sent.returncode, sent.stdout.splitlines()[0]) == (0, "It sleeps.")
        explained = relume("explain", "e-1")
        assert "replied" in explained.stdout
        status = json.loads(relume("status", "-o", "json").stdout)
    assert status["eventing"]["triggers"][0]["delivered"] == 1
    assert status["serving"]["services"][0]["state"] == "zero"
    assert status["template"] == {"state": "off"}


def test_a_broker_is_asked_in_http_whatever_a_client_would_rather_speak(
    manifest: Path, state: Path
) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    with up(manifest) as process:
        url = f"{addresses(state)['broker']}/default/inbox"
        event = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
        assert httpx.get(url, headers=upgrade).status_code == 405
        assert httpx.post(url, headers=upgrade | event).status_code == 202
        process.terminate()
        assert process.communicate(timeout=WITHIN_S)[1] == ""


def test_a_page_that_is_allowed_may_call_every_path_of_both_ports(
    manifest: Path, state: Path
) -> None:
    page, allowed = "http://localhost:3000", "access-control-allow-origin"
    asked = {"Origin": page, "Access-Control-Request-Method": "POST"}
    with up(manifest, "--allowed-origin", "https://a.example", "--allowed-origin", page):
        http, broker = addresses(state)["http"], addresses(state)["broker"]
        for url in (
            f"{http}/openai/v1/chat/completions",
            f"{http}/serving/default/asleep/v1/chat/completions",
            f"{http}/relume/status",
            f"{broker}/default/inbox",
        ):
            preflight = httpx.options(url, headers=asked)
            assert (preflight.status_code, preflight.headers[allowed]) == (200, page)
            other = httpx.options(url, headers=asked | {"Origin": "http://other"})
            assert (other.status_code, allowed in other.headers) == (400, False)
        for url in (f"{http}/openai/v1/models", f"{http}/relume/status", f"{http}/nosuch"):
            assert httpx.get(url, headers={"Origin": page}).headers[allowed] == page
        refused = httpx.post(f"{broker}/default/inbox", headers={"Origin": page})
        assert (refused.status_code, refused.headers[allowed]) == (400, page)
        webhook = httpx.options(
            f"{broker}/default/inbox", headers={"WebHook-Request-Origin": "producer.example"}
        )
        assert webhook.status_code == 200


@pytest.mark.parametrize(
    ("origin", "says"),
    [
        ("http://localhost:3000/", "write http://localhost:3000"),
        ("https://a.example/page?x", "write https://a.example"),
        ("HTTP://Localhost", "write http://localhost"),
        ("localhost:3000", "write http://localhost:3000"),
        ("", "write http://localhost:3000"),
    ],
)
def test_an_origin_is_written_as_a_browser_sends_it(manifest: Path, origin: str, says: str) -> None:
    refused = relume("up", str(manifest), "--allowed-origin", origin)
    assert refused.returncode == 2
    assert says in " ".join(refused.stderr.split())


def test_the_plane_says_what_it_serves_and_what_it_does_not_honour(
    manifest: Path, state: Path
) -> None:
    with up(manifest) as process:
        plane = addresses(state)
        process.terminate()
        shown, complaints = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 0
    assert complaints == ""
    assert f"relume serves at {plane['http']}, Brokers at {plane['broker']}" in shown
    assert f"{plane['http']}/serving/default/asleep" in shown
    assert "type=ask" in shown
    assert f"{manifest}:8: spec.predictor.tolerations" in shown


def test_as_json_it_says_the_same_in_one_line(manifest: Path, state: Path) -> None:
    with up(manifest, "-o", "json") as process:
        plane = addresses(state)
        process.terminate()
        (line,) = process.communicate(timeout=WITHIN_S)[0].splitlines()
    said = json.loads(line)
    assert said["openai"] == f"{plane['http']}/openai/v1"
    assert said["brokers"][0]["url"] == f"{plane['broker']}/default/inbox"
    assert said["not_honoured"][0]["line"] == 8


def test_at_zero_the_plane_with_its_nats_server_is_small(manifest: Path, state: Path) -> None:
    with up(manifest) as process:
        total = sum(member.memory_info().rss for member in family(process))
    assert total < 250e6


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_leaves_nothing(manifest: Path, state: Path, number: int) -> None:
    with up(manifest) as process:
        members = family(process)
        assert len(members) == 2
        process.send_signal(number)
        assert process.wait(WITHIN_S) == 0
        assert not any(member.is_running() for member in members)
    assert not (state / "plane.json").exists()


def test_a_signal_lets_a_delivery_finish(manifest: Path, state: Path) -> None:
    Subscriber.released.clear()
    with up(manifest) as process:
        url = f"{addresses(state)['http']}/relume/events"
        assert relume("send", "--type", "ask", "--id", "hold").returncode == 0
        with httpx.stream("GET", url, params={"replay": 10}, timeout=WITHIN_S) as stream:
            lines = stream.iter_lines()
            assert any('"stage":"delivering"' in line for line in lines)
            process.terminate()
            until(lambda: not (state / "plane.json").exists())
            Subscriber.released.set()
            assert any('"stage":"replied"' in line for line in lines)
        assert process.wait(WITHIN_S) == 0


def test_a_second_signal_stops_at_once_and_the_event_is_delivered_later(
    manifest: Path, state: Path
) -> None:
    Subscriber.released.clear()
    Subscriber.held.clear()
    with up(manifest) as process:
        assert relume("send", "--type", "ask", "--id", "hold").returncode == 0
        # Without a delivery under way the first signal would end it.
        assert Subscriber.held.wait(WITHIN_S)
        members = family(process)
        process.send_signal(signal.SIGINT)
        until(lambda: not (state / "plane.json").exists())
        process.send_signal(signal.SIGINT)
        assert process.wait(WITHIN_S) == 130
        assert not any(member.is_running() for member in members)
    Subscriber.released.set()
    with up(manifest):
        until(lambda: '"replied"' in replayed())


def test_a_signal_while_it_starts_stops_it(manifest: Path, state: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "up", str(manifest), "--no-template", "--port", "0", "--broker-port", "0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: (state / "lock").exists())
    process.terminate()
    _, complaints = process.communicate(timeout=WITHIN_S)
    assert process.returncode in (0, -signal.SIGTERM)
    assert complaints == ""


def test_nothing_outlives_a_plane_that_was_killed(manifest: Path, state: Path) -> None:
    with up(manifest) as process:
        members = family(process)
        process.kill()
        process.wait()
        until(lambda: not any(member.is_running() for member in members))
    assert find_plane(None) == "http://127.0.0.1:8080"  # and not the address that it left behind
    with up(manifest):
        assert relume("status").returncode == 0


def test_two_planes_do_not_share_a_state_folder(manifest: Path, state: Path) -> None:
    with up(manifest) as first, up(manifest) as second:
        assert second.wait(WITHIN_S) == 1
        assert f"is in use by the plane at {addresses(state)['http']}" in second.stderr.read()  # type: ignore[union-attr]
        assert first.poll() is None
        assert relume("status").returncode == 0


def test_the_port_of_the_brokers_in_use_is_named_with_its_flag(manifest: Path, state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = relume("up", str(manifest), "--port", "0", "--broker-port", port)
    assert done.returncode == 1
    assert done.stderr == (
        f"relume: port {port} is in use; choose another with --broker-port PORT\n"
    )


def test_a_broker_at_its_limit_tells_producers_to_wait(manifest: Path, state: Path) -> None:
    Subscriber.released.clear()
    with up(manifest, "--broker-max-bytes", "1Ki", "--fsync", "always"):
        url = f"{addresses(state)['broker']}/default/inbox"
        headers = {"ce-specversion": "1.0", "ce-source": "/s", "ce-type": "ask"}
        first = httpx.post(url, headers={**headers, "ce-id": "hold"}, content=bytes(2000))
        second = httpx.post(url, headers={**headers, "ce-id": "next"}, content=bytes(2000))
        config = (state / "nats" / "nats.conf").read_text()
    assert first.status_code == 202
    assert (second.status_code, second.json()["reason"]) == (503, "broker-full")
    assert "sync_interval: always" in config


def test_a_size_that_is_none_is_refused(manifest: Path, state: Path) -> None:
    done = relume("up", str(manifest), "--broker-max-bytes", "lots")
    assert done.returncode == 2
    assert "write 500M or 10Gi" in done.stderr


def test_a_minimum_beyond_the_memory_is_refused_at_its_field(manifest: Path, state: Path) -> None:
    text = manifest.read_text()
    assert "minReplicas: 0" in text
    manifest.write_text(text.replace("minReplicas: 0", "minReplicas: 2"))
    done = relume("up", str(manifest), "--memory", "1.5Gi")
    assert done.returncode == 2
    assert f"{manifest}:7: spec.predictor.minReplicas: 2 × " in done.stderr
    assert "the memory budget is 1.5Gi: write minReplicas: 0" in done.stderr


@pytest.mark.parametrize(("options", "status"), [([], 202), (["--strict-events"], 400)])
def test_a_header_that_is_not_encoded_is_taken_unless_events_are_to_be_strict(
    manifest: Path, state: Path, options: list[str], status: int
) -> None:
    with up(manifest, *options):
        url = f"{addresses(state)['broker']}/default/inbox"
        headers = {"ce-specversion": "1.0", "ce-source": "/s", "ce-type": "ask", "ce-id": "50%"}
        assert httpx.post(url, headers=headers).status_code == status
