"""The three ways in which a pod gets the device that its service asks for in `limits`.

A, `extended-resource`: the request stays, and the scheduler makes the claim (KEP-5004, Kubernetes
1.36). B, `admission`: a policy puts a claim into the pod, so that it can have alternatives. C,
`standard`: without Knative the pod's own `resourceClaims` can be used.

The policy of route B acts on pods and not on Deployments, because Knative's controller writes those
again. It does not change a pod that is made in the first seconds after the policy (seen on
Kubernetes 1.36, whatever `failurePolicy` says); the runtime's own check keeps such a pod from
becoming ready.
"""

from relume.base.vocabulary import (
    CLAIM_TEMPLATE,
    FALLBACKS,
    RESOURCE_V1,
    REVISION_LABEL,
    SERVING_CONTAINER,
    JsonValue,
)
from relume.cluster.claims.presets import IMPLICIT_PREFIX, find
from relume.cluster.render import rules
from relume.cluster.render.devices import Alternative, DeviceRequest, Devices
from relume.cluster.render.draft import Book, Draft
from relume.cluster.render.options import DeviceRoute
from relume.cluster.render.originals import ANNOTATIONS, BASE, MODEL, PREDICTOR, Original
from relume.config.nodes import Node

CLAIM = "device"
POLICY = "relume-claims"
_CLASSES_FILE = f"{BASE}/device-classes.yaml"
_POLICY_FILE = f"{BASE}/admission-policy.yaml"
_ADMISSION = "admissionregistration.k8s.io/v1"

_MATCH = (
    f"has(object.metadata.labels) && '{REVISION_LABEL}' in object.metadata.labels && "
    f"has(object.metadata.annotations) && '{CLAIM_TEMPLATE}' in object.metadata.annotations"
)
_CHANGE = f"""\
Object{{
  spec: Object.spec{{
    resourceClaims: [
      Object.spec.resourceClaims{{
        name: "{CLAIM}",
        resourceClaimTemplateName: object.metadata.annotations["{CLAIM_TEMPLATE}"]
      }}
    ],
    containers: [
      Object.spec.containers{{
        name: "{SERVING_CONTAINER}",
        resources: Object.spec.containers.resources{{
          claims: [Object.spec.containers.resources.claims{{name: "{CLAIM}"}}]
        }}
      }}
    ]
  }}
}}
"""


def take_route(
    draft: Draft, original: Original, devices: Devices, route: DeviceRoute, book: Book
) -> None:
    """Give the service of `draft` its devices by `route`."""
    if not devices.requests:
        return
    for request in devices.requests:
        if request.resource.startswith(IMPLICIT_PREFIX) and request.device_class is not None:
            _add_class(request.device_class, request.node, book)
    if route == "extended-resource":
        if devices.fallbacks_node is not None:
            book.note(
                devices.fallbacks_node,
                "left out: an extended resource has no alternatives; --dra admission and "
                "--dra standard have",
            )
        return
    for alternative in devices.fallbacks:
        _add_class(alternative.device_class, devices.fallbacks_node, book)
    name = f"{original.name}-devices"
    _add_template(name, draft.file, original, devices, book)
    reason = "the claim asks for it"
    for request in devices.requests:
        for half in ("limits", "requests"):
            draft.remove((*MODEL, "resources", half, request.resource), rules.ROUTE, reason)
    draft.remove((*ANNOTATIONS, FALLBACKS), rules.ROUTE, reason)
    if route == "admission":
        draft.set((*ANNOTATIONS, CLAIM_TEMPLATE), name, rules.CLAIM_INJECTED)
        _add_policy(book)
    else:
        _check_name_is_free(original)
        claim: dict[str, JsonValue] = {"name": CLAIM, "resourceClaimTemplateName": name}
        draft.put((*PREDICTOR, "resourceClaims"), claim, rules.ROUTE)
        draft.put((*MODEL, "resources", "claims"), {"name": CLAIM}, rules.ROUTE)


