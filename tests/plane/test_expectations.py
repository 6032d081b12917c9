"""`Expect: 100-continue`: what is refused by the head alone is refused before a body is sent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from relume.config import load
from relume.plane.local import LocalPlane, PlaneSettings
from relume.runtimes.models.store import ModelStore

pytestmark = pytest.mark.asyncio(loop_scope="module")
_BYTES = 100 << 20
_MANIFEST = """\
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {{name: b}}
---
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {{name: one}}
spec:
  predictor:
    minReplicas: 0
    model: {{modelFormat: {{name: vLLM}}, storageUri: "file://{folder}/model"}}
"""
_ASYNC = "Prefer: respond-async"
_EVENT = "Ce-Id: 1\r\nCe-Source: /s\r\nCe-Type: t\r\nCe-Specversion: 1.0"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plane(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalPlane]:
    folder = tmp_path_factory.mktemp("plane")
    (folder / "model").mkdir()
    file = folder / "it.yaml"
    file.write_text(_MANIFEST.format(folder=folder))
    settings = PlaneSettings(folder / "state", port=0, broker_port=0, template=False, grace_s=2)
    async with LocalPlane(load([file]), settings, ModelStore(folder)).running() as running:
        yield running


@asynccontextmanager
async def _asked(
    url: str, head: str
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, port = urlsplit(url).netloc.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        named = "" if "Host:" in head else f"Host: {host}\r\n"
        writer.write(f"{head}\r\n{named}Expect: 100-continue\r\n".encode())
        writer.write(f"Content-Length: {_BYTES}\r\n\r\n".encode())
        yield reader, writer
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        ("POST /serving/default/nobody/v1/chat/completions", "", 404),
        ("POST /serving/default/nobody/v1/chat/completions", _ASYNC, 404),
        ("POST /nowhere", "", 404),
        ("POST /openai/v1/chat/completions?model=nobody", "", 404),
        ("POST /openai/v1/chat/completions", "", 413),
        ("POST /openai/v1/chat/completions", _ASYNC, 413),
        ("PUT /openai/v1/chat/completions", "", 405),
        ("POST /openai/v1/models", "", 405),
        ("POST /relume/nothing", "", 404),
        ("PUT /relume/status", "", 405),
        ("POST /relume/reload", "Origin: http://evil.example", 403),
        ("POST /relume/status", "Host: evil.example", 403),
        ("POST /relume/services/default/nobody/warm", "", 404),
        ("POST /relume/page/nothing", "", 405),
        ("POST /v1/jobs/nothing/more", "", 404),
        ("PUT /v1/jobs", "", 405),
        ("POST /v1/queues/default/nobody/pause", "", 404),
        ("POST /events/default/nobody/", _EVENT, 404),
        ("POST /events/default/one/", "Ce-Id: 1\r\nCe-Specversion: 1.0", 400),
        ("POST /events/default/one/", _EVENT, 413),
        ("POST /serving/default/one/v1/chat/completions", "Content-Encoding: br", 415),
    ],
)
async def test_the_http_port_refuses_by_the_head(
    plane: LocalPlane, line: str, headers: str, status: int
) -> None:
    await _refused(plane.http, line, headers, status)


@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        ("POST /default/nothing", _EVENT, 404),
        ("POST /default", _EVENT, 400),
        ("POST /default/b/c", _EVENT, 400),
        ("POST /default/b", "", 400),
        ("POST /default/b", "Ce-Id: 1\r\nCe-Specversion: 1.0", 400),
        ("PUT /default/b", _EVENT, 405),
        ("POST /default/b", _EVENT, 413),
        ("POST /request-reply/default/nothing", _EVENT, 404),
        ("POST /request-reply/default/nothing/reply", _EVENT, 404),
        ("POST /asyncapi.json", "", 400),
    ],
)
async def test_the_port_of_the_brokers_refuses_by_the_head(
    plane: LocalPlane, line: str, headers: str, status: int
) -> None:
    await _refused(plane.broker, line, headers, status)


async def _refused(url: str, line: str, headers: str, status: int) -> None:
    """The refusal comes first and whole, also to a client that sends its body all the same."""
    head = f"{line} HTTP/1.1" + (f"\r\n{headers}" if headers else "")
    for sends in (False, True):
        async with _asked(url, head) as (reader, writer), asyncio.timeout(10):
            if sends:
                writer.write(bytes(1 << 20))
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.split()[1] == str(status).encode(), answer
            assert b"connection: close" in answer.lower()
            length = answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            assert len(await reader.read()) == int(length or b"0")
