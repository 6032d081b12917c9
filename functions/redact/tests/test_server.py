"""The function as a process of func-python's server, asked over a real port.

Every function that takes events holds the same copy of this file; `tests/environment.py` says what
the process needs.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from environment import variables

SERVE = "from func_python.http import serve; from function import new; serve(new)"
EVENT = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/shop", "ce-type": "com.example.odd"}
NOT_JSON = [b"", b"{", b"\xff\xfe"]
ODD_JSON = [
    b"null",
    b"[]",
    b'"text"',
    b'{"a": NaN}',
    b'{"\\ud800": "\\ud800"}',
    b"[" * 500 + b"]" * 500,
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running function; prints how long its start took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | variables(tmp_path_factory.mktemp("files"))
    environment["LISTEN_ADDRESS"] = f"127.0.0.1:{port}"
    began = time.monotonic()
    root = Path(__file__).parents[1]
    process = subprocess.Popen([sys.executable, "-c", SERVE], env=environment, cwd=root)
    try:
        ready = f"http://127.0.0.1:{port}/health/readiness"
        while True:
            assert process.poll() is None, "the function did not start; its log is above"
            assert time.monotonic() - began < 30
            try:
                if httpx.get(ready, timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.01)
        memory = Path(f"/proc/{process.pid}/status")
        resident = [line for line in memory.read_text().splitlines() if line.startswith("VmRSS")]
        print(f"\nstart: {time.monotonic() - began:.2f} s, {' '.join(resident[0].split())}")
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        assert process.wait(20) == 0, "it stops by itself on SIGTERM"


@pytest.mark.parametrize("body", NOT_JSON + ODD_JSON)
def test_odd_data_in_binary_mode_is_never_answered_with_a_500(url: str, body: bytes) -> None:
    check(httpx.post(url, headers=EVENT | {"content-type": "application/json"}, content=body))


@pytest.mark.parametrize("body", ODD_JSON)
def test_odd_data_in_structured_mode_is_never_answered_with_a_500(url: str, body: bytes) -> None:
    told = {name[3:]: value for name, value in EVENT.items()} | {"data": json.loads(body)}
    headers = {"content-type": "application/cloudevents+json"}
    check(httpx.post(url, headers=headers, content=json.dumps(told).encode()))


def check(response: httpx.Response) -> None:
    # 503: it could not pass the event on, so the Broker tries again.
    assert response.status_code < 500 or response.status_code == 503, response.text


BATCH = {"content-type": "application/cloudevents-batch+json"}
STRUCTURED = {"content-type": "application/cloudevents+json"}
JSON = {"content-type": "application/json"}
NO_EVENTS = [
    ({}, b""),
    (JSON, b'{"a": 1}'),
    (BATCH, b"[]"),
    (STRUCTURED, b"[]"),
    (STRUCTURED, b"{"),
    (STRUCTURED, b'{"specversion": "1.0", "id": 1, "source": [], "type": null, "time": "soon"}'),
    (EVENT | {"ce-specversion": "0.3"}, b""),
    (EVENT | {"ce-specversion": "9"}, b""),
    (EVENT | {"ce-id": ""}, b""),
    (EVENT | {"ce-time": "yesterday"}, b""),
    (EVENT | JSON, b"[" * 100_000 + b"]" * 100_000),
]


@pytest.mark.parametrize(("headers", "body"), NO_EVENTS)
def test_what_is_no_event_is_refused(url: str, headers: dict[str, str], body: bytes) -> None:
    """400, which a Broker does not try again."""
    response = httpx.post(url, headers=headers, content=body)
    assert response.status_code == 400, response.text
    assert response.json()["reason"] == "invalid-event"


def test_a_request_without_an_event_is_refused(url: str) -> None:
    assert httpx.get(url).status_code == 400


def test_an_error_event_is_answered_but_not_with_an_event(url: str) -> None:
    """A Trigger without a filter must not send error events around for ever."""
    headers = EVENT | {"ce-type": "relume.function.error", "content-type": "application/json"}
    response = httpx.post(url, headers=headers, content=b"{}")
    assert response.status_code in (200, 503)
    assert "ce-type" not in response.headers
