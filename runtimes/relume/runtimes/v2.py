"""The Open Inference Protocol (V2) over REST; `kserve` supplies the codec, binary tensors included.

`POST /v2/models/{model}/infer`: the first BYTES tensor holds the texts, whatever its name; request
`parameters` go to the model's route. The output tensor is `text_output` (BYTES) for a model that
generates, `embedding` (FP32, [n, d]) for one that embeds, `label` and `score` for one that
classifies or scores. `kserve` is imported at the first V2 request: it costs over a second.
"""

from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from relume.base.version import version
from relume.runtimes.tasks import TaskFailed, run_task
from relume.runtimes.v1 import failed

if TYPE_CHECKING:
    from kserve.protocol.infer_type import InferOutput, InferRequest

_JSON_LENGTH = "inference-header-content-length"


def routes() -> list[Route]:
    """The routes of this protocol."""
    return [
        Route("/v2", server_metadata),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
        Route("/v2/models/{model:path}/infer", infer, methods=["POST"]),
        Route("/v2/models/{model:path}/ready", model_ready),
        Route("/v2/models/{model:path}", model_metadata),
    ]


async def infer(request: Request) -> Response:
    """200 with `outputs`; 400 wrong body, 404 unknown model, else what the route answered."""
    model = request.path_params["model"]
    body = await request.body()
    try:
        await run_in_threadpool(_import_codec)
        asked = _decode(body, request.headers.get(_JSON_LENGTH), model)
        texts = _texts(asked)
        outputs = await run_task(request, model, texts, asked.parameters)
        return _encode(asked, model, _tensors(outputs))
    except TaskFailed as error:
        return failed(request, error.status, str(error))


def _import_codec() -> None:
    import kserve.protocol.infer_type  # noqa: F401


def _decode(body: bytes, json_length: str | None, model: str) -> "InferRequest":
    """The request, or TaskFailed 400 that names what is wrong."""
    from kserve.protocol.infer_type import InferRequest

    try:
        length = len(body) if json_length is None else int(json_length)
        return InferRequest.from_bytes(body, length, model)
    except KeyError as error:
        raise TaskFailed(400, f"the request has no field {error}") from error
    except Exception as error:  # the codec takes the body as it comes and fails in any way
        raise TaskFailed(400, f"not a V2 inference request: {error}") from error


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


def _encode(asked: "InferRequest", model: str, tensors: "list[InferOutput]") -> Response:
    from kserve.protocol.infer_type import InferResponse

    answer = InferResponse(asked.id, model, tensors, requested_outputs=asked.request_outputs)
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
        {"name": "relume", "version": version(), "extensions": ["binary_tensor_data"]}
    )


async def live(_request: Request) -> Response:
    """The process answers."""
    return JSONResponse({"live": True})


async def ready(_request: Request) -> Response:
    """The engine answers: before that, the gatekeeper says 503 here."""
    return JSONResponse({"ready": True})


async def model_ready(request: Request) -> Response:
    """200 for the model that is served, else 404."""
    if (missing := _unknown(request)) is not None:
        return missing
    return JSONResponse({"name": request.path_params["model"], "ready": True})


async def model_metadata(request: Request) -> Response:
    """The tensors that `infer` takes and gives."""
    if (missing := _unknown(request)) is not None:
        return missing
    tasks = request.app.state.relume_tasks
    text_in = {"name": "text_input", "datatype": "BYTES", "shape": [-1]}
    output = {"name": "embedding", "datatype": "FP32", "shape": [-1, -1]}
    if "generate" in tasks:
        output = {"name": "text_output", "datatype": "BYTES", "shape": [-1]}
    return JSONResponse(
        {
            "name": request.path_params["model"],
            "platform": "vllm",
            "inputs": [text_in],
            "outputs": [output],
        }
    )


def _unknown(request: Request) -> Response | None:
    name = request.path_params["model"]
    if name == request.app.state.relume_model:
        return None
    return failed(request, 404, f"model {name!r} is not served here")
