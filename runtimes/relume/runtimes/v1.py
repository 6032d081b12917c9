"""KServe's V1 protocol: `:predict` takes `{"instances": […]}` and gives `{"predictions": […]}`.

`parameters` beside `instances` go to the model's route (`max_tokens`, `temperature`, …).
`GET /v1/models/{model}` is both V1's readiness (`name`, `ready`) and OpenAI's model object.
"""

import json

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from relume.base.error_body import RETRY_AFTER_S, error_body
from relume.runtimes.tasks import TaskFailed, run_task


def routes() -> list[Route]:
    """The routes of this protocol."""
    return [
        Route("/v1/models/{model:path}:predict", predict, methods=["POST"]),
        Route("/v1/models/{model:path}", ready, methods=["GET"]),
    ]


async def predict(request: Request) -> Response:
    """200 with `predictions`; 400 wrong body, 404 unknown model, else what the route answered."""
    try:
        body = json.loads(await request.body())
        instances = body["instances"]
        if not isinstance(instances, list) or not instances:
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        return failed(request, 400, 'the body must be {"instances": [one or more inputs]}')
    try:
        model = request.path_params["model"]
        outputs = await run_task(request, model, instances, body.get("parameters"))
    except TaskFailed as error:
        return failed(request, error.status, str(error))
    return JSONResponse({"predictions": outputs})


async def ready(request: Request) -> Response:
    """200 for the model that is served, else 404."""
    name = request.path_params["model"]
    if name != request.app.state.relume_model:
        return failed(request, 404, f"model {name!r} is not served here")
    return JSONResponse({"id": name, "object": "model", "name": name, "ready": True})


def failed(request: Request, status: int, message: str) -> Response:
    """An error in the shape of the request's route."""
    retryable = status == 429 or (status >= 500 and status != 501)
    known = {404: "unknown-model", 429: "overloaded", 501: "unsupported", 503: "overloaded"}
    reason = known.get(status, "engine-failed" if retryable else "invalid-data")
    body = error_body(
        request.url.path, status=status, message=message, reason=reason, retryable=retryable
    )
    headers = {"retry-after": RETRY_AFTER_S} if status in (429, 503) else None
    return JSONResponse(body, status, headers)
