"""DRA's kinds, as the API server judges them.

Source: kubernetes pkg/apis/resource/validation/validation.go and the limits in the API's types
(resource.k8s.io/v1). The field names are v1's; of v1beta1, where a request is flat, only the schema
is checked.
"""

from collections.abc import Callable, Mapping

from relume.cluster.admission.device_parts import (
    MOST,
    at_most,
    is_qualified_id,
    judge_selectors,
    judge_tolerations,
)
from relume.cluster.admission.judge import Judge, child, content, entries, fields, number, truth
from relume.cluster.admission.metadata import judge_keys
from relume.cluster.admission.syntax import (
    RULE_1123,
    is_dns_label,
    is_extended_resource,
    is_subdomain,
)
from relume.config.nodes import Node, Table

_MOST_ALTERNATIVES = 8
_LABEL_RULE = f"at most 63 {RULE_1123}"

Names = Mapping[str, frozenset[str]]  # a request and its alternatives


def judge_device_class(document: Table, judge: Judge) -> None:
    """resource.k8s.io DeviceClass."""
    spec = fields(document.get("spec"))
    judge_selectors(spec.get("selectors"), judge)
    _judge_config(spec.get("config"), {}, judge)
    name = spec.get("extendedResourceName")
    if name is not None and not is_extended_resource(content(name)):
        judge.invalid(
            name,
            "must be a valid extended resource name",
            "Write domain/name, where the domain is not in kubernetes.io.",
        )


def judge_claim(document: Table, judge: Judge) -> None:
    """resource.k8s.io ResourceClaim."""
    if content(document.get("apiVersion")) != "resource.k8s.io/v1beta1":
        _judge_devices(child(document, "spec", "devices"), judge)


def judge_claim_template(document: Table, judge: Judge) -> None:
    """resource.k8s.io ResourceClaimTemplate."""
    judge_keys(child(document, "spec", "metadata"), judge)
    if content(document.get("apiVersion")) != "resource.k8s.io/v1beta1":
        _judge_devices(child(document, "spec", "spec", "devices"), judge)


def _judge_devices(devices: Node | None, judge: Judge) -> None:
    inside = fields(devices)
    requests = inside.get("requests")
    at_most(requests, MOST, judge)
    names: dict[str, frozenset[str]] = {}
    for request in entries(requests):
        name = content(fields(request).get("name"))
        alternatives = entries(fields(request).get("firstAvailable"))
        _unique(request, names, judge)
        names[name] = frozenset(content(fields(one).get("name")) for one in alternatives)
        _judge_request(request, judge)
    _judge_constraints(inside.get("constraints"), names, judge)
    _judge_config(inside.get("config"), names, judge)


def _judge_request(request: Node, judge: Judge) -> None:
    inside = fields(request)
    _judge_request_name(request, judge)
    alternatives = entries(inside.get("firstAvailable"))
    if "exactly" in inside and alternatives:
        _exactly_one(request, "exactly and firstAvailable are", judge)
    elif "exactly" not in inside and not alternatives:
        _exactly_one(request, "neither of exactly and firstAvailable is", judge)
    elif "exactly" in inside:
        _judge_wanted(inside["exactly"], judge)
    else:
        at_most(inside["firstAvailable"], _MOST_ALTERNATIVES, judge)
        seen: dict[str, frozenset[str]] = {}
        for one in alternatives:
            _judge_request_name(one, judge)
            _unique(one, seen, judge)
            seen[content(fields(one).get("name"))] = frozenset()
            _judge_wanted(one, judge)


def _exactly_one(node: Node, what: str, judge: Judge) -> None:
    judge.say(node, "one-of", f"expected exactly one, but {what} set")


def _judge_request_name(request: Node, judge: Judge) -> None:
    name = fields(request).get("name")
    if name is None or not content(name):
        judge.missing(request, "name")
    elif not is_dns_label(content(name)):
        judge.invalid(name, f"a request's name has {_LABEL_RULE}")


