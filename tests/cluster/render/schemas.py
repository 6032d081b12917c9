"""Strict checks: CRDs by their published schemas, core kinds by the client's models."""

from collections.abc import Mapping
from functools import cache

import jsonschema
import pydantic
import yaml

from tests.vectors import vector

CRDS = {
    "ClusterServingRuntime": "kserve/serving.kserve.io_clusterservingruntimes.yaml",
    "InferenceService": "kserve/serving.kserve.io_inferenceservices.yaml",
    "Broker": "knative-eventing/broker.yaml",
    "Trigger": "knative-eventing/trigger.yaml",
    "Service": "knative-serving/service.yaml",  # serving.knative.dev
}
MODELS = {
    "ClusterRole": "V1ClusterRole",
    "ConfigMap": "V1ConfigMap",
    "DeviceClass": "V1DeviceClass",
    "MutatingAdmissionPolicy": "V1MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding": "V1MutatingAdmissionPolicyBinding",
    "NetworkPolicy": "V1NetworkPolicy",
    "PodDisruptionBudget": "V1PodDisruptionBudget",
    "ResourceClaimTemplate": "V1ResourceClaimTemplate",
    "Service": "V1Service",
}
# No schema of these is published with KServe, Knative or Kubernetes.
WITHOUT_SCHEMA = {
    "Component": "kustomize's own",
    "Kustomization": "kustomize's own",
    "RabbitmqBrokerConfig": "of the RabbitMQ broker",
    "ServiceMonitor": "of the Prometheus operator",
}
Json = object


def problems(document: Mapping[str, Json]) -> list[str]:
    """Everything that a strict API server would refuse in `document`; raises for unknown kinds."""
    kind = str(document["kind"])
    group = str(document["apiVersion"]).partition("/")[0]
    if kind in CRDS and group.endswith((".knative.dev", ".kserve.io")):
        validator = _validator(CRDS[kind], str(document["apiVersion"]).partition("/")[2])
        found = validator.iter_errors(document)
        return [f"{error.json_path}: {error.message}" for error in found]
    if kind in MODELS:
        return _unlike(document, MODELS[kind])
    if kind in WITHOUT_SCHEMA:
        return []
    raise AssertionError(f"{kind} is checked by nothing")


def _unlike(document: Mapping[str, Json], model: str) -> list[str]:
    """Where the document is not what the Kubernetes client's model says."""
    from kubernetes.client import models

    try:
        getattr(models, model).model_validate(document, by_alias=True, by_name=False)
    except pydantic.ValidationError as error:
        return [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    return []


@cache
def _validator(file: str, version: str) -> jsonschema.Draft202012Validator:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    crd = yaml.load(vector(f"crds/{file}").read_text(), Loader=loader)
    (served,) = (v for v in crd["spec"]["versions"] if v["name"] == version)
    schema = _strict(served["schema"]["openAPIV3Schema"])
    schema["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {"type": "object"}}
    return jsonschema.Draft202012Validator(schema)


def _strict(schema: dict) -> dict:  # type: ignore[type-arg]
    """The structural schema as JSON Schema: what admission prunes is an error here."""
    made = {key: value for key, value in schema.items() if not key.startswith("x-")}
    made.pop("format", None)
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    if schema.get("nullable") and "type" in made:
        made["type"] = [made.pop("type"), "null"]
    if "properties" in made:
        made["properties"] = {name: _strict(p) for name, p in made["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
    if isinstance(made.get("additionalProperties"), dict):
        made["additionalProperties"] = _strict(made["additionalProperties"])
    if "items" in made:
        made["items"] = _strict(made["items"])
    return made
