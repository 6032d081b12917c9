"""Which InferenceServices pass as they are, because Relume's runtime would not serve them.

A cluster runs them all the same: with a runtime of KServe's, or with the user's own container.
An argument that only KServe's own server honours leaves the service to it.
"""

from pathlib import PurePosixPath

from relume.base.errors import InvalidManifest
from relume.base.vocabulary import DEPLOYMENT_MODE
from relume.cluster.admission.judge import child, content, entries, fields
from relume.cluster.admission.kserve import OLD_FORMATS
from relume.cluster.render.arguments import read_arguments
from relume.cluster.render.originals import ANNOTATIONS, MODEL, PREDICTOR, Original
from relume.cluster.render.runtimes import HOST, PORT, PROTOCOLS, runtime_named
from relume.config.arguments import Argument
from relume.config.model import MODEL_FORMATS
from relume.config.nodes import Node
from relume.config.resources import MODELS_FOLDER
from relume.config.translation import Objection

#: What the runtime sets itself: an argument that says the same undoes nothing.
_SAME_AS_RUNTIME = (f"--host={HOST}", f"--port={PORT}", f"--model={MODELS_FOLDER}")
_MODELS = PurePosixPath(MODELS_FOLDER)
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
    unfit = _unfit(model, original, named=named is not None)
    if unfit is not None and named is not None:
        raise refusal(unfit, content(named))
    return unfit


def refusal(unfit: tuple[Node, str], runtime: str) -> InvalidManifest:
    """The error that a service names a runtime of ours which cannot serve it."""
    node, why = unfit
    return node.wrong(f"cannot work with the runtime {runtime}: {why}")


def _unfit(model: Node, original: Original, *, named: bool) -> tuple[Node, str] | None:
    """What in a model Relume's runtime cannot do, and why.

    Where the service does not name the runtime, that is also what only KServe's server honours.
    """
    protocol = child(model, "protocolVersion")
    if protocol is not None and content(protocol) not in PROTOCOLS:
        return protocol, f"Relume's runtimes answer {' and '.join(PROTOCOLS)}"
    read = read_arguments(original)
    for one in read.said.objections:
        if (why := _why_not(one, named=named)) is not None:
            return _written(one.word, model), why
    stored = [child(model, name) for name in ("storageUri", "storage")]
    stored.append(original.node(*PREDICTOR, "storageUris"))
    written = next((node for node in stored if node is not None), None)
    uri = read.uri(stored=written is not None)
    folder = read.said.model_dir
    if folder is not None and uri is None and PurePosixPath(folder.text) != _MODELS:
        return _written(folder, model), f"Relume's runtime serves {MODELS_FOLDER} as a whole"
    if written is None and uri is None:
        return original.at(*MODEL), "it names no storageUri, so that no model is in /mnt/models"
    if written is not None and uri not in (None, content(written)):
        hub = "" if read.said.model_id is None else read.said.model_id.shown
        return written, f"KServe's own server takes {hub} of --model_id in its place"
    return None


def _written(word: Argument, model: Node) -> Node:
    return next(node for node in entries(model, "args") if node.origin == word.origin)


def _why_not(one: Objection, *, named: bool) -> str | None:
    """Why Relume's runtime is not for a service with this argument; None where it is."""
    match one.kind:
        case "of-kserve":
            return None if named else f"{one.flag} is a flag of KServe's own server"
        case "only-kserve":
            return str(one)
        case "set-by-relume":
            said = f"{one.word.flag}={' '.join(one.values)}"
            if said in _SAME_AS_RUNTIME:
                return None
            return f"{one.flag} is set by Relume's runtime: {one.why}"
    return None
