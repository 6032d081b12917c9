"""Which InferenceServices pass as they are, because Relume's runtime would not serve them.

A cluster runs them all the same: with a runtime of KServe's, or with the user's own container.
What KServe's runtimes are asked for is in kserve python/huggingfaceserver/huggingfaceserver and
python/kserve/kserve/model_server.py.
"""

from collections.abc import Mapping

from relume.base.errors import InvalidManifest
from relume.base.vocabulary import DEPLOYMENT_MODE
from relume.cluster.admission.judge import child, content, entries, fields
from relume.cluster.admission.kserve import OLD_FORMATS
from relume.cluster.render.arguments import HUB, NAME, read_arguments
from relume.cluster.render.originals import ANNOTATIONS, MODEL, PREDICTOR, Original
from relume.cluster.render.runtimes import PORT, PROTOCOLS, runtime_named
from relume.config.model import MODEL_FORMATS
from relume.config.nodes import Node

_PORT = f"it listens on {PORT}, where its probes and its proxy ask"
_STORAGE = "it serves the model of storageUri"
_PLAIN = "its probes and its proxy ask it over plain HTTP"
#: Flags that would undo what the runtime sets, and why. vLLM reads _ in them as -.
SET_BY_RUNTIME: Mapping[str, str] = {
    **dict.fromkeys(("--port", "--uds"), _PORT),
    **dict.fromkeys(("--model", "--model-tag", "--model-dir"), _STORAGE),
    **dict.fromkeys(
        ("--ssl-keyfile", "--ssl-certfile", "--ssl-ca-certs", "--ssl-cert-reqs"), _PLAIN
    ),
    "--root-path": "its routes begin at /",
    "--api-key": "its proxy has none",
    "--config": "write the flags of that file in args",
    "--headless": "it answers requests",
    "--api-server-count": "it is one server",
}
# Flags of KServe's own server for Hugging Face models, which vLLM does not have.
_KSERVES_FLAGS = frozenset(
    (
        "--access-log-format",
        "--backend",
        "--disable-log-requests",
        "--disable-lower-case",
        "--disable-special-tokens",
        "--enable-docs-url",
        "--enable-grpc",
        "--enable-latency-logging",
        "--grpc-port",
        "--http-port",
        "--log-config-file",
        "--max-asyncio-workers",
        "--max-threads",
        "--model-id",
        "--model-name",
        "--model-revision",
        "--predict-batch-size",
        "--return-probabilities",
        "--return-raw-logits",
        "--return-token-type-ids",
        "--task",
        "--tensor-input-names",
        "--workers",
    )
)
_IMAGE = "it names an image or a command of its own"


def why_it_passes(original: Original) -> tuple[Node, str] | None:
    """The field by which a service passes as it is, and why; None for one that Relume serves."""
    predictor = original.node(*PREDICTOR)
    mode = original.node(*ANNOTATIONS, DEPLOYMENT_MODE)
    if mode is not None and content(mode) == "ModelMesh":
        return mode, "ModelMesh runs it"
    canary = original.node("spec", "canary")
    if canary is not None:
        return canary, "KServe runs canaries in Standard mode, beside predictors that stay as named"
    inside = fields(predictor)
    if "workerSpec" in inside:
        return inside["workerSpec"], "Relume's runtime is one pod, and this predictor is several"
    model = inside.get("model")
    if model is None:
        served = [inside[name] for name in (*OLD_FORMATS, "containers") if name in inside]
        node = served[0] if served else original.at(*PREDICTOR)
        return node, "Relume's runtime serves spec.predictor.model, and this is none"
    return _why_the_model_passes(model, original)


def _why_the_model_passes(model: Node, original: Original) -> tuple[Node, str] | None:
    inside = fields(model)
    for name in ("image", "command", "workingDir"):
        if name in inside:
            return inside[name], _IMAGE
    kind = child(model, "modelFormat", "name") or model
    if content(kind) not in MODEL_FORMATS:
        return kind, f"Relume's runtimes serve {' and '.join(MODEL_FORMATS)}"
    named = inside.get("runtime")
    if named is not None and runtime_named(content(named)) is None:
        return None  # the user's own runtime, whose times follow from the budget all the same
    unfit = _unfit(model, original)
    if unfit is not None and named is not None:
        raise refusal(unfit, content(named))
    return unfit


def refusal(unfit: tuple[Node, str], runtime: str) -> InvalidManifest:
    """The error that a service names a runtime of ours which cannot serve it."""
    node, why = unfit
    return node.wrong(f"cannot work with the runtime {runtime}: {why}")


def _unfit(model: Node, original: Original) -> tuple[Node, str] | None:
    """What in a model Relume's runtime cannot do, and why."""
    protocol = child(model, "protocolVersion")
    if protocol is not None and content(protocol) not in PROTOCOLS:
        return protocol, f"Relume's runtimes answer {' and '.join(PROTOCOLS)}"
    texts = [content(argument) for argument in entries(model, "args")]
    for argument in entries(model, "args"):
        flag = content(argument).partition("=")[0]
        spelled = flag.replace("_", "-")
        if spelled in _KSERVES_FLAGS and spelled not in (NAME, HUB):
            return argument, f"{flag} is a flag of KServe's own server"
        if spelled in SET_BY_RUNTIME:
            return argument, f"{flag} is set by Relume's runtime: {SET_BY_RUNTIME[spelled]}"
    stored = [child(model, name) for name in ("storageUri", "storage")]
    stored.append(original.node(*PREDICTOR, "storageUris"))
    written = next((node for node in stored if node is not None), None)
    hub = read_arguments(texts).hub_model
    if written is None and hub is None:
        return original.at(*MODEL), "it names no storageUri, so that no model is in /mnt/models"
    if written is not None and hub is not None:
        return written, f"KServe's own server takes {hub} of --model_id in its place"
    return None
