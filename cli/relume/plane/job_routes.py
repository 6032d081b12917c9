"""Which service of a plan a request for a job is for; the door of jobs asks.

The addresses are those of the plane and of KServe: `/serving/NS/NAME/…`, a Host that begins with
`NAME.NS`, and `/openai/v1/…` with the model in the query or the body.
"""

import functools
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

from starlette.types import Scope

from relume.config import Function, InferenceService
from relume.eventing.jobs.answers import Unroutable
from relume.eventing.jobs.door import NeedsBody, Target
from relume.eventing.jobs.job import ServiceName
from relume.serving.addresses import by_host, by_path, header, raw_path_of
from relume.serving.errors import ServingError
from relume.serving.model_field import named_in
from relume.serving.openai import ModelName, ModelNames, openai_path
from relume.serving.predictor import ServiceKey

# The paths below a service that are no routes of a model.
_NO_ROUTES = ("", "/")
# What addresses of so many characters at most name is remembered, of so many of them.
_SHORT, _REMEMBERED = 512, 1024


class JobRoutes:
    """Finds the service and the route of a request (`relume.eventing.jobs.door.Resolve`).

    A request to one of the `functions` is refused, and not passed on: who asks for a job does not
    want to wait for the answer.
    """

    def __init__(
        self, services: Sequence[InferenceService], functions: Sequence[Function] = ()
    ) -> None:
        self.serve(services, functions)

    def serve(
        self, services: Sequence[InferenceService], functions: Sequence[Function] = ()
    ) -> None:
        """Find these services from now on."""
        self._functions = frozenset(ServiceKey(each.namespace, each.name) for each in functions)
        keys = {ServiceKey(each.namespace, each.name): each for each in services}
        self._services: Mapping[ServiceKey, InferenceService] = keys
        self._known = functools.lru_cache(_REMEMBERED)(self._by_address)
        self.models = ModelNames([(key, each.args) for key, each in keys.items()])

    def __call__(self, scope: Scope, body: bytes | None) -> Target | None:
        """See `Resolve`. A path that is for no service passes."""
        raw_path = raw_path_of(scope)
        query = scope["query_string"].decode("latin-1")
        host = header(scope, b"host") or ""
        is_short = len(host) + len(raw_path) + len(query) <= _SHORT
        if named := (self._known if is_short else self._by_address)(host, raw_path, query):
            return named
        if (path := openai_path(raw_path)) is None:
            return None
        if path == b"/v1" or path.startswith(b"/v1/models"):
            return None
        try:
            if (model := self.models.in_query(scope)) is not None:
                return _target(model.service, path, query)
            if body is None:
                raise NeedsBody
            return self._by_body(scope, path, query, body)
        except ServingError as error:
            raise Unroutable(str(error), reason=error.reason, status=error.status) from None

    def _by_address(self, host: str, raw_path: bytes, query: str) -> Target | None:
        """What Host or path name by themselves."""
        if (key := by_host(host, self._services)) is not None:
            return _target(key, raw_path, query)
        if (function := by_host(host, self._functions)) is not None:
            raise _no_model(function)
        if (found := by_path(raw_path)) is None:
            return None
        if found[0] in self._functions:
            raise _no_model(found[0])
        if found[0] not in self._services:
            raise Unroutable(f"there is no InferenceService {found[0]} here")
        return _target(found[0], found[1], query)

    def _by_body(self, scope: Scope, path: bytes, query: str, body: bytes) -> Target:
        named = named_in(header(scope, b"content-type") or "", body)
        model: ModelName = self.models.find(named.name)
        same = model.served_as == named.name
        sent = None if same else named.renamed(model.served_as)
        target = _target(model.service, path, query)
        assert target is not None
        return Target(target.service, target.route, sent)


def _no_model(function: ServiceKey) -> Unroutable:
    return Unroutable(
        f"{function} is a function, and jobs are for models (InferenceServices): ask it without "
        "Prefer: respond-async, or send it an event through a Broker and a Trigger",
        reason="no-jobs-for-functions",
        status=501,
    )


def _target(key: ServiceKey, raw_path: bytes, query: str) -> Target | None:
    path = raw_path.decode("latin-1")
    if path in _NO_ROUTES:
        raise Unroutable("the address names no route, such as /v1/chat/completions")
    if not path.startswith("/"):  # `POST *`: it would become a part of the predictor's host
        words = "write the path of the route with / in front"
        raise Unroutable(words, reason="bad-path", status=400)
    # The HTTP client would resolve them, and ask another path than one of this service.
    if any(part in (".", "..") for part in unquote(path).split("/")):
        words = "write the path of the route without . and .."
        raise Unroutable(words, reason="bad-path", status=400)
    route = f"{path}?{query}" if query else path
    return Target(ServiceName(key.namespace, key.name), route)
