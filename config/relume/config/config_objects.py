"""Secrets and ConfigMaps: read them, and fill in what a function takes from them."""

import base64
import binascii
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from relume.base.errors import InvalidManifest
from relume.config.fields import Fields, Resource, did_you_mean
from relume.config.function import (
    ConfigObject,
    FromObject,
    Function,
    ObjectMount,
    Objects,
    Variable,
)
from relume.config.nodes import Node
from relume.config.resources import Origin

CONFIG_MAP = Fields.of(
    "apiVersion kind metadata data binaryData", harmless={"files here may change": "immutable"}
)
SECRET = Fields.of(
    "apiVersion kind metadata data stringData",
    harmless={"files here may change": "immutable", "the type is for a cluster": "type"},
)


def read_object(resource: Resource) -> ConfigObject:
    """The Secret or ConfigMap of `resource`. Raises InvalidManifest for the first wrong field."""
    secret = resource.kind == "Secret"
    (SECRET if secret else CONFIG_MAP).check(resource.body, resource)
    encoded, plain = ("data", "stringData") if secret else ("binaryData", "data")
    data = {key: _decoded(node) for key, node in _entries(resource.body.get(encoded))}
    # As on a cluster, stringData wins over data.
    data |= {key: _text(node).encode() for key, node in _entries(resource.body.get(plain))}
    return ConfigObject(
        kind="Secret" if secret else "ConfigMap",
        namespace=resource.namespace,
        name=resource.name,
        data=data,
        origin=resource.origin,
    )


def _entries(node: Node | None) -> Iterable[tuple[str, Node]]:
    for key, value in node.table() if node is not None else ():
        if not key or key in (".", "..") or set(key) - set(_KEY_CHARACTERS):
            raise value.wrong(f"invalid key {key!r}: write letters, digits, '-', '_' and '.'")
        yield key, value


_KEY_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."


def _decoded(node: Node) -> bytes:
    try:
        return base64.b64decode("".join(_text(node).split()), validate=True)
    except (binascii.Error, ValueError):
        raise node.wrong("is not base64: write the value under stringData") from None


def _text(node: Node) -> str:
    """The text of a value. An error about it does not show the value, which may be secret."""
    try:
        return node.text()
    except InvalidManifest:
        raise node.wrong("must be a string: write it in quotes") from None


def by_key(objects: Iterable[ConfigObject]) -> Objects:
    """The objects by kind, namespace and name."""
    return {(o.kind, o.namespace, o.name): o for o in objects}


def variables_of(function: Function, objects: Objects) -> dict[str, str]:
    """The values of a function's variables.

    Raises InvalidManifest, at the variable, for an object or a key that is in no file, and for a
    value that is no text.
    """
    values: dict[str, str] = {}
    for variable in function.variables:
        if isinstance(variable.value, str):
            values[variable.name] = _without_nul(variable.value, variable.name, variable)
            continue
        data = _data(variable.value, variable, function.namespace, objects)
        for key, value in data.items():
            name = variable.name or key
            try:
                values[name] = _without_nul(value.decode(), name, variable)
            except UnicodeDecodeError:
                raise _wrong(variable.origin, f"the value of {name} is no text") from None
    return values


def _without_nul(value: str, name: str, variable: Variable) -> str:
    """The value of a variable; with a NUL character no process could be started."""
    if "\0" in value:
        raise _wrong(variable.origin, f"the value of {name} has a NUL character")
    return value


def files_of(function: Function, objects: Objects) -> dict[PurePosixPath, Mapping[str, bytes]]:
    """The files of a function's mounts, by the path of the mount. Raises as `variables_of`."""
    return {
        PurePosixPath(mount.path): {}
        if mount.source is None
        else _data(mount.source, mount, function.namespace, objects)
        for mount in function.mounts
    }


def _data(
    source: FromObject, user: Variable | ObjectMount, namespace: str, objects: Objects
) -> Mapping[str, bytes]:
    """The keys that `source` names; a missing one that is optional is nothing."""
    found = objects.get((source.kind, namespace, source.name))
    if found is None:
        if source.optional:
            return {}
        near = [name for kind, ns, name in objects if (kind, ns) == (source.kind, namespace)]
        message = f"no {source.kind} {namespace}/{source.name} is in these files"
        raise _wrong(user.origin, message + did_you_mean(source.name, near))
    if source.key is None:
        return found.data
    if source.key not in found.data:
        if source.optional:
            return {}
        message = f"{source.kind} {namespace}/{source.name} has no key {source.key}"
        raise _wrong(user.origin, message + did_you_mean(source.key, found.data))
    return {source.key: found.data[source.key]}


def _wrong(origin: Origin | None, message: str) -> InvalidManifest:
    assert origin is not None, "a function from a file knows its lines"
    return InvalidManifest(message, file=origin.file, line=origin.line, field=origin.field)
