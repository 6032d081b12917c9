"""Waiting until the admission policy acts, before a pod depends on it.

A MutatingAdmissionPolicy takes effect some seconds after it was created. A pod that is made before
that is not changed, even with `failurePolicy: Fail` (seen on Kubernetes 1.36). So a pod like a
revision's is sent as a dry run until the answer has its claim. Several API servers may share one
address, and each learns of the policy by itself; therefore several answers in a row must have it.
"""

from relume.base.errors import RelumeError
from relume.base.vocabulary import (
    CLAIM_TEMPLATE,
    REVISION_LABEL,
    SERVING_CONTAINER,
    SHARED_CLAIM,
    Json,
)
from relume.cluster.apply.api import ClusterApi, objects, text
from relume.cluster.apply.manifests import FIELD_MANAGER, ClusterManifest
from relume.cluster.apply.waiting import ApplyProgress, Pace
from relume.cluster.render.routes import CLAIM, POLICY, SHARED_POLICY
from relume.cluster.render.runtimes import NO_IMAGE

Asked = tuple[str, str]
"""The annotation by which a policy acts, and the name of the template or claim in it."""

#: The field of a pod's claim that each annotation fills, and the policy that fills it.
FIELDS = {CLAIM_TEMPLATE: "resourceClaimTemplateName", SHARED_CLAIM: "resourceClaimName"}
POLICIES = {CLAIM_TEMPLATE: POLICY, SHARED_CLAIM: SHARED_POLICY}

_IN_A_ROW = 3
_EVERY_S = 1.0
_LONGEST_S = 120.0


class PolicyNotInForce(RelumeError):
    """The policy does not give the pods of a revision their claim."""

    reason = "policy-not-in-force"
    retryable = True


def wait_for_policy(
    api: ClusterApi, services: list[ClusterManifest], progress: ApplyProgress, pace: Pace
) -> None:
    """Wait until the policy acts for every service that relies on it.

    Raises PolicyNotInForce after two minutes, or where the cluster refuses such a pod.
    """
    for service in services:
        for annotation in FIELDS:
            name = text(service.body, "metadata", "annotations", annotation)
            if name:
                _wait(api, service.namespace, (annotation, name), progress, pace)


def _wait(
    api: ClusterApi, namespace: str, asked_for: Asked, progress: ApplyProgress, pace: Pace
) -> None:
    started = pace.now()
    row = asked = 0
    progress.now(f"waiting until the admission policy acts in {namespace}")
    while True:
        row = row + 1 if _acts(api, namespace, asked_for) else 0
        asked += 1
        if row == _IN_A_ROW:
            took = f"{pace.now() - started:.0f} s, {asked} dry runs"
            progress.say(f"the admission policy gives pods in {namespace} their claim ({took})")
            return
        if pace.now() - started > _LONGEST_S:
            raise PolicyNotInForce(
                f"a dry-run pod in {namespace} got no claim for {_LONGEST_S:.0f} s: services were "
                "not applied, their pods would be ready without a device. Are the "
                f"MutatingAdmissionPolicy {POLICIES[asked_for[0]]} and its binding there, and is "
                "Kubernetes 1.36 or later?"
            )
        pace.sleep(_EVERY_S)


def _acts(api: ClusterApi, namespace: str, asked_for: Asked) -> bool:
    query = {"dryRun": "All", "fieldManager": FIELD_MANAGER}
    path = f"/api/v1/namespaces/{namespace}/pods"
    answer = api.change("POST", path, probe(namespace, asked_for), **query)
    if not answer.ok:
        raise PolicyNotInForce(
            f"no service was applied, because it cannot be seen whether the admission policy acts: "
            f"a dry-run pod in {namespace} is refused: {answer.message}"
        )
    named = {
        text(one, "name")
        for one in objects(answer.body, "spec", "resourceClaims")
        if text(one, FIELDS[asked_for[0]]) == asked_for[1]
    }
    taken = {
        text(claim, "name")
        for container in objects(answer.body, "spec", "containers")
        for claim in objects(container, "resources", "claims")
    }
    return CLAIM in named & taken


def probe(namespace: str, asked_for: Asked) -> Json:
    """A pod that the policy takes for a revision's, and that other policies accept."""
    little = {"cpu": "1m", "memory": "1Mi"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "relume-policy-probe",
            "namespace": namespace,
            "labels": {REVISION_LABEL: "relume-policy-probe"},
            "annotations": dict([asked_for]),
        },
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": SERVING_CONTAINER,
                    "image": NO_IMAGE + "relume/policy-probe",
                    "resources": {"requests": little, "limits": little},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }
