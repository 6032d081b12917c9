"""DRA's kinds, as the API server judges them: classes, claims, and slices of devices.

Source: kubernetes pkg/apis/resource/validation/validation.go and the limits in the API's types
(resource.k8s.io/v1). The field names are v1's; of v1beta1, where a request is flat, only the schema
is checked.
"""

import re
from collections.abc import Container, Mapping

from relume.cluster.admission.judge import Judge, child, content, entries, fields, number, truth
from relume.cluster.admission.metadata import RULE_LABEL
from relume.cluster.admission.pods import is_extended_resource, judge_toleration
from relume.cluster.admission.volume_claims import judge_template_metadata
from relume.config.names import is_dns_label, is_subdomain
from relume.config.nodes import Node, Table

_MOST = 32  # requests, constraints, configurations, selectors
_MOST_ALTERNATIVES = 8
_MOST_TOLERATIONS = 16
_MOST_DEVICES = 128
_MOST_ADVANCED = 64  # devices of a slice where some have taints or consume counters
_LONGEST_EXPRESSION = 10 << 10  # bytes
_LONGEST_VALUE = 64
_OLD = "resource.k8s.io/v1beta1"
_EFFECTS = ("NoExecute", "NoSchedule")
_PLACES = ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}")
# Of the libraries in apiserver/pkg/cel/environment/base.go, those that our evaluator has not.
_LIBRARIES = ("url", "isURL", "ip", "isIP", "cidr", "isCIDR", "format", "sets")
_UNDECLARED = re.compile(r"undeclared reference to '(\w+)'")

RequestNames = Mapping[str, frozenset[str]]  # a request and its alternatives


def judge_device_class(document: Table, judge: Judge) -> None:
    """resource.k8s.io DeviceClass."""
    spec = document.get("spec")
    _judge_selectors(child(spec, "selectors"), judge)
    _judge_config(child(spec, "config"), {}, judge)
    name = child(spec, "extendedResourceName")
    if name is not None and not is_extended_resource(content(name)):
        fix = "Write domain/name, where the domain is not in kubernetes.io."
        judge.invalid(name, "must be a valid extended resource name", fix)


def judge_claim(document: Table, judge: Judge) -> None:
    """resource.k8s.io ResourceClaim."""
    if content(document, "apiVersion") != _OLD:
        admin = _is_labelled(document, judge)
        _judge_claim_spec(child(document, "spec", "devices"), judge, admin=admin)


def judge_claim_template(document: Table, judge: Judge) -> None:
    """resource.k8s.io ResourceClaimTemplate."""
    judge_template_metadata(child(document, "spec", "metadata"), judge)
    if content(document, "apiVersion") != _OLD:
        admin = _is_labelled(document, judge)
        _judge_claim_spec(child(document, "spec", "spec", "devices"), judge, admin=admin)


def _is_labelled(document: Table, judge: Judge) -> bool:
    """Whether the namespace of a claim lets it have admin access."""
    namespace = content(document, "metadata", "namespace") or "default"
    return namespace in judge.cluster.admin_namespaces


def _judge_claim_spec(devices: Node | None, judge: Judge, *, admin: bool) -> None:
    requests = child(devices, "requests")
    _at_most(requests, _MOST, judge)
    names: dict[str, frozenset[str]] = {}
    for request in entries(requests):
        _judge_name(request, names, judge)
        alternatives = entries(request, "firstAvailable")
        names[content(request, "name")] = frozenset(content(one, "name") for one in alternatives)
        _judge_request(request, judge, admin=admin)
    _judge_constraints(child(devices, "constraints"), names, judge)
    _judge_config(child(devices, "config"), names, judge)


def _judge_request(request: Node, judge: Judge, *, admin: bool) -> None:
    exactly, several = child(request, "exactly"), child(request, "firstAvailable")
    alternatives = entries(several)
    if exactly is not None and alternatives:
        _exactly_one(request, "exactly and firstAvailable are", judge)
    elif exactly is None and not alternatives:
        _exactly_one(request, "neither of exactly and firstAvailable is", judge)
    elif exactly is not None:
        _judge_wanted(exactly, judge, admin=admin)
    else:
        _at_most(several, _MOST_ALTERNATIVES, judge)
        seen: set[str] = set()
        for one in alternatives:
            _judge_name(one, seen, judge)
            seen.add(content(one, "name"))
            _judge_wanted(one, judge, admin=admin)