def _judge_wanted(wanted: Node, judge: Judge) -> None:
    """What a request, or one alternative of it, asks for."""
    inside = fields(wanted)
    chosen = inside.get("deviceClassName")
    if chosen is None or not content(chosen):
        judge.missing(wanted, "deviceClassName")
    elif not is_subdomain(content(chosen)):
        judge.invalid(chosen, "must be the name of a DeviceClass")
    judge_selectors(inside.get("selectors"), judge)
    mode, count = inside.get("allocationMode"), inside.get("count")
    value = number(count)
    if content(mode) == "All":
        if count is not None and value:
            judge.invalid(count, "must not be specified when allocationMode is 'All'")
    elif content(mode) not in ("", "ExactCount") and mode is not None:
        message = f'unsupported value: "{content(mode)}": supported: "All", "ExactCount"'
        judge.say(mode, "unsupported-value", message)
    elif count is not None and value is not None and value < 0:  # 0 is filled in with 1
        judge.invalid(count, "must be greater than zero")
    judge_tolerations(inside.get("tolerations"), judge)
    admin = inside.get("adminAccess")
    if admin is not None and truth(admin):
        judge.say(
            admin,
            "feature-off",
            f"{admin.path}: admin access needs a label on the namespace",
            'Label the namespace resource.kubernetes.io/admin-access: "true".',
        )
    for name, node in fields(fields(inside.get("capacity")).get("requests")).items():
        if not is_qualified_id(name):
            judge.invalid(node, "a capacity is a C identifier, with or without domain/", shown=name)


def _judge_constraints(constraints: Node | None, names: Names, judge: Judge) -> None:
    at_most(constraints, MOST, judge)
    for constraint in entries(constraints):
        inside = fields(constraint)
        _judge_requests(inside.get("requests"), names, judge)
        kinds = ("matchAttribute", "distinctAttribute")
        chosen = [kind for kind in kinds if kind in inside]
        if len(chosen) > 1:
            judge.several(constraint, *chosen)
        elif not chosen:
            _exactly_one(constraint, "neither of matchAttribute and distinctAttribute is", judge)
        for kind in chosen:
            if not content(inside[kind]).count("/"):
                judge.invalid(
                    inside[kind],
                    "a fully qualified name must be a domain and a name separated by a slash",
                    f"Write domain/{content(inside[kind]) or 'name'}.",
                    shown=f'"{content(inside[kind])}"',
                )
            elif not is_qualified_id(content(inside[kind])):
                judge.invalid(inside[kind], "must be domain/name, the name a C identifier")


def _judge_config(config: Node | None, names: Names, judge: Judge) -> None:
    at_most(config, MOST, judge)
    for one in entries(config):
        inside = fields(one)
        _judge_requests(inside.get("requests"), names, judge)
        opaque = inside.get("opaque")
        if opaque is None:
            judge.missing(one, "opaque")
            continue
        driver, parameters = fields(opaque).get("driver"), fields(opaque).get("parameters")
        if driver is None or not content(driver):
            judge.missing(opaque, "driver")
        elif len(content(driver)) > 63 or not is_subdomain(content(driver).lower()):
            judge.invalid(driver, "must be the name of a driver: at most 63 characters of a domain")
        if parameters is None:
            judge.missing(opaque, "parameters")
        elif not isinstance(parameters, Table):
            judge.invalid(
                parameters, "parameters must be a valid JSON object", shown=parameters.what
            )


def _judge_requests(requests: Node | None, names: Names, judge: Judge) -> None:
    """References to requests (`name`) and alternatives (`name/alternative`)."""
    at_most(requests, MOST, judge)
    seen: set[str] = set()
    for node in entries(requests):
        text = content(node)
        request, slash, alternative = text.partition("/")
        known = request in names and (not slash or alternative in names[request])
        if not known:
            judge.invalid(
                node,
                "must be the name of a request in the claim or the name of a request and a "
                "subrequest separated by '/'",
            )
        if text in seen:
            judge.say(node, "duplicate-item", f'duplicate value: "{text}"')
        seen.add(text)


def _unique(one: Node, seen: Mapping[str, object], judge: Judge) -> None:
    name = fields(one).get("name")
    if name is not None and content(name) in seen:
        message = f'duplicate value: "{content(name)}"'
        judge.say(name, "duplicate-item", message, field=one.path)


RULES: dict[tuple[str, str], Callable[[Table, Judge], None]] = {
    ("resource.k8s.io", "DeviceClass"): judge_device_class,
    ("resource.k8s.io", "ResourceClaim"): judge_claim,
    ("resource.k8s.io", "ResourceClaimTemplate"): judge_claim_template,
}
