"""Which service of the plane a request is for: by Host, by path, or by the model that it names."""

from collections.abc import Mapping, Sequence

from starlette.types import Scope

from relume.serving.addresses import by_host, by_path, header, raw_path_of, tag_of
from relume.serving.body import RequestBody
from relume.serving.errors import ServiceUnknown
from relume.serving.openai import ModelNames, openai_path
from relume.serving.predictor import ServiceKey
from relume.serving.target import TARGET, Target
from relume.serving.traffic import Traffic

#: The revision that a request is for, with which it stays, and the path there, percent-encoded.
Routed = tuple[Target, bytes]


class Router:
    """Knows every service of the plane."""

    def __init__(self, traffic: Sequence[Traffic], body_limit: int) -> None:
        """body_limit: the largest body, in bytes, in which a model's name is looked for."""
        self._services: Mapping[ServiceKey, Traffic] = {t.key: t for t in traffic}
        self._body_limit = body_limit
        answering = [t.rolled_out for t in traffic]
        self.models = ModelNames([(s.key, s.config.args) for s in answering if s.config.is_model])

    def named_by_host(self, scope: Scope) -> ServiceKey | None:
        """Return the service that the Host header names."""
        return by_host(header(scope, b"host") or "", self._services)

    def by_head(self, scope: Scope) -> Routed | None:
        """Return where a request goes by its address and headers; None: its body says it.

        A request that came to a door of one service (`doors`) is for that service, whatever its
        host, path and model are. Raises ServiceUnknown, and on /openai/v1 ModelUnknown,
        RequestTooLarge, and for a WebSocket's handshake, which has no body, ModelUnnamed.
        """
        raw_path = raw_path_of(scope)
        target: Target | None = scope.get("state", {}).get(TARGET)
        if target is not None:
            return target, raw_path
        key = self.named_by_host(scope)
        if key is not None:
            tag = tag_of(header(scope, b"host") or "", key)
            return self._services[key].assign(tag), raw_path
        if (found := by_path(raw_path)) is not None:
            if (service := self._services.get(found[0])) is None:
                raise ServiceUnknown(f"no InferenceService {found[0]} on this plane")
            return service.assign(), found[1]
        path = openai_path(raw_path)
        if path is None:
            raise ServiceUnknown("no InferenceService of this plane has this address")
        model = self.models.in_head(scope, self._body_limit)
        return None if model is None else (self._services[model.service].assign(), path)

    async def by_body(self, scope: Scope, body: RequestBody) -> Routed:
        """Return where a request goes by the model that its body names.

        Raises BadRequest and ModelUnknown.
        """
        content_type = header(scope, b"content-type") or ""
        model = await self.models.in_body(content_type, body, self._body_limit)
        return self._services[model.service].assign(), openai_path(raw_path_of(scope)) or b"/"