def _exactly_one(node: Node, what: str, judge: Judge) -> None:
    judge.say(node, "one-of", f"expected exactly one, but {what} set")


def _judge_name(request: Node, seen: Container[str], judge: Judge) -> None:
    """The name of a request, or of an alternative: `seen` are those before it."""
    name = child(request, "name")
    if name is not None and content(name) in seen:
        judge.repeated(name, field=request.path)
    if name is None or not content(name):
        judge.missing(request, "name")
    elif not is_dns_label(content(name)):
        judge.invalid(name, f"a request's name has {RULE_LABEL}")


def _judge_wanted(wanted: Node, judge: Judge, *, admin: bool) -> None:
    """What a request, or one alternative of it, asks for; `admin`: it may ask for admin access."""
    chosen = child(wanted, "deviceClassName")
    if chosen is None or not content(chosen):
        judge.missing(wanted, "deviceClassName")
    elif not is_subdomain(content(chosen)):
        judge.invalid(chosen, "must be the name of a DeviceClass")
    _judge_selectors(child(wanted, "selectors"), judge)
    mode, count = child(wanted, "allocationMode"), child(wanted, "count")
    judge.check_word(mode, ("All", "ExactCount"))
    if count is not None and (value := number(count)):  # 0 is filled in with 1
        if content(mode) == "All":
            judge.invalid(count, "must not be specified when allocationMode is 'All'")
        elif content(mode) in ("", "ExactCount") and value < 0:
            judge.invalid(count, "must be greater than zero")
    _at_most(child(wanted, "tolerations"), _MOST_TOLERATIONS, judge)
    for toleration in entries(wanted, "tolerations"):
        judge_toleration(toleration, judge, _EFFECTS)
    access = child(wanted, "adminAccess")
    if access is not None and truth(access) and not admin:
        message = f"{access.path}: admin access needs a label on the namespace"
        fix = 'Label the namespace resource.kubernetes.io/admin-access: "true".'
        judge.say(access, "feature-off", message, fix)
    for name, node in fields(wanted, "capacity", "requests").items():
        if not _is_qualified_id(name):
            judge.invalid(node, "a capacity is a C identifier, with or without domain/", shown=name)


def _judge_selectors(selectors: Node | None, judge: Judge) -> None:
    """Each selector holds one expression that compiles."""
    _at_most(selectors, _MOST, judge)
    for selector in entries(selectors):
        cel, expression = child(selector, "cel"), child(selector, "cel", "expression")
        if cel is None:
            judge.missing(selector, "cel")
        elif expression is None or not content(expression):
            judge.missing(cel, "expression")
        else:
            _judge_expression(expression, judge)


def _judge_expression(node: Node, judge: Judge) -> None:
    text = content(node)
    if len(text.encode()) > _LONGEST_EXPRESSION:
        message = f"too long: must have at most {_LONGEST_EXPRESSION} bytes"
        judge.say(node, "too-many", message)
        return
    # An evaluator of CEL takes a tenth of a second to load: only where there is an expression.
    from relume.cluster.claims.expressions import CelError, compile_expression

    try:
        compile_expression(text)
    except CelError as error:
        unknown = _UNDECLARED.search(str(error))
        if unknown is not None and unknown[1] in _LIBRARIES:
            return  # the API server has the function, our evaluator does not
        message = f'invalid value: "{text}": compilation failed: {error}'
        judge.say(node, "invalid-expression", message)


def _judge_constraints(constraints: Node | None, names: RequestNames, judge: Judge) -> None:
    _at_most(constraints, _MOST, judge)
    for constraint in entries(constraints):
        inside = fields(constraint)
        _judge_references(inside.get("requests"), names, judge)
        chosen = [kind for kind in ("matchAttribute", "distinctAttribute") if kind in inside]
        if len(chosen) > 1:
            judge.several(constraint, *chosen)
        elif not chosen:
            _exactly_one(constraint, "neither of matchAttribute and distinctAttribute is", judge)
        for node in (inside[kind] for kind in chosen):
            if "/" not in content(node):
                judge.invalid(
                    node,
                    "a fully qualified name must be a domain and a name separated by a slash",
                    f"Write domain/{content(node) or 'name'}.",
                    shown=f'"{content(node)}"',
                )
            elif not _is_qualified_id(content(node)):
                judge.invalid(node, "must be domain/name, the name a C identifier")


