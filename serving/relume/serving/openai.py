"""/openai/v1: every service of the plane as a model, found by name and listed without a start.

Shapes: OpenAI's API reference, "Models" (`list` and `retrieve`). The list is answered here, and so
is a method that no server has for its path, so that neither wakes a model. Everything else goes to
the service whose model the request names.
"""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote

import orjson
from starlette.responses import Response
from starlette.types import Scope

from relume.serving.addresses import header
from relume.serving.body import RequestBody
from relume.serving.errors import (
    JSON_TYPE,
    MethodNotAllowed,
    ModelUnknown,
    ModelUnnamed,
    RequestTooLarge,
    RouteUnknown,
    ServingError,
)
from relume.serving.model_field import named_in
from relume.serving.predictor import ServiceKey

MODEL_FLAGS = ("--served-model-name", "--served_model_name", "--model-name", "--model_name")
_PREFIX = b"/openai/v1"
_LIST = "/v1/models"
_POSTED = frozenset(
    {
        "/v1/audio/transcriptions",
        "/v1/audio/translations",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/rerank",
        "/v1/responses",
        "/v1/score",
    }
)
"""Routes of vLLM's server that take POST alone."""
_MOST_NAMES = 10
"""How many models an error names."""


def openai_path(raw_path: bytes) -> bytes | None:
    """Return `/v1/…` for `/openai/v1/…`, else None."""
    if raw_path == _PREFIX or raw_path.startswith(_PREFIX + b"/"):
        return raw_path.removeprefix(b"/openai")
    return None


@dataclass(frozen=True, slots=True)
class ModelName:
    """One name under which /openai/v1 reaches a service."""

    id: str
    service: ServiceKey
    served_as: str
    """What the predictor itself calls it."""

    def to_json(self) -> dict[str, Any]:
        """Return OpenAI's model object."""
        return {"id": self.id, "object": "model", "created": 0, "owned_by": str(self.service)}


class ModelNames:
    """Every model name of the plane.

    A service is listed by its name, or as `<ns>/<name>` where two namespaces use the same name. It
    is also found by `<ns>/<name>` always, and by the names in its `--served-model-name`.
    """

    def __init__(self, services: Sequence[tuple[ServiceKey, tuple[str, ...]]]) -> None:
        self.listed: list[ModelName] = []
        self._found: dict[str, ModelName] = {}
        bare = [key.name for key, _ in services]
        for key, args in services:
            served = served_names(args)
            served_as = served[0] if served else key.name
            unique = bare.count(key.name) == 1
            listed = ModelName(key.name if unique else str(key), key, served_as)
            self.listed.append(listed)
            self._found[listed.id] = listed
            self._found[str(key)] = ModelName(str(key), key, served_as)
            for name in served:
                self._found.setdefault(name, ModelName(name, key, name))

    def find(self, name: str) -> ModelName:
        """Return the model of this name. Raises ModelUnknown."""
        if name not in self._found:
            raise ModelUnknown(name)
        return self._found[name]

    def in_head(self, scope: Scope, limit: int) -> ModelName | None:
        """Return the model that `?model=` names; None: only the body can name it.

        Raises ModelUnknown, RequestTooLarge for a body that is announced to be larger than `limit`
        bytes, and ModelUnnamed for a WebSocket's handshake, which has no body.
        """
        if (model := self.in_query(scope)) is not None:
            return model
        if scope["type"] == "websocket":
            raise self._unnamed()
        declared = header(scope, b"content-length") or ""
        # int() refuses very long digit strings.
        if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit):
            raise RequestTooLarge(limit)
        return None

    def in_query(self, scope: Scope) -> ModelName | None:
        """Return the model that `?model=` names, None without it. Raises ModelUnknown."""
        named = parse_qs(scope["query_string"].decode("latin-1")).get("model")
        return None if named is None else self.find(named[0])

    async def in_body(self, content_type: str, body: RequestBody, limit: int) -> ModelName:
        """Return the model that a body names, and put the predictor's own name into it.

        Raises BadRequest, ModelUnnamed, RequestTooLarge for more than `limit` bytes, and
        ModelUnknown.
        """
        raw = await body.gather(limit)
        if not raw:
            raise self._unnamed()
        named = named_in(content_type, raw)
        model = self.find(named.name)
        if model.served_as != named.name:
            body.replace(named.renamed(model.served_as))
        return model

    def _unnamed(self) -> ModelUnnamed:
        names = ", ".join(model.id for model in self.listed[:_MOST_NAMES])
        more = ", …" if len(self.listed) > _MOST_NAMES else ""
        return ModelUnnamed(
            "the request has no body that names a model: add ?model=NAME to the address "
            f"(models: {names}{more})"
        )

    def answer(self, method: str, raw_path: bytes) -> Response | None:
        """Return the answer to what is not for a predictor; None for everything else.

        That is the list of models and each model in it, a method that is not allowed there or on a
        route of vLLM's, and a path that only begins like the list.
        """
        encoded = openai_path(raw_path)
        if encoded is None:
            return None
        path = unquote(encoded.decode("latin-1"))
        below = path.removeprefix(_LIST)
        try:
            if path.rstrip("/") in _POSTED and method != "POST":
                raise MethodNotAllowed(method, f"/openai{path}", "POST")
            if path.rstrip("/") == "/v1" or (below != path and below[:1] not in ("", "/")):
                raise RouteUnknown(f"/openai{path}")
            if below == path:
                return None
            if method not in ("GET", "HEAD"):
                raise MethodNotAllowed(method, f"/openai{path}", "GET, HEAD")
            return self._describe(below.strip("/"))
        except ServingError as error:
            return error.response()

    def _describe(self, name: str) -> Response:
        """Return OpenAI's object of one model, or without a name its list. Raises ModelUnknown."""
        every = {"object": "list", "data": [model.to_json() for model in self.listed]}
        found: dict[str, Any] = self.find(name).to_json() if name else every
        return Response(orjson.dumps(found), headers={"content-type": JSON_TYPE})


def served_names(args: Iterable[str]) -> list[str]:
    """Return the names that the predictor's own arguments give its model."""
    words = [word for arg in args for word in (shlex.split(arg) if " " in arg else [arg])]
    names: list[str] = []
    for i, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag not in MODEL_FLAGS:
            continue
        if equals:
            names.append(value)
            continue
        for following in words[i + 1 :]:
            if following.startswith("--"):
                break
            names.append(following)
    return names
