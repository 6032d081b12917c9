"""The registry over HTTP, in front of the Brokers' ingress.

GET /asyncapi.json, /asyncapi.yaml     what the Brokers take and send, as AsyncAPI 3.0
GET /schemas/<name>.json               the JSON Schema of the data of one kind of event

Every other request goes on to the ingress, and with it every POST: a Broker may have any name.
"""

import functools
import json

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send


class Catalogue:
    """An ASGI app that answers a few GETs itself."""

    def __init__(self, ingress: ASGIApp) -> None:
        self._ingress = ingress

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = None
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            answer = _documents().get(scope["path"])
        if answer is None:
            return await self._ingress(scope, receive, send)
        media_type, text = answer
        await Response(text, media_type=media_type)(scope, receive, send)


@functools.cache
def _documents() -> dict[str, tuple[str, bytes]]:
    """(media type, text) by path; made at the first GET."""
    from relume.eventing.registry.asyncapi import asyncapi
    from relume.eventing.registry.documents import schema_file, to_yaml
    from relume.eventing.registry.schemas import SCHEMAS

    document = asyncapi()
    schemas = {
        f"/schemas/{name}.json": ("application/schema+json", _json(schema_file(name)))
        for name in SCHEMAS
    }
    return {
        "/asyncapi.json": ("application/json", _json(document)),
        "/asyncapi.yaml": ("application/yaml", to_yaml(document).encode()),
        **schemas,
    }


def _json(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()
