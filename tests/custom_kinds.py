"""The kinds of Knative and KServe as JSON Schemas, of two origins.

Our own tables (`relume.cluster.schemas`) are always there. The published CRDs are there where
RELUME_VECTORS names their folder; a test of ours holds the tables to them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jsonschema
import pytest
import yaml

from relume.cluster.schemas import schema as table_of
from relume.cluster.schemas.tables import Type
from tests.vectors import published, vector

TABLES, CRDS = "our tables", "the published CRDs"
#: The values of a parameter `origin`.
ORIGINS = (TABLES, pytest.param(CRDS, marks=published))

JsonSchema = dict[str, Any]
_NAMED: JsonSchema = {"type": "object", "required": ["name"]}


@dataclass(frozen=True, slots=True)
class CustomKind:
    """One kind in one version, and the file of its CRD."""

    api_version: str
    kind: str
    file: str

    def properties(self, origin: str, path: Sequence[str]) -> set[str]:
        """The names of the fields at a path; `[]` is an item of a list."""
        if origin == TABLES:
            found = table_of(self.api_version, self.kind)
            shape = found and found.shape.field(*path)
            assert shape, f"{self.kind} has no {'.'.join(path)}"
            return set(shape.type["fields"])
        at = self._crd()
        for name in path:
            at = at["items"] if name == "[]" else at["properties"][name]
        return set(at["properties"])

    def problems(self, document: Mapping[str, object], origin: str) -> list[str]:
        """Everything that a strict API server would refuse in `document`."""
        found = _validator(self, origin).iter_errors(document)
        return [f"{error.json_path}: {error.message}" for error in found]

    def _crd(self) -> JsonSchema:
        (served,) = (
            version
            for version in _read(self.file)["spec"]["versions"]
            if version["name"] == self.api_version.partition("/")[2]
        )
        schema: JsonSchema = served["schema"]["openAPIV3Schema"]
        return schema

    def json_schema(self, origin: str) -> JsonSchema:
        """What is not a field of the kind is an error; its metadata must have a name."""
        if origin == CRDS:
            schema = _closed(self._crd())
            schema["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": _NAMED}
            return schema
        found = table_of(self.api_version, self.kind)
        assert found, f"there is no table for {self.kind}"
        return {
            "$ref": f"#/$defs/{found.shape.number}",
            "properties": {"metadata": _NAMED},
            "$defs": {str(n): _definition(of) for n, of in enumerate(found.shape.types)},
        }


BROKER = CustomKind("eventing.knative.dev/v1", "Broker", "knative-eventing/broker.yaml")
TRIGGER = CustomKind("eventing.knative.dev/v1", "Trigger", "knative-eventing/trigger.yaml")
FLOWS = (
    CustomKind("flows.knative.dev/v1", "Sequence", "knative-eventing/sequence.yaml"),
    CustomKind("flows.knative.dev/v1", "Parallel", "knative-eventing/parallel.yaml"),
    CustomKind(
        "eventing.knative.dev/v1alpha1", "RequestReply", "knative-eventing/requestreply.yaml"
    ),
    CustomKind("sources.knative.dev/v1", "PingSource", "knative-eventing/pingsource.yaml"),
    CustomKind("sources.knative.dev/v1", "SinkBinding", "knative-eventing/sinkbindings.yaml"),
)
EVENT_TYPE = CustomKind(
    "eventing.knative.dev/v1beta3", "EventType", "knative-eventing/eventtype.yaml"
)
KNATIVE_SERVICE = CustomKind("serving.knative.dev/v1", "Service", "knative-serving/service.yaml")
INFERENCE_SERVICE = CustomKind(
    "serving.kserve.io/v1beta1",
    "InferenceService",
    "kserve/serving.kserve.io_inferenceservices.yaml",
)
SERVING_RUNTIME = CustomKind(
    "serving.kserve.io/v1alpha1",
    "ClusterServingRuntime",
    "kserve/serving.kserve.io_clusterservingruntimes.yaml",
)


@cache
def _validator(kind: CustomKind, origin: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(kind.json_schema(origin))


@cache
def _read(file: str) -> JsonSchema:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    crd: JsonSchema = yaml.load(vector(f"crds/{file}").read_text(), Loader=loader)
    return crd


_TYPES: Mapping[str, JsonSchema] = {
    "quantity": {"type": ["string", "number"]},
    "int-or-string": {"type": ["integer", "string"]},
}
_BOUNDS = {
    "required": "required",
    "enum": "enum",
    "pattern": "pattern",
    "min": "minimum",
    "max": "maximum",
    "min_length": "minLength",
    "max_length": "maxLength",
    "min_items": "minItems",
}


def _definition(of: Type) -> JsonSchema:
    """A type of a table as JSON Schema: what admission prunes or refuses is an error."""
    made: JsonSchema = {theirs: of[ours] for ours, theirs in _BOUNDS.items() if ours in of}  # type: ignore[literal-required]
    if "type" in of:
        made |= _TYPES.get(of["type"], {"type": of["type"]})
    if "fields" in of:
        made["properties"] = {name: _reference(n) for name, n in of["fields"].items()}
        made["additionalProperties"] = of.get("unknown") == "keep"
    if "values" in of:
        made["additionalProperties"] = _reference(of["values"])
    if "items" in of:
        made["items"] = _reference(of["items"])
    return made


def _reference(number: int) -> JsonSchema:
    return {"$ref": f"#/$defs/{number}"}


def _closed(schema: JsonSchema) -> JsonSchema:
    """The structural schema of a CRD as JSON Schema: what admission prunes is an error here."""
    made = {key: value for key, value in schema.items() if not key.startswith("x-")}
    made.pop("format", None)
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    if schema.get("nullable") and "type" in made:
        made["type"] = [made.pop("type"), "null"]
    if "properties" in made:
        made["properties"] = {name: _closed(p) for name, p in made["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
    if isinstance(made.get("additionalProperties"), dict):
        made["additionalProperties"] = _closed(made["additionalProperties"])
    if "items" in made:
        made["items"] = _closed(made["items"])
    return made
