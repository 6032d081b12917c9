"""The registry as documents: Knative EventTypes, AsyncAPI 3.0, JSON Schema files. Deterministic.

`files` is all of `eventing/manifests/`; `make manifests` writes it, and a test says when the files
that are checked in are not these.
"""

import json
from collections.abc import Mapping

import yaml

from relume.eventing.registry.asyncapi import asyncapi
from relume.eventing.registry.events import ANSWERS, Attribute
from relume.eventing.registry.schemas import SCHEMAS, Json

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_GENERATED = "# Made from relume.eventing.registry.events by `make manifests`.\n"


class _Dumper(yaml.SafeDumper):
    """YAML without anchors: every place says what it means."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def files() -> Mapping[str, str]:
    """Each file's path below `eventing/manifests/`, and its text."""
    schemas = {f"schemas/{name}.json": _json(schema_file(name)) for name in SCHEMAS}
    return {
        "eventtypes.yaml": _GENERATED + _yaml_all(event_types()),
        "asyncapi.yaml": _GENERATED + to_yaml(asyncapi()),
        **schemas,
    }


def schema_file(name: str) -> Json:
    """A schema as it is read on its own; what it refers to lies beside it."""
    return {"$schema": DRAFT, **SCHEMAS[name]}


def event_types() -> list[Json]:
    """An EventType (v1beta3) for each type that is ours; a namespace is the reader's to choose.

    `type`, `source`, `specversion` and `id` must be there (knative/eventing
    pkg/apis/eventing/v1beta3/eventtype_validation.go).
    """
    return [
        {
            "apiVersion": "eventing.knative.dev/v1beta3",
            "kind": "EventType",
            "metadata": {"name": kind.type},
            "spec": {
                "description": kind.description,
                "attributes": [_event_type_attribute(each) for each in kind.attributes],
            },
        }
        for kind in ANSWERS
    ]


def _event_type_attribute(attribute: Attribute) -> Json:
    shown: dict[str, object] = {"name": attribute.name, "required": attribute.required}
    return {**shown, "value": attribute.value} if attribute.value else shown


def _json(document: Json) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def to_yaml(document: Json) -> str:
    """One YAML document."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)


def _yaml_all(documents: list[Json]) -> str:
    return "---\n".join(map(to_yaml, documents))
