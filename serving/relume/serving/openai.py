"""GET /openai/v1/models: every service of the plane as a model, without waking one.

Shape: OpenAI's API reference, "Models" (`list` and `retrieve`).
"""

from typing import Any
from urllib.parse import unquote

import orjson

from relume.serving.asgi import Scope, Send, raw_path, respond
from relume.serving.errors import JSON, ModelUnknown
from relume.serving.routing import Model, Models, openai_path

LIST = b"/v1/models"


async def answer_models(scope: Scope, send: Send, models: Models) -> bool:
    """Answer a request for the list or for one model; return whether it was one."""
    path = openai_path(raw_path(scope))
    if path is None or scope["method"] != "GET" or not path.startswith(LIST):
        return False
    rest = path.removeprefix(LIST)
    if rest in (b"", b"/"):
        listed = {"object": "list", "data": [_entry(model) for model in models.listed]}
        await respond(send, 200, [JSON], orjson.dumps(listed))
        return True
    name = unquote(rest.removeprefix(b"/").decode("latin-1"))
    model = models.find(name)
    if model is None:
        error = ModelUnknown(f"The model `{name}` does not exist.")
        await respond(send, error.status, error.headers, error.body)
    else:
        await respond(send, 200, [JSON], orjson.dumps(_entry(model)))
    return True


def _entry(model: Model) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": 0, "owned_by": str(model.service)}