def _judge_config(config: Node | None, names: RequestNames, judge: Judge) -> None:
    _at_most(config, _MOST, judge)
    for one in entries(config):
        _judge_references(child(one, "requests"), names, judge)
        opaque = child(one, "opaque")
        if opaque is None:
            judge.missing(one, "opaque")
            continue
        driver, parameters = child(opaque, "driver"), child(opaque, "parameters")
        if driver is None or not content(driver):
            judge.missing(opaque, "driver")
        elif not _is_driver(content(driver).lower()):
            judge.invalid(driver, "must be the name of a driver: at most 63 characters of a domain")
        if parameters is None:
            judge.missing(opaque, "parameters")
        elif not isinstance(parameters, Table):
            why = "parameters must be a valid JSON object"
            judge.invalid(parameters, why, shown=parameters.what)


def _judge_references(requests: Node | None, names: RequestNames, judge: Judge) -> None:
    """References to requests (`name`) and alternatives (`name/alternative`)."""
    _at_most(requests, _MOST, judge)
    seen: set[str] = set()
    for node in entries(requests):
        request, slash, alternative = content(node).partition("/")
        if request not in names or (slash and alternative not in names[request]):
            judge.invalid(
                node,
                "must be the name of a request in the claim or the name of a request and a "
                "subrequest separated by '/'",
            )
        if content(node) in seen:
            judge.repeated(node)
        seen.add(content(node))


def judge_slice(document: Table, judge: Judge) -> None:
    """resource.k8s.io/v1 ResourceSlice: what a driver, or an inventory file, publishes."""
    if content(document, "apiVersion") == _OLD:
        return
    spec = document.get("spec") or document
    inside = fields(spec)
    driver = inside.get("driver")
    if driver is not None and not _is_driver(content(driver)):
        judge.invalid(driver, "must be a domain of at most 63 characters")
    for name, least in (("generation", 0), ("resourceSliceCount", 1)):
        node, value = child(spec, "pool", name), number(spec, "pool", name)
        if node is not None and value is not None and value < least:
            judge.invalid(node, f"must be at least {least}")
    for name in judge.check_one_of(spec, *_PLACES):
        if name in ("allNodes", "perDeviceNodeSelection") and not truth(inside[name]):
            judge.invalid(inside[name], "must be either unset or set to true")
    if "devices" in inside and "sharedCounters" in inside:
        judge.several(spec, "devices", "sharedCounters")
    devices = inside.get("devices")
    advanced = {"taints", "consumesCounters"}
    many = any(advanced & fields(device).keys() for device in entries(devices))
    _at_most(devices, _MOST_ADVANCED if many else _MOST_DEVICES, judge)
    names: set[str] = set()
    for device in entries(devices):
        _judge_device(device, names, judge)


def _judge_device(device: Node, names: set[str], judge: Judge) -> None:
    name = child(device, "name")
    if name is None or not is_dns_label(content(name)):
        why = "a device's name is a DNS-1123 label"
        judge.invalid(name or device, why, shown=content(name))
    elif content(name) in names:
        judge.repeated(name)
    names.add(content(name))
    for key, node in (*fields(device, "attributes").items(), *fields(device, "capacity").items()):
        if not _is_qualified_id(key):
            judge.invalid(node, "must be a C identifier, with or without domain/", shown=key)
    for attribute in fields(device, "attributes").values():
        if len(fields(attribute)) != 1:
            judge.say(attribute, "one-of", "exactly one value must be specified")
        text = child(attribute, "string")
        if text is not None and len(content(text)) > _LONGEST_VALUE:
            message = f"Too long: must have at most {_LONGEST_VALUE} characters"
            judge.say(text, "too-many", message)


def _is_driver(text: str) -> bool:
    return len(text) <= 63 and is_subdomain(text)


def _is_qualified_id(text: str) -> bool:
    """A C identifier of at most 32 characters, with or without a domain of at most 63 before it."""
    domain, slash, name = text.rpartition("/")
    return (not slash or _is_driver(domain)) and _IDENTIFIER.fullmatch(name) is not None


def _at_most(items: Node | None, most: int, judge: Judge) -> None:
    if items is not None and len(entries(items)) > most:
        message = f"Too many: {len(entries(items))}: must have at most {most} items"
        judge.say(items, "too-many", message)
