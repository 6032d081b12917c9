"""What V1 and V2 ask for, in terms of the routes that vLLM has for the model's task.

| task | one input | route | one output |
|---|---|---|---|
| generate | text (a user message), or an object with `messages` or `prompt` | chat … | text |
| embed | text | `/v1/embeddings` | list of floats |
| classify | text | `/classify` | `{"label", "score"}` |
| score | `{"text_1", "text_2"}` | `/score` | float |
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any

from starlette.requests import Request

from relume.runtimes.calls import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    RouteAnswer,
    RouteCall,
    json_bytes,
    post_json,
)


class TaskFailed(Exception):
    """A route refused, or an input does not fit the task; `status` is for the caller."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def require_model(request: Request, model: str) -> None:
    """Raise TaskFailed 404 for a name that the served model does not have."""
    state = request.app.state
    if model not in (state.relume_model, *state.relume_further_names):
        raise TaskFailed(404, f"model {model!r} is not served here")


async def run_task(
    request: Request, model: str, inputs: Sequence[Any], parameters: object
) -> list[Any]:
    """One output per input, in order. `parameters` are the route's own. Raises TaskFailed."""
    tasks: Collection[str] = request.app.state.relume_tasks
    require_model(request, model)
    if not isinstance(parameters, Mapping | None):
        raise TaskFailed(400, "parameters must be an object")
    base = {**(parameters or {}), "model": model}
    if "generate" in tasks:
        return await _each(inputs, lambda item: _generate(request, item, base))
    if "classify" in tasks:
        answer = await _ask(request, "/classify", {**base, "input": _texts(inputs)})
        return [_label(item) for item in answer["data"]]
    if "embed" in tasks:
        answer = await _ask(request, EMBEDDINGS, {**base, "input": _texts(inputs)})
        return [item["embedding"] for item in answer["data"]]
    if "score" in tasks:
        return await _each(inputs, lambda item: _score(request, item, base))
    raise TaskFailed(501, f"this model's tasks ({', '.join(tasks)}) have no V1 or V2 form")


async def _each(inputs: Sequence[Any], run: Callable[[Any], Coroutine[Any, Any, Any]]) -> list[Any]:
    """All at once, since vLLM batches what runs together; the first failure is the answer.

    Nothing is left running: vLLM's routes do not pass a cancellation on to their generation.
    """
    done = await asyncio.gather(*map(run, inputs), return_exceptions=True)
    for item in done:
        if isinstance(item, BaseException):
            raise item
    return done


async def _generate(request: Request, item: Any, base: dict[str, Any]) -> str:
    if isinstance(item, str):
        item = {"messages": [{"role": "user", "content": item}]}
    if not isinstance(item, dict) or not ("messages" in item or "prompt" in item):
        raise TaskFailed(400, "an input is a text or an object with `messages` or `prompt`")
    path = CHAT if "messages" in item else COMPLETIONS
    answer = await _ask(request, path, {**base, **item, "stream": False})
    choice = answer["choices"][0]
    return str(choice["text"] if path == COMPLETIONS else choice["message"]["content"] or "")


async def _score(request: Request, item: Any, base: dict[str, Any]) -> float:
    if not isinstance(item, dict) or not {"text_1", "text_2"} <= item.keys():
        raise TaskFailed(400, "an input is an object with `text_1` and `text_2`")
    answer = await _ask(request, "/score", {**base, **item})
    return float(answer["data"][0]["score"])


async def _ask(request: Request, path: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    try:
        asked = json_bytes(payload)
    except ValueError as error:
        raise TaskFailed(400, f"the body is not JSON: {error}") from error
    call = RouteCall(path, asked)
    answer = await post_json(request.app, request.scope, request.receive, call)
    body = answer.json()
    if answer.status < 300 and isinstance(body, dict):
        return body
    raise TaskFailed(answer.status if answer.status >= 400 else 500, _message(answer, body))


def _message(answer: RouteAnswer, body: object) -> str:
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict):
        error = error.get("message")
    return str(error or f"the model's route answered {answer.status}")


def _texts(inputs: Sequence[Any]) -> list[str]:
    if not all(isinstance(item, str) for item in inputs):
        raise TaskFailed(400, "each input of this model is a text")
    return list(inputs)


def _label(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"label": item.get("label"), "score": max(item.get("probs") or [0.0])}
