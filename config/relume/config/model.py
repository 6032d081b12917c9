"""Read `spec.predictor.model`: the model, its runtime, its arguments and its environment."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from relume.base.home import NoHome, expanded
from relume.config.fields import Fields, Resource, did_you_mean
from relume.config.nodes import Node, Table
from relume.config.resources import Origin
from relume.config.service_fields import MODEL, MODEL_FORMAT, NO_DEVICE, RESOURCES, SHARED_MACHINE

MODEL_FORMATS = ("vLLM", "huggingface")
RUNTIMES = ("relume-vllm", "relume-vllm-amd", "relume-vllm-intel", "relume-vllm-cpu")
# What KServe's storage package downloads; the others need a cluster.
STORAGE_SCHEMES = (
    *("hf", "s3", "gs", "hdfs", "webhdfs", "http", "https", "modelscope", "oci", "file"),
)
CLUSTER_SCHEMES = ("pvc", "oci+native", "oci+modelcar", "oci+fetch")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a predictor serves; `uri_origin` is where its URI was, or would be, written.

    `format` and `storage_uri` are empty where the predictor is no model, or names none.
    """

    format: str
    storage_uri: str
    uri_origin: Origin
    runtime: str | None
    args: tuple[str, ...]
    env: Mapping[str, str]


def read_model(predictor: Table, resource: Resource) -> ModelSpec:
    """The model of a predictor; raises InvalidManifest for the first wrong field."""
    if predictor.get("model") is None and resource.cannot:  # a container, or another server
        return ModelSpec("", "", predictor.place_of("model"), None, (), {})
    table = predictor.need("model", "a predictor needs a model").table()
    MODEL.check(table, resource)
    format_node = table.need("modelFormat", "write modelFormat.name: vLLM").table()
    MODEL_FORMAT.check(format_node, resource)
    name = format_node.need("name", "write vLLM")
    if name.text() not in MODEL_FORMATS:
        known = " and ".join(MODEL_FORMATS)
        hint = did_you_mean(name.text(), MODEL_FORMATS)
        why = f"no runtime here serves {name.text()}: known are {known}{hint}"
        resource.cannot_run(name.origin, why)
    if (protocol := table.get("protocolVersion")) is not None:
        _check_protocol(protocol, resource)
    if (resources := table.get("resources")) is not None:
        _leave_out_resources(resources.table(), resource)
    environment = read_environment(table.get("env"), resource)
    return ModelSpec(
        format=name.text(),
        storage_uri=_storage_uri(table, resource),
        uri_origin=table.place_of("storageUri"),
        runtime=_runtime(table, resource),
        args=read_arguments(table.get("args"), environment, resource),
        env=environment,
    )


def _storage_uri(table: Table, resource: Resource) -> str:
    """The URI as it is written, "" where there is none; a relative path starts at the file."""
    node = table.get("storageUri")
    if node is None:
        why = "is missing: name the model, as in hf://HuggingFaceTB/SmolLM2-135M-Instruct"
        resource.cannot_run(table.place_of("storageUri"), why)
        return ""
    uri = node.filled()
    if "://" not in uri:
        try:
            return str(Path(node.file).absolute().parent / expanded(uri))
        except NoHome as error:
            raise node.wrong(str(error)) from None
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise node.wrong(f"invalid value: {uri}: {error}") from error
    if parts.scheme in CLUSTER_SCHEMES:
        why = f"not honoured on this machine: {parts.scheme}:// needs a cluster"
        resource.cannot_run(node.origin, why)
    elif parts.scheme not in STORAGE_SCHEMES:
        known = ", ".join(STORAGE_SCHEMES)
        resource.cannot_run(node.origin, f"invalid value: {uri}: known schemes are {known}")
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


# Flags that would undo what the plane sets, or what it must know. vLLM reads _ in them as -.
SET_BY_PLANE = {
    "--host": "the plane picks the address",
    "--port": "the plane picks the port",
    "--uds": "the plane picks the address",
    "--root-path": "routes begin at /",
    "--model": "write spec.predictor.model.storageUri",
    "--model-tag": "write spec.predictor.model.storageUri",
    "--model-id": "write spec.predictor.model.storageUri",
    "--model-dir": "write spec.predictor.model.storageUri",
    "--served-model-name": "the model has the InferenceService's name",
    "--model-name": "the model has the InferenceService's name",
    "--api-key": "the plane calls the predictor without one",
    "--ssl-keyfile": "the plane calls the predictor on loopback without TLS",
    "--ssl-certfile": "the plane calls the predictor on loopback without TLS",
    "--ssl-ca-certs": "the plane calls the predictor on loopback without TLS",
    "--ssl-cert-reqs": "the plane calls the predictor on loopback without TLS",
    "--config": "write the flags of that file in args",
    "--headless": "a predictor answers requests",
    "--api-server-count": "a predictor is one server",
}
RESERVED_ENVIRONMENT = ("PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION")
ENVIRONMENT = Fields.of(
    "name value", refused={"there are no Secrets and ConfigMaps here: write value": "valueFrom"}
)

_TEMPLATE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)")
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


def read_environment(node: Node | None, resource: Resource) -> dict[str, str]:
    """Read `env`: names and plain values, in which $(NAME) is a variable from an earlier line."""
    environment: dict[str, str] = {}
    for item in node.items() if node is not None else ():
        table = item.table()
        ENVIRONMENT.check(table, resource)
        name_node = table.need("name", "a variable needs a name")
        name = name_node.text()
        if not _VARIABLE.fullmatch(name):
            raise name_node.wrong(f"invalid value: {name}: no name of an environment variable")
        if name in RESERVED_ENVIRONMENT:
            raise name_node.wrong(f'"{name}" is a reserved environment variable')
        value = table.get("value")
        environment[name] = expand(value.text(), environment) if value is not None else ""
    return environment


def read_arguments(
    node: Node | None, environment: Mapping[str, str], resource: Resource
) -> tuple[str, ...]:
    """Read the arguments for vLLM, which checks them itself; those that the plane sets are refused.

    `{{.Name}}` and `{{.Namespace}}` are filled in as KServe does, $(NAME) as Kubernetes does.
    """
    arguments: list[str] = []
    for item in node.items() if node is not None else ():
        text = _fill_template(item, resource)
        flag = text.split("=", 1)[0]
        spelled = flag.replace("_", "-")
        if spelled in SET_BY_PLANE:
            resource.cannot_run(item.origin, f"{flag} is set by Relume: {SET_BY_PLANE[spelled]}")
        arguments.append(expand(text, environment))
    return tuple(arguments)


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Replace $(NAME) by the variable's value, as Kubernetes does; $$ is one $."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return environment.get(match[1], match[0])

    return _REFERENCE.sub(value, text)


def _fill_template(node: Node, resource: Resource) -> str:
    """Fill in {{.Name}} and {{.Namespace}}: KServe reads a container as a Go template."""
    known = {".Name": resource.name, ".Namespace": resource.namespace}

    def fill(match: re.Match[str]) -> str:
        if (value := known.get(match[1].strip())) is not None:
            return value
        resource.cannot_run(
            node.origin,
            f"KServe reads {match[0]} as a Go template: only {{{{.Name}}}} and {{{{.Namespace}}}} "
            "are filled in here",
        )
        return ""

    text = _TEMPLATE.sub(fill, node.text())
    if "{{" in text:
        raise node.wrong(
            "KServe reads {{ as the beginning of a Go template, which does not end here"
        )
    return text
