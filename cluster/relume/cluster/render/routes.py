"""The three ways in which a pod gets the device that its service asks for in `limits`.

A, `extended-resource`: the request stays, and the scheduler makes the claim (KEP-5004, Kubernetes
1.36). B, `admission`: a policy puts a claim into the pod, so that it can have alternatives, or a
share of a device. C, `standard`: without Knative the pod's own `resourceClaims` can be used.

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
    SHARE,
    SHARED_CLAIM,
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
#: The policy for pods that share one ResourceClaim.
SHARED_POLICY = "relume-shared-claims"
_CLASSES_FILE = f"{BASE}/device-classes.yaml"
_POLICY_FILE = f"{BASE}/admission-policy.yaml"
_ADMISSION = "admissionregistration.k8s.io/v1"
_NO_SHARE_IN_LIMITS = (
    "a share cannot be asked for by an extended resource, so that an admission policy puts the "
    "claim into this service's pods, as with --dra admission"
)

_MATCH = (
    f"has(object.metadata.labels) && '{REVISION_LABEL}' in object.metadata.labels && "
    "has(object.metadata.annotations) && '@ANNOTATION@' in object.metadata.annotations"
)
_CHANGE = f"""\
Object{{
  spec: Object.spec{{
    resourceClaims: [
      Object.spec.resourceClaims{{
        name: "{CLAIM}",
        @FIELD@: object.metadata.annotations["@ANNOTATION@"]
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
    route = _possible(route, devices, book)
    if route == "extended-resource":
        return
    for alternative in devices.fallbacks:
        _add_class(alternative.device_class, devices.fallbacks_node, book)
    reason = "the claim asks for it"
    for request in devices.requests:
        for half in ("limits", "requests"):
            draft.remove((*MODEL, "resources", half, request.resource), rules.ROUTE, reason)
    for annotation in (FALLBACKS, SHARE):
        draft.remove((*ANNOTATIONS, annotation), rules.ROUTE, reason)
    _claim(draft, original, devices, route, book)


def _possible(route: DeviceRoute, devices: Devices, book: Book) -> DeviceRoute:
    """The route that can be taken: an extended resource has no shares and no alternatives."""
    if devices.share is not None:
        book.note(devices.share.node, devices.share.terms)
        if route == "extended-resource":
            book.note(devices.share.node, _NO_SHARE_IN_LIMITS)
            return "admission"
    elif route == "extended-resource" and devices.fallbacks_node is not None:
        book.note(
            devices.fallbacks_node,
            "left out: an extended resource has no alternatives; --dra admission and "
            "--dra standard have",
        )
    return route


def _claim(
    draft: Draft, original: Original, devices: Devices, route: DeviceRoute, book: Book
) -> None:
    """Give the pods of the service a claim: by a policy, or in the service itself."""
    if devices.share is not None and devices.share.claim:
        name = _add_shared_claim(draft.file, original, devices, book)
        annotation, field, policy = SHARED_CLAIM, "resourceClaimName", SHARED_POLICY
    else:
        name = _add_template(draft.file, original, devices, book)
        annotation, field, policy = CLAIM_TEMPLATE, "resourceClaimTemplateName", POLICY
    if route == "admission":
        draft.set((*ANNOTATIONS, annotation), name, rules.CLAIM_INJECTED)
        _add_policy(policy, annotation, field, book)
    else:
        _check_name_is_free(original)
        draft.put((*PREDICTOR, "resourceClaims"), {"name": CLAIM, field: name}, rules.ROUTE)
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


def _add_template(file: str, original: Original, devices: Devices, book: Book) -> str:
    """Add the template of each pod's own claim; return its name."""
    kind, name = "ResourceClaimTemplate", f"{original.name}-devices"
    namespace, rule = original.written_namespace, rules.CLAIM_TEMPLATE
    draft = book.begin(file, RESOURCE_V1, kind, name, rule, namespace=namespace)
    parts = ["what the limits ask for"]
    parts += ["then what the annotation falls back on"] if devices.fallbacks else []
    parts += ["of each device the share that the annotation names"] if devices.share else []
    path = ("spec", "spec", "devices", "requests")
    draft.set(path, _claim_requests(devices), rule, ", ".join(parts))
    return name


def _add_shared_claim(file: str, original: Original, devices: Devices, book: Book) -> str:
    """Add the one claim of several services, if it is not there yet; return its name.

    Raises InvalidManifest where an earlier service asks for something else in the same claim.
    """
    assert devices.share is not None
    kind, name, namespace = "ResourceClaim", devices.share.claim, original.written_namespace
    if (kind, original.namespace, name) in book.given:
        return name  # the user's own document
    wanted = _claim_requests(devices)
    for known in book.drafts:
        where = known.get("metadata", "namespace") or ""
        if (known.get("kind"), known.get("metadata", "name"), where) == (kind, name, namespace):
            if known.get("spec", "devices", "requests") != wanted:
                raise devices.share.node.wrong(
                    f"claim={name}: another service asks for other devices in it: one claim has "
                    "one set of devices, so write the same limits and fallbacks in both"
                )
            return name
    rule = rules.SHARED_DEVICE
    draft = book.begin(file, RESOURCE_V1, kind, name, rule, namespace=namespace)
    reason = "one claim, and so one device, for all services that name it"
    draft.set(("spec", "devices", "requests"), wanted, rule, reason)
    return name


def _claim_requests(devices: Devices) -> list[JsonValue]:
    return [
        _claim_request(request, index, devices) for index, request in enumerate(devices.requests)
    ]


def _claim_request(request: DeviceRequest, index: int, devices: Devices) -> dict[str, JsonValue]:
    if request.device_class is None:
        raise request.node.wrong(
            f"{request.resource} is a device plugin's name, and a claim needs a DeviceClass: ask "
            "for one, as in deviceclass.resource.kubernetes.io/llm-mig-1g-10gb"
        )
    name = f"{CLAIM}-{index}" if index else CLAIM
    share = devices.share.capacity if devices.share is not None else {}
    if not devices.fallbacks:
        return {"name": name, "exactly": _ask(request.device_class, request.count, share)}
    first = Alternative(request.device_class, request.count)
    choices: list[JsonValue] = [
        {"name": f"choice-{number}", **_ask(choice.device_class, choice.count, share)}
        for number, choice in enumerate((first, *devices.fallbacks), start=1)
    ]
    return {"name": name, "firstAvailable": choices}


def _ask(device_class: str, count: int, share: dict[str, JsonValue]) -> dict[str, JsonValue]:
    asked: dict[str, JsonValue] = {"deviceClassName": device_class}
    if count > 1:
        asked["count"] = count
    if share:
        asked["capacity"] = {"requests": dict(share)}
    return asked


def _add_policy(policy: str, annotation: str, field: str, book: Book) -> None:
    """Add a policy for all services with the annotation, and its binding.

    `field` of the pod's `resourceClaims` gets the value of the annotation.
    """
    if book.has("MutatingAdmissionPolicy", policy, _POLICY_FILE):
        return

    def filled(text: str) -> str:
        return text.replace("@ANNOTATION@", annotation).replace("@FIELD@", field)

    rule = rules.CLAIM_INJECTED
    pods: JsonValue = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods"],
    }
    name = f"revision-with-{annotation.partition('/')[2]}"
    condition: JsonValue = {"name": name, "expression": filled(_MATCH)}
    change: JsonValue = {
        "patchType": "ApplyConfiguration",
        "applyConfiguration": {"expression": filled(_CHANGE)},
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
    book.begin(_POLICY_FILE, _ADMISSION, "MutatingAdmissionPolicy", policy, rule, spec, reasons)
    binding: dict[str, JsonValue] = {"policyName": policy}
    book.begin(_POLICY_FILE, _ADMISSION, "MutatingAdmissionPolicyBinding", policy, rule, binding)
