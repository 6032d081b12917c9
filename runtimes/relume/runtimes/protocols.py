"""KServe's protocols on vLLM's server: V1 (`:predict`) and V2, the Open Inference Protocol.

V1's `POST /v1/models/{model}:predict` takes `{"instances": […]}` and gives `{"predictions": […]}`;
`parameters` beside `instances` go to the model's route (`max_tokens`, `temperature`, …).
`GET /v1/models/{model}` is both V1's readiness (`name`, `ready`) and OpenAI's model object.

V2's `POST /v2/models/{model}/infer` is its REST form; `kserve` supplies the codec, binary tensors
included. The first BYTES tensor holds the texts, whatever its name; request `parameters` go to the
model's route. The output tensor is `text_output` (BYTES) for a model that generates, `embedding`
(FP32, [n, d]) for one that embeds, `label` and `score` for one that classifies or scores. `kserve`
is imported at the first V2 request, because the import takes over a second.

A path may name a version (`/v2/models/{model}/versions/{version}/infer`): a predictor has one, "1".
Triton's model repository extension tells what is loaded; a model is loaded as long as its
predictor runs, so `load` has nothing to do and `unload` is refused.
"""

import json
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from relume.base.error_body import RETRY_AFTER_S, error_body
from relume.base.version import version
from relume.runtimes.tasks import TaskFailed, require_model, run_task

if TYPE_CHECKING:
    from kserve.protocol.infer_type import InferOutput, InferRequest

_Endpoint = Callable[[Request], Awaitable[Response]]

VERSION = "1"
"""The version of every model: a predictor serves one, and what its name says is all of it."""
_JSON_LENGTH = "inference-header-content-length"
_REASONS = {404: "unknown-model", 429: "overloaded", 501: "unsupported", 503: "overloaded"}


class _ModelConvertor(StringConvertor):
    """A model's name. It may have slashes; one behind it is redirected to the name itself."""

    regex = ".*[^/]"


def routes() -> list[Route]:
    """The routes of both protocols."""
    register_url_convertor("model", _ModelConvertor())
    return [
        Route("/v1/models/{model:model}:predict", predict, methods=["POST"]),
        Route("/v1/models/{model:model}", v1_ready, methods=["GET"]),
        Route("/v2", server_metadata),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
        Route("/v2/models", models),
        Route("/v2/repository/index", repository_index, methods=["POST"]),
        Route("/v2/repository/models/{model:model}/load", load, methods=["POST"]),
        Route("/v2/repository/models/{model:model}/unload", unload, methods=["POST"]),
        *_of_a_model(
            "/v2/models/{model:model}/versions/{version}"
        ),  # first: a model takes any path
        *_of_a_model("/v2/models/{model:model}"),
    ]


def _of_a_model(path: str) -> list[Route]:
    return [
        Route(f"{path}/infer", infer, methods=["POST"]),
        Route(f"{path}/ready", model_ready),
        Route(path, model_metadata),
    ]


def _failures_told(endpoint: _Endpoint) -> _Endpoint:
    """Answer a TaskFailed of `endpoint` in the error shape of its route."""

    @wraps(endpoint)
    async def telling(request: Request) -> Response:
        try:
            return await endpoint(request)
        except TaskFailed as error:
            return _failed(request, error.status, str(error))

    return telling


def _failed(request: Request, status: int, message: str) -> Response:
    retryable = status == 429 or (status >= 500 and status != 501)
    reason = _REASONS.get(status, "engine-failed" if retryable else "invalid-data")
    body = error_body(
        request.url.path, status=status, message=message, reason=reason, retryable=retryable
    )
    headers = {"retry-after": RETRY_AFTER_S} if status in (429, 503) else None
    return JSONResponse(body, status, headers)


def _served(request: Request) -> str:
    """The model in the path. Raises TaskFailed 404 for one that is not served here."""
    name: str = request.path_params["model"]
    require_model(request, name)
    _version(request)
    return name


def _version(request: Request) -> str | None:
    """The version in the path, if there is one. Raises TaskFailed 404 for one that is not there."""
    wanted: str | None = request.path_params.get("version")
    if wanted is not None:
        name = request.path_params["model"]
        require_model(request, name)
        if wanted != VERSION:
            raise TaskFailed(404, f"model {name!r} has no version {wanted!r}: it has {VERSION!r}")
    return wanted


@_failures_told
async def predict(request: Request) -> Response:
    """200 with `predictions`; 400 wrong body, 404 unknown model, else what the route answered."""
    try:
        body = json.loads(await request.body())
        instances = body["instances"]
        if not isinstance(instances, list) or not instances:
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TaskFailed(400, 'the body must be {"instances": [one or more inputs]}') from error
    model = request.path_params["model"]
    outputs = await run_task(request, model, instances, body.get("parameters"))
    return JSONResponse({"predictions": outputs})


@_failures_told
async def v1_ready(request: Request) -> Response:
    """200 for the model that is served, else 404."""
    name = _served(request)
    return JSONResponse({"id": name, "object": "model", "name": name, "ready": True})


@_failures_told
async def infer(request: Request) -> Response:
    """200 with `outputs`; 400 wrong body, 404 unknown model, else what the route answered."""
    model, version = request.path_params["model"], _version(request)
    body = await request.body()
    await run_in_threadpool(_import_codec)
    asked = _decode(body, request.headers.get(_JSON_LENGTH), model)
    outputs = await run_task(request, model, _texts(asked), asked.parameters)
    return _encode(asked, model, version, _tensors(outputs))


def _import_codec() -> None:
    import kserve.protocol.infer_type  # noqa: F401


