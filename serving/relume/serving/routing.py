"""Which service a request is for: by Host, by KServe's path template, or by OpenAI's `model`.

`Host: <isvc>.<ns>[.<anything>]` is Knative's domain template, and `/serving/<ns>/<isvc>/…`
KServe's `pathTemplate`; the prefix is taken off, as its ingress rewrite does.
"""

from collections.abc import Iterable, Mapping, Sequence

from starlette.types import Scope

from relume.serving.errors import BadRequest, ServiceUnknown
from relume.serving.openai import ModelNames, openai_path
from relume.serving.proxy import RequestBody, raw_path_of
from relume.serving.service import Service, ServiceKey

_SERVING = b"/serving/"


def header(scope: Scope, name: bytes) -> str | None:
    """Return the first value of a header; `name` in lower case."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


def by_host(host: str, known: Iterable[ServiceKey]) -> ServiceKey | None:
    """Return the known service that a Host header names.

    The predictor's own host of KServe (`<isvc>-predictor.<ns>…`) names it too.
    """
    labels = host.rsplit(":", 1)[0].lower().split(".")
    if len(labels) < 2:
        return None
    names = {labels[0], labels[0].removesuffix("-predictor")}
    found = [key for key in known if key.namespace == labels[1] and key.name in names]
    return next((key for key in found if key.name == labels[0]), found[0] if found else None)


def by_path(raw_path: bytes) -> tuple[ServiceKey, bytes] | None:
    """Split `/serving/<ns>/<isvc>/rest` into the service and `/rest`, both still encoded."""
    if not raw_path.startswith(_SERVING):
        return None
    namespace, _, rest = raw_path.removeprefix(_SERVING).partition(b"/")
    name, _, rest = rest.partition(b"/")
    key = ServiceKey(namespace.decode("latin-1"), name.decode("latin-1"))
    return (key, b"/" + rest) if key.namespace and key.name else None


class Router:
    """Knows every service of the plane."""

    def __init__(self, services: Sequence[Service], body_limit: int) -> None:
        """body_limit: the largest body, in bytes, in which a model's name is looked for."""
        self._services: Mapping[ServiceKey, Service] = {s.key: s for s in services}
        self._body_limit = body_limit
        self.models = ModelNames([(s.key, s.config.args) for s in services])

    def named_by_host(self, scope: Scope) -> ServiceKey | None:
        """Return the service that the Host header names."""
        return by_host(header(scope, b"host") or "", self._services)

    async def route(self, scope: Scope, body: RequestBody | None) -> tuple[Service, bytes]:
        """Return the service and the path there, still percent-encoded.

        `body` is None for a WebSocket's handshake. Raises ServiceUnknown, and on /openai/v1
        BadRequest and ModelUnknown.
        """
        raw_path = raw_path_of(scope)
        key = self.named_by_host(scope)
        if key is not None:
            return self._services[key], raw_path
        if (found := by_path(raw_path)) is not None:
            if (service := self._services.get(found[0])) is None:
                raise ServiceUnknown(f"no InferenceService {found[0]} on this plane")
            return service, found[1]
        path = openai_path(raw_path)
        if path is None:
            raise ServiceUnknown("no InferenceService of this plane has this address")
        model = self.models.in_query(scope)
        if model is None:
            if body is None:
                raise BadRequest("the request names no model; add ?model=NAME")
            model = await self.models.in_body(body, self._body_limit)
        return self._services[model.service], path
