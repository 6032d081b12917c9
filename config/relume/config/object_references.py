"""References to a Secret or a ConfigMap of the same namespace: a key of it, or all of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from relume.config.fields import Fields, Resource
from relume.config.function import FromObject, ObjectKind
from relume.config.nodes import Node, Table

KEY_REF = Fields.of("name key optional")
OBJECT_REF = Fields.of("name optional")
_KEY_KINDS: Mapping[str, ObjectKind] = {"secretKeyRef": "Secret", "configMapKeyRef": "ConfigMap"}
_OBJECT_KINDS: Mapping[str, ObjectKind] = {"secretRef": "Secret", "configMapRef": "ConfigMap"}


@dataclass(frozen=True, slots=True)
class ObjectReference:
    """What is named, and where its name and its key are written (`key` None: all keys)."""

    source: FromObject
    name: Node
    key: Node | None = None


def read_key_reference(table: Table, resource: Resource) -> ObjectReference:
    """The one of `secretKeyRef` and `configMapKeyRef` in `table`."""
    kind, reference = _only(table, _KEY_KINDS)
    KEY_REF.check(reference, resource)
    name = reference.need("name", f"name the {kind}")
    key = reference.need("key", f"name a key of the {kind}")
    source = FromObject(kind, name.filled(), key.filled(), optional=_optional(reference))
    return ObjectReference(source, name, key)


def read_object_reference(table: Table, resource: Resource) -> ObjectReference:
    """The one of `secretRef` and `configMapRef` in `table`."""
    kind, reference = _only(table, _OBJECT_KINDS)
    OBJECT_REF.check(reference, resource)
    name = reference.need("name", f"name the {kind}")
    return ObjectReference(FromObject(kind, name.filled(), optional=_optional(reference)), name)


def _only(table: Table, kinds: Mapping[str, ObjectKind]) -> tuple[ObjectKind, Table]:
    named = [(field, node) for field, node in table if field in kinds]
    if len(named) != 1:
        raise table.wrong(f"write exactly one of {' and '.join(kinds)}")
    field, node = named[0]
    return kinds[field], node.table()


def _optional(reference: Table) -> bool:
    node = reference.get("optional")
    return node is not None and node.boolean()