def _decode(body: bytes, json_length: str | None, model: str) -> "InferRequest":
    """The request, or TaskFailed 400 that names what is wrong."""
    from kserve.protocol.infer_type import InferRequest

    try:
        length = len(body) if json_length is None else int(json_length)
        return InferRequest.from_bytes(*_in_utf8(body, length), model)
    except KeyError as error:
        raise TaskFailed(400, f"the request has no field {error}") from error
    except Exception as error:  # the codec does not check the body first and may raise anything
        raise TaskFailed(400, f"not a V2 inference request: {error}") from error


def _in_utf8(body: bytes, length: int) -> tuple[bytes, int]:
    """The body with its first `length` bytes, which are JSON, in UTF-8; and their new number.

    The codec reads UTF-8 without a byte order mark; every other route takes what Python's `json`
    takes. Raises ValueError.
    """
    head = body[:length]
    encoding = json.detect_encoding(head)
    if encoding == "utf-8":
        return body, length
    text = head.decode(encoding).encode()
    return text + body[length:], len(text)


def _texts(asked: "InferRequest") -> list[str]:
    tensor = next((t for t in asked.inputs if t.datatype == "BYTES"), None)
    if tensor is None:
        raise TaskFailed(400, "the request has no input tensor of datatype BYTES")
    try:
        values = tensor.as_numpy().flatten().tolist()
    except Exception as error:
        raise TaskFailed(400, f"inputs[{tensor.name}]: {error}") from error
    if not values:
        raise TaskFailed(400, f"inputs[{tensor.name}] is empty")
    return [_text(tensor.name, value) for value in values]


def _text(tensor: str, value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        if isinstance(value, bytes):
            return value.decode()
    except UnicodeDecodeError as error:
        raise TaskFailed(400, f"inputs[{tensor}] is not UTF-8: {error.reason}") from error
    raise TaskFailed(400, f"inputs[{tensor}] must hold texts, not {type(value).__name__}")


def _tensors(outputs: list[Any]) -> "list[InferOutput]":
    """The outputs of a task as tensors, one row per input."""
    from kserve.protocol.infer_type import InferOutput

    rows = len(outputs)
    first = outputs[0]
    if isinstance(first, str):
        return [InferOutput("text_output", [rows], "BYTES", outputs)]
    if isinstance(first, list):
        flat = [value for row in outputs for value in row]
        return [InferOutput("embedding", [rows, len(first)], "FP32", flat)]
    if isinstance(first, dict):
        labels = [str(item["label"]) for item in outputs]
        scores = [item["score"] for item in outputs]
        label = InferOutput("label", [rows], "BYTES", labels)
        return [label, InferOutput("score", [rows], "FP32", scores)]
    return [InferOutput("score", [rows], "FP32", outputs)]


def _encode(
    asked: "InferRequest", model: str, version: str | None, tensors: "list[InferOutput]"
) -> Response:
    from kserve.protocol.infer_type import InferResponse

    answer = InferResponse(
        asked.id, model, tensors, version, requested_outputs=asked.request_outputs
    )
    try:
        body, json_length = answer.to_rest()
    except Exception as error:  # an output that was asked for and is not there
        raise TaskFailed(400, f"outputs: {error}") from error
    if isinstance(body, dict):
        return JSONResponse(body)
    headers = {_JSON_LENGTH: str(json_length)}
    return Response(body, media_type="application/octet-stream", headers=headers)


async def server_metadata(_request: Request) -> Response:
    """Name, version and extensions of the server."""
    return JSONResponse(
        {
            "name": "relume",
            "version": version(),
            "extensions": ["binary_tensor_data", "model_repository"],
        }
    )


async def models(request: Request) -> Response:
    """The names of all models: those of the one that is served."""
    state = request.app.state
    return JSONResponse({"models": [state.relume_model, *state.relume_further_names]})


async def repository_index(request: Request) -> Response:
    """What is loaded. A body may ask for ready models alone, and this one is ready."""
    entry = {"name": request.app.state.relume_model, "version": VERSION, "state": "READY"}
    return JSONResponse([{**entry, "reason": ""}])


@_failures_told
async def load(request: Request) -> Response:
    """200 for the model that is served, which is loaded, else 404."""
    return JSONResponse({"name": _served(request), "load": True})


@_failures_told
async def unload(request: Request) -> Response:
    """501 for the model that is served, else 404."""
    name = _served(request)
    raise TaskFailed(
        501, f"model {name!r} stays loaded while its predictor runs; idle, it is ended"
    )


async def live(_request: Request) -> Response:
    """The process answers."""
    return JSONResponse({"live": True})


async def ready(_request: Request) -> Response:
    """The engine answers. Before it does, the gatekeeper answers 503 here."""
    return JSONResponse({"ready": True})


@_failures_told
async def model_ready(request: Request) -> Response:
    """200 for the model that is served, else 404."""
    return JSONResponse({"name": _served(request), "ready": True})


@_failures_told
async def model_metadata(request: Request) -> Response:
    """The tensors that `infer` takes and gives."""
    name = _served(request)
    output = {"name": "embedding", "datatype": "FP32", "shape": [-1, -1]}
    if "generate" in request.app.state.relume_tasks:
        output = {"name": "text_output", "datatype": "BYTES", "shape": [-1]}
    text_in = {"name": "text_input", "datatype": "BYTES", "shape": [-1]}
    return JSONResponse(
        {
            "name": name,
            "versions": [VERSION],
            "platform": "vllm",
            "inputs": [text_in],
            "outputs": [output],
        }
    )
