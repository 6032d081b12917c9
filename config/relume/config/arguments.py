"""The arguments and environment of a predictor: what its container would be started with."""

import re
from collections.abc import Mapping

from relume.config.fields import Fields, Resource
from relume.config.nodes import Node

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
ENVIRONMENT = Fields(
    honoured=frozenset({"name", "value"}),
    refused={"valueFrom": "there are no Secrets and ConfigMaps here: write value"},
)

_TEMPLATE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)")
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


def read_environment(node: Node | None, resource: Resource) -> dict[str, str]:
    """`env`: names and plain values, in which $(NAME) means a variable that stands before."""
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
    """`args` for vLLM, which checks them itself, less those that the plane sets.

    `{{.Name}}` and `{{.Namespace}}` are filled in as KServe does, $(NAME) as Kubernetes does.
    """
    arguments: list[str] = []
    for item in node.items() if node is not None else ():
        text = _fill_template(item, resource)
        flag = text.split("=", 1)[0]
        spelled = flag.replace("_", "-")
        if spelled in SET_BY_PLANE:
            raise item.wrong(f"{flag} is set by Relume: {SET_BY_PLANE[spelled]}")
        arguments.append(expand(text, environment))
    return tuple(arguments)


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Kubernetes' $(NAME): a known variable's value, itself where unknown; $$ is one $."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return environment.get(match[1], match[0])

    return _REFERENCE.sub(value, text)


def _fill_template(node: Node, resource: Resource) -> str:
    """KServe reads a container as a Go template over the InferenceService's metadata."""
    known = {".Name": resource.name, ".Namespace": resource.namespace}

    def fill(match: re.Match[str]) -> str:
        if (value := known.get(match[1].strip())) is not None:
            return value
        raise node.wrong(
            f"KServe reads {match[0]} as a Go template: only {{{{.Name}}}} and {{{{.Namespace}}}} "
            "are filled in here"
        )

    text = _TEMPLATE.sub(fill, node.text())
    if "{{" in text:
        raise node.wrong("KServe reads {{ as the beginning of a Go template, and this one ends not")
    return text
