"""Read `spec.predictor.model`: the model, its runtime, its arguments and its environment."""

from collections.abc import Mapping
from dataclasses import dataclass

from relume.config import vllm_flags
from relume.config.arguments import read_arguments
from relume.config.containers import refuse_containers
from relume.config.environment import read_environment
from relume.config.fields import Resource, did_you_mean
from relume.config.nodes import Node, Table
from relume.config.resources import Mount
from relume.config.service_fields import (
    HUGGINGFACE,
    MODEL,
    MODEL_FORMAT,
    NO_DEVICE,
    RESOURCES,
    SHARED_MACHINE,
)
from relume.config.storage import Storage, read_storage
from relume.config.translation import Translation, translate
from relume.config.volumes import read_mounts

MODEL_FORMATS = ("vLLM", "huggingface")
RUNTIMES = ("relume-vllm", "relume-vllm-amd", "relume-vllm-intel", "relume-vllm-cpu")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a predictor serves; `mounts` are further folders beside those of `storage`.

    `format` and the URI of `storage` are empty where the predictor is no model.
    """

    format: str
    storage: Storage
    runtime: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] | None = None
    mounts: tuple[Mount, ...] = ()


def read_model(predictor: Table, resource: Resource) -> ModelSpec:
    """The model of a predictor; raises InvalidManifest for the first wrong field."""
    refuse_containers(predictor, resource)
    hugging = predictor.get("huggingface")
    if hugging is not None and predictor.get("model") is None:
        # KServe makes a model of it, with this format.
        HUGGINGFACE.check(hugging.table(), resource)
        return _read(hugging.table(), predictor, "huggingface", resource)
    if hugging is not None:
        raise hugging.wrong("write spec.predictor.model or huggingface, not both")
    if predictor.get("model") is None and resource.cannot:  # a container, or another server
        return ModelSpec("", Storage("", predictor.place_of("model")))
    table = predictor.need("model", "a predictor needs a model").table()
    MODEL.check(table, resource)
    return _read(table, predictor, _format(table, resource), resource)


def _read(table: Table, predictor: Table, format_name: str, resource: Resource) -> ModelSpec:
    if (protocol := table.get("protocolVersion")) is not None:
        _check_protocol(protocol, resource)
    if (resources := table.get("resources")) is not None:
        _leave_out_resources(resources.table(), resource)
    environment = read_environment(table.get("env"), resource, table.get("envFrom"))
    words = read_arguments(table.get("args"), environment, resource)
    said = translate(words, check=vllm_flags.judged())
    _tell_objections(said, resource)
    storage = read_storage(table, predictor, said, resource)
    return ModelSpec(
        format=format_name,
        storage=storage,
        runtime=_runtime(table, resource),
        args=tuple(said.arguments(resource.name)),
        env=environment,
        mounts=(*storage.mounts, *read_mounts(predictor, table, resource)),
    )


def _format(table: Table, resource: Resource) -> str:
    node = table.need("modelFormat", "write modelFormat.name: vLLM").table()
    MODEL_FORMAT.check(node, resource)
    name = node.need("name", "write vLLM")
    if name.text() not in MODEL_FORMATS:
        known = " and ".join(MODEL_FORMATS)
        hint = did_you_mean(name.text(), MODEL_FORMATS)
        why = f"no runtime here serves {name.text()}: known are {known}{hint}"
        if not hint:
            why += "; on a cluster a runtime for it can, and relume render passes the service"
        resource.cannot_run(name.origin, why)
    return name.text()


def _tell_objections(said: Translation, resource: Resource) -> None:
    for one in said.objections:
        tell = resource.note if one.is_harmless else resource.cannot_run
        tell(one.word.origin, str(one))


def _runtime(table: Table, resource: Resource) -> str | None:
    node = table.get("runtime")
    if node is None:
        return None
    if (name := node.filled()) not in RUNTIMES:
        resource.leave_out(node, f"{name} is not here; Relume's own vLLM runtime serves the model")
    return name


def _check_protocol(node: Node, resource: Resource) -> None:
    protocol = node.one_of("v1", "v2", "grpc-v1", "grpc-v2")
    if protocol.startswith("grpc"):
        why = f"not honoured on this machine: {protocol}: only HTTP is served"
        resource.cannot_run(node.origin, why)


def _leave_out_resources(table: Table, resource: Resource) -> None:
    """Note what `resources` asks for: CPU and memory together, and each device by its name."""
    RESOURCES.check(table, resource)
    for _, amounts in table:
        if not isinstance(amounts, Table):
            if amounts.path.endswith(".claims"):
                continue
            amounts.table()
            continue
        shared = [name for name, _ in amounts if "/" not in name]
        if shared:
            resource.leave_out(amounts, f"{SHARED_MACHINE} ({', '.join(shared)})")
        for name, amount in amounts:
            if "/" in name:
                resource.leave_out(amount, NO_DEVICE)
