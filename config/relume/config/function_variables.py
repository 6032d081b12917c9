"""The environment of a function: `run.envs` of a func.yaml, `env` and `envFrom` of a container."""

import re
from collections.abc import Mapping

from relume.config.environment import ENVIRONMENT, RESERVED_ENVIRONMENT, variable_name
from relume.config.fields import Resource
from relume.config.function import FromObject, ObjectKind, Variable
from relume.config.function_fields import ENV, FUNCTION_ENV_FROM, FUNCTION_VALUE_FROM
from relume.config.nodes import Node, Table
from relume.config.object_references import read_key_reference, read_object_reference

RESERVED = (*RESERVED_ENVIRONMENT, "LISTEN_ADDRESS")
_LOCAL = re.compile(r"\{\{\s*env:(\w+)\s*\}\}")
# The names and keys that knative/func's own patterns take (pkg/functions/function.go).
_OBJECT = re.compile(r"\{\{\s*(secret|configMap):([\w'.-]+?)(?::([-._a-zA-Z0-9]+))?\s*\}\}")
_KINDS: Mapping[str, ObjectKind] = {"secret": "Secret", "configMap": "ConfigMap"}
_FORMS = "{{ env:NAME }}, {{ secret:NAME:KEY }} or {{ configMap:NAME:KEY }}"


def read_envs(
    node: Node | None, resource: Resource, environment: Mapping[str, str]
) -> tuple[Variable, ...]:
    """Read `run.envs`. A name is there once; without a name an object's keys are the names."""
    found: list[Variable] = []
    for item in node.items() if node is not None else ():
        table = item.table()
        ENV.check(table, resource)
        value = table.need("value", "a variable needs a value")
        text = value.text()
        name = table.get("name")
        if name is None:
            whole = _OBJECT.fullmatch(text)
            if whole is None or whole[3] is not None:
                raise value.wrong(
                    "a variable needs a name, unless its value is {{ secret:NAME }} or "
                    "{{ configMap:NAME }}"
                )
            source = FromObject(_KINDS[whole[1]], whole[2])
            found.append(Variable("", source, value.origin))
            continue
        _check_name(name, found)
        read = _value(value, environment) if text.startswith("{{") else text
        found.append(Variable(name.text(), read, value.origin))
    return tuple(found)


def _value(node: Node, environment: Mapping[str, str]) -> str | FromObject:
    text = node.text()
    if (local := _LOCAL.fullmatch(text)) is not None:
        if local[1] not in environment:
            raise node.wrong(f"the environment variable {local[1]} is not set here: set it first")
        return environment[local[1]]
    found = _OBJECT.fullmatch(text)
    if found is None or found[3] is None:
        raise node.wrong(f"invalid value: {text}: write {_FORMS}")
    return FromObject(_KINDS[found[1]], found[2], found[3])


def read_container_environment(container: Table, resource: Resource) -> tuple[Variable, ...]:
    """Read `envFrom` and `env` of a container, in the order in which Kubernetes applies them."""
    found: list[Variable] = []
    for item in _items(container.get("envFrom")):
        table = item.table()
        FUNCTION_ENV_FROM.check(table, resource)
        source = read_object_reference(table, resource).source
        found.append(Variable("", source, item.origin))
    named: list[Variable] = []
    for item in _items(container.get("env")):
        table = item.table()
        ENVIRONMENT.check(table, resource)
        name = table.need("name", "a variable needs a name")
        _check_name(name, named)
        value, reference = table.get("value"), table.get("valueFrom")
        if reference is None:
            read: str | FromObject = "" if value is None else value.text()
        else:
            FUNCTION_VALUE_FROM.check(reference.table(), resource)
            read = read_key_reference(reference.table(), resource).source
        named.append(Variable(name.text(), read, item.origin))
    return (*found, *named)


def _check_name(node: Node, before: list[Variable]) -> None:
    name = variable_name(node, RESERVED)
    if any(variable.name == name for variable in before):
        raise node.wrong(f"the variable {name} is there twice")


def _items(node: Node | None) -> tuple[Node, ...]:
    return () if node is None else node.items()
