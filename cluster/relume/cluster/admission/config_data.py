"""v1 ConfigMap and Secret: their keys, their size, and what a Secret's type asks for.

Source: kubernetes pkg/apis/core/validation/validation.go, ValidateConfigMap and ValidateSecret. No
message here has a value of a Secret in it.
"""

import base64
import json
import re
from collections.abc import Mapping

from relume.cluster.admission.judge import Judge, child, content, fields
from relume.cluster.admission.serving import judge_settings
from relume.config.nodes import Node, Table

_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_LARGEST = 1 << 20  # bytes, of all values together
_TYPE = "kubernetes.io/"
_SSH = "ssh-privatekey"
_NEEDED: Mapping[str, tuple[str, ...]] = {
    _TYPE + "dockercfg": (".dockercfg",),
    _TYPE + "dockerconfigjson": (".dockerconfigjson",),
    _TYPE + "ssh-auth": (_SSH,),
    _TYPE + "tls": ("tls.crt", "tls.key"),
}
_LOGIN = ("username", "password")
_ACCOUNT = _TYPE + "service-account.name"


def judge_config_map(document: Table, judge: Judge) -> None:
    """v1 ConfigMap."""
    texts, binary = fields(document, "data"), fields(document, "binaryData")
    _judge_keys(document, ("data", "binaryData"), judge)
    for name, node in texts.items():
        if name in binary:
            message = f"data[{name}]: duplicate of key present in binaryData"
            judge.say(node, "duplicate-item", message, field=f"data[{name}]")
    size = sum(len(content(node).encode()) for node in texts.values())
    _judge_size(document, size + sum(map(_decoded, binary.values())), judge)
    judge_settings(document, judge)


def judge_secret(document: Table, judge: Judge) -> None:
    """v1 Secret. What stands in `stringData` counts as data."""
    texts, binary = fields(document, "stringData"), fields(document, "data")
    _judge_keys(document, ("data", "stringData"), judge)
    size = sum(len(content(node).encode()) for node in texts.values())
    size += sum(_decoded(node) for name, node in binary.items() if name not in texts)
    _judge_size(document, size, judge)
    known = {**binary, **texts}
    kind = content(document, "type")
    where = child(document, "data") or child(document, "stringData") or document
    for name in _NEEDED.get(kind, ()):
        # An SSH key may not be empty; of the others Kubernetes asks only that they are there.
        if name not in known or (not content(known[name]) and name == _SSH):
            _require(where, name, kind, judge)
    if kind == _TYPE + "basic-auth" and not any(name in known for name in _LOGIN):
        for name in _LOGIN:
            _require(where, name, kind, judge)
    for name in (".dockercfg", ".dockerconfigjson"):
        node = known.get(name)
        if node is not None and name in _NEEDED.get(kind, ()) and not _is_json(node, name in texts):
            message = f"data[{name}]: this value is not JSON (value not shown)"
            judge.say(node, "invalid-value", message, field=f"data[{name}]")
    account = content(document, "metadata", "annotations", _ACCOUNT)
    if kind == _TYPE + "service-account-token" and not account:
        field = f"metadata.annotations[{_ACCOUNT}]"
        node = document.get("metadata") or document
        judge.say(node, "missing-field", f"missing field(s): {field}", field=field)


def _require(where: Node, name: str, kind: str, judge: Judge) -> None:
    field = f"data[{name}]"
    message = f"missing field(s): {field}: a Secret of type {kind} has it"
    fix = f"Add {name} under stringData, or write another type."
    judge.say(where, "missing-field", message, fix, field=field)


def _judge_keys(document: Table, where: tuple[str, ...], judge: Judge) -> None:
    for field in where:
        for name, node in fields(document, field).items():
            if not _KEY.fullmatch(name) or name == "." or name.startswith(".."):
                judge.invalid(node, "a key has letters, digits, '-', '_' and '.'", shown=name)


def _judge_size(document: Table, size: int, judge: Judge) -> None:
    if size > _LARGEST:
        message = f"Too long: {size} bytes: may not be more than {_LARGEST} bytes"
        fix = "Put large files into a volume."
        judge.say(child(document, "data") or document, "too-many", message, fix, field="data")


def _decoded(node: Node) -> int:
    """How many bytes a base64 text stands for."""
    text = re.sub(r"[\r\n]", "", content(node))
    return len(text) * 3 // 4 - text[-2:].count("=")


def _is_json(node: Node, plain: bool) -> bool:
    if not content(node):
        return True  # nothing is asked of an empty one
    try:
        text = content(node) if plain else base64.b64decode(content(node))
        json.loads(text)
    except ValueError:  # of base64 and of JSON
        return False
    return True
