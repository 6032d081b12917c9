"""Who calls the stub: a producer of events, and readers of replies that do not use our codec."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import httpx
from stub_vllm import Stub

EVENT = {"specversion": "1.0", "id": "e-1", "source": "/a/b", "type": "com.example.ask"}


def chat_data(text: str = "hi", **more: object) -> dict[str, Any]:
    """The data of an event that asks for a chat."""
    return {"messages": [{"role": "user", "content": text}], **more}


@dataclass(frozen=True)
class Reply:
    """An HTTP answer that is an event, read without our codec."""

    attributes: dict[str, Any]
    data: Any

    @classmethod
    def of(cls, response: httpx.Response) -> "Reply":
        kind = response.headers.get("content-type", "")
        if kind.startswith("application/cloudevents+json"):
            members = response.json()
            return cls(members, members.pop("data"))
        found = {k[3:]: unquote(v) for k, v in response.headers.items() if k.startswith("ce-")}
        assert found.keys() >= EVENT.keys(), f"{response.status_code}: no event: {response.text}"
        return cls({**found, "datacontenttype": kind}, response.json())


class Producer:
    """Posts events to the stub, in process."""

    def __init__(self, stub: Stub) -> None:
        transport = httpx.ASGITransport(stub.app)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://stub")

    async def binary(
        self,
        data: object,
        path: str = "/",
        *,
        headers: dict[str, str] | None = None,
        **attributes: Any,
    ) -> httpx.Response:
        """Post `data` (bytes as they are, else as JSON) as an event in binary mode."""
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        sent = {f"ce-{k}": v for k, v in {**EVENT, **attributes}.items() if v is not None}
        sent |= {"content-type": "application/json", **(headers or {})}
        return await self.http.post(path, content=body, headers=sent)

    async def structured(
        self,
        members: dict[str, Any],
        path: str = "/",
        *,
        content_type: str = "application/cloudevents+json",
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Post an event in structured mode; `members` are added to the required ones."""
        sent = {"content-type": content_type, **(headers or {})}
        return await self.http.post(path, content=json.dumps({**EVENT, **members}), headers=sent)


@asynccontextmanager
async def client(*tasks: str) -> AsyncIterator[tuple[httpx.AsyncClient, Stub]]:
    """A client of a server whose model does `tasks`."""
    stub = Stub(tasks)
    async with Producer(stub).http as http:
        yield http, stub


def tensor(*texts: str, **more: object) -> dict[str, Any]:
    """A V2 tensor of texts."""
    shape = [len(texts)]
    return {"name": "q", "datatype": "BYTES", "shape": shape, "data": list(texts), **more}
