"""Finding the service of an HTTP request; the part of routing that may have to read the body."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

import orjson

from relume.serving.asgi import Scope, header, raw_path
from relume.serving.body import RequestBody
from relume.serving.errors import BadRequest, ModelUnknown, ServiceUnknown
from relume.serving.routing import Model, Models, ServiceKey, by_host, by_path, openai_path
from relume.serving.service import Service


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes."""

    service: Service
    raw_path: bytes
    rewritten: int | None = None
    """The body's new length, if the model's name in it was replaced."""


class Router:
    """Knows every service of the plane."""

    def __init__(self, services: Sequence[Service], body_limit: int) -> None:
        self._services: Mapping[ServiceKey, Service] = {s.key: s for s in services}
        self._body_limit = body_limit
        self.models = Models([(s.key, s.config.args) for s in services])

    async def route(self, scope: Scope, body: RequestBody) -> Target:
        """Return the service and the path for it.

        Raises ServiceUnknown, and on /openai/v1 BadRequest and ModelUnknown.
        """
        target = self._by_address(scope) or self._by_query(scope)
        return target or await self._by_body(openai_path(raw_path(scope)) or b"/", body)

    def named_by_host(self, scope: Scope) -> ServiceKey | None:
        """Return the service that the Host header names."""
        return by_host(header(scope["headers"], b"host") or "", self._services)

    def route_head(self, scope: Scope) -> Target:
        """Return the service of a request that has no body, such as a WebSocket's handshake.

        Raises as `route` does.
        """
        target = self._by_address(scope) or self._by_query(scope)
        if target is None:
            raise BadRequest("the request names no model; add ?model=NAME")
        return target

    def _by_query(self, scope: Scope) -> Target | None:
        """Return the target if `?model=` names it on /openai/v1."""
        path = openai_path(raw_path(scope))
        if path is None:
            raise ServiceUnknown("no InferenceService of this plane has this address")
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if "model" not in query:
            return None
        return Target(self._services[self._find(query["model"][0]).service], path)

    def _by_address(self, scope: Scope) -> Target | None:
        path = raw_path(scope)
        key = self.named_by_host(scope)
        if key is not None:
            return Target(self._services[key], path)
        found = by_path(path)
        if found is None:
            return None
        service = self._services.get(found[0])
        if service is None:
            raise ServiceUnknown(f"no InferenceService {found[0]} on this plane")
        return Target(service, found[1])

    async def _by_body(self, path: bytes, body: RequestBody) -> Target:
        raw = await body.gather(self._body_limit)
        try:
            parsed = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise BadRequest(f"the request body is not JSON: {error}") from error
        named = parsed.get("model") if isinstance(parsed, dict) else None
        if not isinstance(named, str):
            raise BadRequest("the request names no model")
        model = self._find(named)
        service = self._services[model.service]
        if model.served_as == named:
            return Target(service, path)
        changed = orjson.dumps({**parsed, "model": model.served_as})
        body.replace(changed)
        return Target(service, path, len(changed))

    def _find(self, name: str) -> Model:
        model = self.models.find(name)
        if model is None:
            raise ModelUnknown(f"The model `{name}` does not exist.")
        return model
