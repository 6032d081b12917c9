"""Read `spec.predictor.model`: which model, on which runtime, with which arguments."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from relume.config.arguments import read_arguments, read_environment
from relume.config.fields import Resource, did_you_mean
from relume.config.nodes import Node, Table
from relume.config.service_fields import (
    MODEL,
    MODEL_FORMAT,
    NO_DEVICE,
    RESOURCES,
    SHARED_MACHINE,
)

MODEL_FORMATS = ("vLLM", "huggingface")
RUNTIMES = ("relume-vllm", "relume-vllm-amd", "relume-vllm-intel", "relume-vllm-cpu")
# What KServe's storage package downloads; the others need a cluster.
STORAGE_SCHEMES = (
    "hf",
    "s3",
    "gs",
    "hdfs",
    "webhdfs",
    "http",
    "https",
    "modelscope",
    "oci",
    "file",
)
CLUSTER_SCHEMES = ("pvc", "oci+native", "oci+modelcar", "oci+fetch")


@dataclass(frozen=True, slots=True)
class Model:
    """What a predictor serves; `uri_node` is where its URI was written."""

    format: str
    storage_uri: str
    uri_node: Node
    runtime: str | None
    args: tuple[str, ...]
    env: Mapping[str, str]


def read_model(predictor: Table, resource: Resource) -> Model:
    """The model of a predictor; raises InvalidManifest for the first wrong field."""
    table = predictor.need("model", "a predictor needs a model").table()
    MODEL.check(table, resource)
    format_node = table.need("modelFormat", "write modelFormat.name: vLLM").table()
    MODEL_FORMAT.check(format_node, resource)
    name = format_node.need("name", "write vLLM")
    if name.text() not in MODEL_FORMATS:
        known = " and ".join(MODEL_FORMATS)
        hint = did_you_mean(name.text(), MODEL_FORMATS)
        raise name.wrong(f"no runtime here serves {name.text()}: known are {known}{hint}")
    if (protocol := table.get("protocolVersion")) is not None:
        _check_protocol(protocol)
    if (resources := table.get("resources")) is not None:
        _leave_out_resources(resources.table(), resource)
    uri = table.need("storageUri", "name the model, as in hf://HuggingFaceTB/SmolLM2-135M-Instruct")
    environment = read_environment(table.get("env"), resource)
    return Model(
        format=name.text(),
        storage_uri=_storage_uri(uri),
        uri_node=uri,
        runtime=_runtime(table, resource),
        args=read_arguments(table.get("args"), environment, resource),
        env=environment,
    )


def _storage_uri(node: Node) -> str:
    """The URI as written; a relative path becomes one from the manifest's folder."""
    uri = node.filled()
    if "://" not in uri:
        return str(Path(node.file).absolute().parent / Path(uri).expanduser())
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise node.wrong(f"invalid value: {uri}: {error}") from error
    if parts.scheme in CLUSTER_SCHEMES:
        raise node.wrong(f"not honoured on this machine: {parts.scheme}:// needs a cluster")
    if parts.scheme not in STORAGE_SCHEMES:
        known = ", ".join(STORAGE_SCHEMES)
        raise node.wrong(f"invalid value: {uri}: known schemes are {known}")
    if not parts.netloc + parts.path.strip("/") or uri != uri.strip():
        raise node.wrong(f"invalid value: {uri}: it names no model")
    return uri


def _runtime(table: Table, resource: Resource) -> str | None:
    node = table.get("runtime")
    if node is None:
        return None
    if (name := node.filled()) not in RUNTIMES:
        resource.leave_out(node, f"{name} is not here; Relume's own vLLM runtime serves the model")
    return name


def _check_protocol(node: Node) -> None:
    protocol = node.one_of("v1", "v2", "grpc-v1", "grpc-v2")
    if protocol.startswith("grpc"):
        raise node.wrong(f"not honoured on this machine: {protocol}: only HTTP is served")


def _leave_out_resources(table: Table, resource: Resource) -> None:
    """CPU and memory as one, every device by its name."""
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
