"""The admission policy of route B: pods of an annotated revision get a claim.

It acts on pods and not on Deployments, which Knative's controller writes again. A pod that is made
in the first seconds after the policy is not changed by it (seen on Kubernetes 1.36, whatever
`failurePolicy` says): the runtime's own check keeps such a pod from becoming ready.
"""

from relume.cluster.render import rules
from relume.cluster.render.book import Book
from relume.cluster.render.draft import Json
from relume.cluster.render.originals import BASE
from relume.cluster.render.runtimes import CONTAINER

TEMPLATE = "relume.dev/claim-template"
REVISION = "serving.knative.dev/revision"
CLAIM = "device"
POLICY = "relume-claims"
FILE = f"{BASE}/admission-policy.yaml"
_ADMISSION = "admissionregistration.k8s.io/v1"

_MATCH = (
    f"has(object.metadata.labels) && '{REVISION}' in object.metadata.labels && "
    f"has(object.metadata.annotations) && '{TEMPLATE}' in object.metadata.annotations"
)
_CHANGE = f"""\
Object{{
  spec: Object.spec{{
    resourceClaims: [
      Object.spec.resourceClaims{{
        name: "{CLAIM}",
        resourceClaimTemplateName: object.metadata.annotations["{TEMPLATE}"]
      }}
    ],
    containers: [
      Object.spec.containers{{
        name: "{CONTAINER}",
        resources: Object.spec.containers.resources{{
          claims: [Object.spec.containers.resources.claims{{name: "{CLAIM}"}}]
        }}
      }}
    ]
  }}
}}
"""


def add_policy(book: Book) -> None:
    """The one policy for all services, and its binding."""
    if book.has("MutatingAdmissionPolicy", POLICY, FILE):
        return
    rule = rules.CLAIM_INJECTED
    policy = book.begin(FILE, _ADMISSION, "MutatingAdmissionPolicy", POLICY, rule)
    pods: Json = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods"],
    }
    policy.set(("spec", "matchConstraints"), {"resourceRules": [pods]}, rule)
    condition: Json = {"name": "revision-with-claim-template", "expression": _MATCH}
    reason = "Knative's revision label and our annotation, which KServe hands down to the pod"
    policy.set(("spec", "matchConditions"), [condition], rule, reason)
    policy.set(("spec", "failurePolicy"), "Fail", rule, "no pod rather than one without a device")
    policy.set(("spec", "reinvocationPolicy"), "IfNeeded", rule)
    change: Json = {
        "patchType": "ApplyConfiguration",
        "applyConfiguration": {"expression": _CHANGE},
    }
    policy.set(("spec", "mutations"), [change], rule)
    binding = book.begin(FILE, _ADMISSION, "MutatingAdmissionPolicyBinding", POLICY, rule)
    binding.set(("spec", "policyName"), POLICY, rule)
