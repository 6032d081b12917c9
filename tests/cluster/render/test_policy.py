"""The admission policy, run: which pods it takes, and what it puts into them.

The API server evaluates CEL; here the same expressions run in cel-expr-python. `Object{…}`, which
only an API server knows, is written as a map for it.
"""

import re
from typing import Any

import pytest
from cel_expr_python import cel

from relume.base.vocabulary import CLAIM_TEMPLATE, REVISION_LABEL
from tests.cluster.render.cases import rendered
from tests.cluster.render.rendering import find

RENDERING = rendered("samples-admission")
LABELS = {REVISION_LABEL: "chat-predictor-00001"}
NOTES = {CLAIM_TEMPLATE: "chat-devices"}


def evaluate(expression: str, pod: dict[str, Any]) -> Any:
    environment = cel.NewEnv(variables={"object": cel.Type.DYN})
    return plain(environment.compile(expression).eval(data={"object": pod}))


def plain(value: Any) -> Any:
    value = value.value() if hasattr(value, "value") else value
    if isinstance(value, dict):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


@pytest.mark.parametrize(
    ("metadata", "taken"),
    [
        ({"labels": LABELS, "annotations": NOTES}, True),
        ({"labels": LABELS}, False),
        ({"annotations": NOTES}, False),
        ({"labels": {"a": "b"}, "annotations": NOTES}, False),
        ({"labels": LABELS, "annotations": {"a": "b"}}, False),
        ({}, False),
    ],
)
def test_it_takes_the_pods_of_revisions_with_our_annotation(
    metadata: dict[str, Any], taken: bool
) -> None:
    (condition,) = find(RENDERING, "MutatingAdmissionPolicy")["spec"]["matchConditions"]
    assert evaluate(condition["expression"], {"metadata": metadata}) is taken


def test_it_puts_the_claim_into_the_pod_and_the_predictors_container_alone() -> None:
    (mutation,) = find(RENDERING, "MutatingAdmissionPolicy")["spec"]["mutations"]
    as_map = re.sub(r"Object(\.\w+)*\{", "{", mutation["applyConfiguration"]["expression"])
    as_map = re.sub(r"(\w+): ", r'"\1": ', as_map)
    assert evaluate(as_map, {"metadata": {"annotations": NOTES}}) == {
        "spec": {
            "resourceClaims": [{"name": "device", "resourceClaimTemplateName": "chat-devices"}],
            "containers": [
                {"name": "kserve-container", "resources": {"claims": [{"name": "device"}]}}
            ],
        }
    }


def test_the_template_that_it_names_is_there() -> None:
    service = find(RENDERING, "InferenceService", "chat")
    template = find(RENDERING, "ResourceClaimTemplate")
    assert service["metadata"]["annotations"][CLAIM_TEMPLATE] == template["metadata"]["name"]
    assert service["metadata"]["namespace"] == template["metadata"]["namespace"]


def test_the_binding_binds_it() -> None:
    policy = find(RENDERING, "MutatingAdmissionPolicy")
    binding = find(RENDERING, "MutatingAdmissionPolicyBinding")
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
