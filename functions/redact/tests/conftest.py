"""The function behind func-python's own application, asked over HTTP in process.

Every function that takes events holds the same copy of this file.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from func_python.http import ASGIApplication
from function import new

BASE = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/shop", "ce-type": "com.example.asked"}


@dataclass(frozen=True)
class Reply:
    """An HTTP answer, and the event in it."""

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def type(self) -> str | None:
        return self.headers.get("ce-type")

    @property
    def data(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """Of an error event; anything else fails the test."""
        assert (self.status, self.type) == (200, "relume.function.error"), self
        return self.data["reason"]


class Running:
    """A function that was started with `cfg`."""

    def __init__(self, cfg: dict[str, str]) -> None:
        self.function = new()
        self.function.start(cfg)
        transport = httpx.ASGITransport(ASGIApplication(self.function))
        self._client = httpx.AsyncClient(transport=transport, base_url="http://function")

    async def post(self, data: object = None, **attributes: str) -> Reply:
        """Post an event in binary mode; `data` is bytes as they are, or anything as JSON."""
        headers = BASE | {"content-type": "application/json"}
        headers |= {f"ce-{name}": value for name, value in attributes.items()}
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        return await self.send(headers, body)

    async def send(self, headers: dict[str, str], body: bytes) -> Reply:
        response = await self._client.post("/", headers=headers, content=body)
        return Reply(response.status_code, response.headers, response.content)


@pytest.fixture
def running() -> Callable[..., Running]:
    """Start the function with these variables."""
    return lambda **cfg: Running(cfg)
