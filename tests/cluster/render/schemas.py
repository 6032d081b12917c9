"""Strict checks: custom kinds by their schemas, core kinds by the client's models."""

from collections.abc import Mapping

import pydantic

from tests.custom_kinds import (
    BROKER,
    FLOWS,
    INFERENCE_SERVICE,
    KNATIVE_SERVICE,
    SERVING_RUNTIME,
    TABLES,
    TRIGGER,
)

CUSTOM = {
    (kind.api_version, kind.kind): kind
    for kind in (BROKER, INFERENCE_SERVICE, KNATIVE_SERVICE, SERVING_RUNTIME, TRIGGER, *FLOWS)
}
MODELS = {
    "ClusterRole": "V1ClusterRole",
    "ConfigMap": "V1ConfigMap",
    "Deployment": "V1Deployment",
    "DeviceClass": "V1DeviceClass",
    "MutatingAdmissionPolicy": "V1MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding": "V1MutatingAdmissionPolicyBinding",
    "Namespace": "V1Namespace",
    "NetworkPolicy": "V1NetworkPolicy",
    "PodDisruptionBudget": "V1PodDisruptionBudget",
    "ResourceClaim": "ResourceV1ResourceClaim",  # CoreV1ResourceClaim is a container's reference
    "ResourceClaimTemplate": "V1ResourceClaimTemplate",
    "Secret": "V1Secret",
    "Service": "V1Service",
}
# No schema of these is published with KServe, Knative or Kubernetes.
WITHOUT_SCHEMA = {
    "Component": "kustomize's own",
    "HTTPRoute": "of the Gateway API; test_llm_d.py holds it against the API's facts",
    "InferenceObjective": "of llm-d; test_llm_d.py holds it against the API's facts",
    "InferencePool": "of the Gateway API's extension; test_llm_d.py does",
    "Kustomization": "kustomize's own",
    "RabbitmqBrokerConfig": "of the RabbitMQ broker",
    "ServiceMonitor": "of the Prometheus operator",
}
Json = object


def problems(document: Mapping[str, Json], origin: str = TABLES) -> list[str]:
    """Everything that a strict API server would refuse in `document`; raises for unknown kinds."""
    kind = str(document["kind"])
    if custom := CUSTOM.get((str(document["apiVersion"]), kind)):
        return custom.problems(document, origin)
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
