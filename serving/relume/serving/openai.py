"""/openai/v1: every service of the plane as a model, found by name and listed without a start.

Shapes: OpenAI's API reference, "Models" (`list` and `retrieve`). The list is answered here, so that
it wakes no model; everything else goes to the service whose model the request names.
"""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote

import orjson
from starlette.responses import Response
from starlette.types import Scope

from relume.serving.errors import JSON_TYPE, BadRequest, ModelUnknown
from relume.serving.proxy import RequestBody
from relume.serving.service import ServiceKey

MODEL_FLAGS = ("--served-model-name", "--served_model_name", "--model-name", "--model_name")
_PREFIX = b"/openai/v1"
_LIST = b"/v1/models"


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

    async def named_by(self, scope: Scope, body: RequestBody | None, limit: int) -> ModelName:
        """Return the model that a request names in its query, else in its body.

        `body` is None for a request that has none. Raises as `in_query` and `in_body`.
        """
        model = self.in_query(scope)
        if model is not None:
            return model
        if body is None:
            raise BadRequest("the request names no model; add ?model=NAME")
        return await self.in_body(body, limit)

    def in_query(self, scope: Scope) -> ModelName | None:
        """Return the model that `?model=` names, None without it. Raises ModelUnknown."""
        named = parse_qs(scope["query_string"].decode("latin-1")).get("model")
        return None if named is None else self.find(named[0])

    async def in_body(self, body: RequestBody, limit: int) -> ModelName:
        """Return the model that a JSON body names, and put the predictor's own name into it.

        Raises BadRequest, RequestTooLarge for more than `limit` bytes, and ModelUnknown.
        """
        raw = await body.gather(limit)
        try:
            parsed = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise BadRequest(f"the request body is not JSON: {error}") from error
        named = parsed.get("model") if isinstance(parsed, dict) else None
        if not isinstance(named, str):
            raise BadRequest("the request names no model")
        model = self.find(named)
        if model.served_as != named:
            body.replace(orjson.dumps({**parsed, "model": model.served_as}))
        return model

    def answer(self, method: str, raw_path: bytes) -> Response | None:
        """Return the answer to a request for the list or for one model; None for any other."""
        path = openai_path(raw_path)
        if path is None or method != "GET" or not path.startswith(_LIST):
            return None
        rest = path.removeprefix(_LIST)
        found: dict[str, Any] = {"object": "list", "data": [m.to_json() for m in self.listed]}
        if rest not in (b"", b"/"):
            try:
                found = self.find(unquote(rest.removeprefix(b"/").decode("latin-1"))).to_json()
            except ModelUnknown as error:
                return error.response()
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