def _check_name_is_free(original: Original) -> None:
    claims = original.node(*PREDICTOR, "resourceClaims")
    for item in claims.items() if claims is not None else ():
        name = item.table().get("name")
        if name is not None and name.text() == CLAIM:
            raise name.wrong(
                f"the name {CLAIM} is used for the claim that Relume adds: choose another name"
            )


def _add_class(name: str, node: Node | None, book: Book) -> None:
    preset = find(name)
    if preset is None:
        book.note(
            node, f"the cluster must have a DeviceClass {name}: none of that name ships with Relume"
        )
        return
    if book.has("DeviceClass", name, _CLASSES_FILE):
        return
    manifest = preset.manifest()
    draft = book.begin(_CLASSES_FILE, RESOURCE_V1, "DeviceClass", name, rules.DEVICE_CLASS)
    spec: JsonValue = manifest["spec"]  # type: ignore[assignment]
    draft.set(("spec",), spec, rules.DEVICE_CLASS, preset.what)


def _add_template(name: str, file: str, original: Original, devices: Devices, book: Book) -> None:
    requests: list[JsonValue] = [
        _claim_request(request, index, devices) for index, request in enumerate(devices.requests)
    ]
    kind, namespace = "ResourceClaimTemplate", original.written_namespace
    draft = book.begin(file, RESOURCE_V1, kind, name, rules.CLAIM_TEMPLATE, namespace=namespace)
    then = ", then what the annotation falls back on" if devices.fallbacks else ""
    reason = f"what the limits ask for{then}"
    draft.set(("spec", "spec", "devices", "requests"), requests, rules.CLAIM_TEMPLATE, reason)


def _claim_request(request: DeviceRequest, index: int, devices: Devices) -> dict[str, JsonValue]:
    if request.device_class is None:
        raise request.node.wrong(
            f"{request.resource} is a device plugin's name, and a claim needs a DeviceClass: ask "
            "for one, as in deviceclass.resource.kubernetes.io/llm-mig-1g-10gb"
        )
    name = f"{CLAIM}-{index}" if index else CLAIM
    if not devices.fallbacks:
        return {"name": name, "exactly": _ask(request.device_class, request.count)}
    first = Alternative(request.device_class, request.count)
    choices: list[JsonValue] = [
        {"name": f"choice-{number}", **_ask(choice.device_class, choice.count)}
        for number, choice in enumerate((first, *devices.fallbacks), start=1)
    ]
    return {"name": name, "firstAvailable": choices}


def _ask(device_class: str, count: int) -> dict[str, JsonValue]:
    asked: dict[str, JsonValue] = {"deviceClassName": device_class}
    if count > 1:
        asked["count"] = count
    return asked


def _add_policy(book: Book) -> None:
    """Add the one policy for all services, and its binding."""
    if book.has("MutatingAdmissionPolicy", POLICY, _POLICY_FILE):
        return
    rule = rules.CLAIM_INJECTED
    pods: JsonValue = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods"],
    }
    condition: JsonValue = {"name": "revision-with-claim-template", "expression": _MATCH}
    change: JsonValue = {
        "patchType": "ApplyConfiguration",
        "applyConfiguration": {"expression": _CHANGE},
    }
    spec: dict[str, JsonValue] = {
        "matchConstraints": {"resourceRules": [pods]},
        "matchConditions": [condition],
        "failurePolicy": "Fail",
        "reinvocationPolicy": "IfNeeded",
        "mutations": [change],
    }
    reasons = {
        "matchConditions": (
            "Knative's revision label and our annotation, which KServe hands down to the pod"
        ),
        "failurePolicy": "no pod rather than one without a device",
    }
    book.begin(_POLICY_FILE, _ADMISSION, "MutatingAdmissionPolicy", POLICY, rule, spec, reasons)
    binding: dict[str, JsonValue] = {"policyName": POLICY}
    book.begin(_POLICY_FILE, _ADMISSION, "MutatingAdmissionPolicyBinding", POLICY, rule, binding)
