"""Refuse a predictor that is a container of the user's own, with what to write instead of it."""

from relume.config.fields import Resource
from relume.config.nodes import Items, Node, Scalar, Table

_MODEL_FLAGS = ("--model", "--model-id", "--model-name-or-path", "--model-tag")
_SERVERS = ("vllm", "huggingfaceserver")


def refuse_containers(predictor: Table, resource: Resource) -> None:
    """Note that `containers` are not run, and the model that says the same where one can tell.

    Containers beside a model only add to its pod: they are sidecars, or patch the runtime's.
    """
    node = predictor.get("containers")
    if node is None:
        return
    if predictor.get("model") is not None or predictor.get("huggingface") is not None:
        resource.cannot_run(
            node.origin,
            "not honoured on this machine: Relume runs its own vLLM runtime and no container "
            "beside it: remove containers",
        )
        return
    resource.cannot_run(
        node.origin,
        "not honoured on this machine: Relume runs its own vLLM runtime, and no container: write "
        f"spec.predictor.model with modelFormat: {{name: vLLM}}{_rest(node)}",
    )


def _rest(node: Node) -> str:
    """The storageUri and arguments that stand for the container."""
    container = node.nodes[0] if isinstance(node, Items) and node.nodes else None
    if not isinstance(container, Table):
        return " and storageUri"
    words = [*_words(container, "command"), *_words(container, "args")]
    image = container.get("image")
    said = f"{image.content if isinstance(image, Scalar) else ''} {' '.join(words)}"
    if not any(server in said for server in _SERVERS):
        return " and storageUri, if vLLM can serve the model"
    model = _model(words)
    uri = "storageUri" if model is None else f"storageUri: {model}"
    flags = " and the container's other flags in args" if len(words) > 1 else ""
    return f", {uri}{flags}"


def _words(container: Table, name: str) -> list[str]:
    node = container.get(name)
    if not isinstance(node, Items):
        return []
    text = [item.content for item in node.nodes if isinstance(item, Scalar)]
    return [word for part in text for word in part.split()]


def _model(words: list[str]) -> str | None:
    """What `vllm serve MODEL` or a flag names, as a storageUri; None where nothing does."""
    for i, word in enumerate(words):
        flag, equals, value = word.partition("=")
        following = words[i + 1] if i + 1 < len(words) else ""
        if flag.replace("_", "-") in _MODEL_FLAGS:
            named = value if equals else following
        elif word == "serve":
            named = following
        else:
            continue
        named = named.strip("\"'")
        if named and not named.startswith(("/", "-")):
            return f"hf://{named}"
    return None
