"""KServe's LLMInferenceService and its Config, as KServe's webhooks judge them.

Source: kserve/kserve pkg/apis/serving/{v1alpha1,v1alpha2}/llm_inference_service*_validation.go,
pkg/validation/{managed_dra,confidential}.go, and the rules in the CRDs.
"""

import re

from relume.base.vocabulary import MANAGED_DRA
from relume.cluster.admission.go_templates import open_blocks, template_error
from relume.cluster.admission.judge import Judge, child, content, entries, fields, number, truth
from relume.cluster.admission.llm_workloads import judge_actuators, judge_scaling, judge_workload
from relume.cluster.admission.metadata import RULE_LABEL
from relume.config.names import is_dns_label, is_subdomain
from relume.config.nodes import Items, Node, Scalar, Table

_RESOURCE_ID = re.compile(r"kbs:///[a-zA-Z0-9_.-]+/[a-zA-Z0-9_.-]+/[a-zA-Z0-9_.-]+")
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")


def judge_llm_service(document: Table, judge: Judge) -> None:
    """serving.kserve.io LLMInferenceService, in both versions."""
    spec = document.get("spec")
    if spec is None:
        return
    _judge_routes(document, child(spec, "router"), judge)
    _judge_shares(child(spec, "router"), judge)
    for workload in (spec, child(spec, "prefill")):
        if workload is not None:
            judge_workload(workload, judge)
    judge_actuators(child(spec, "scaling"), child(spec, "prefill", "scaling"), judge)
    _judge_scheduler(child(spec, "router", "scheduler"), judge)
    if content(document, "apiVersion").endswith("v1alpha2"):
        _judge_pool(child(spec, "router", "scheduler", "pool", "spec"), judge)
    base = content(spec, "model", "name") or content(document, "metadata", "name")
    _judge_adapters(child(spec, "model", "lora", "adapters"), base, judge)
    _judge_confidential(child(spec, "model", "confidential"), judge)
    _judge_devices(child(document, "metadata", "annotations"), judge)


def judge_llm_config(document: Table, judge: Judge) -> None:
    """serving.kserve.io LLMInferenceServiceConfig: a template of the service's spec."""
    base = child(document, "spec", "baseRefs")
    if base is not None and entries(base):
        judge.not_allowed(base, ": a config does not refer to another one")
    _judge_scheduler_replicas(child(document, "spec", "router", "scheduler"), judge)
    for workload in (child(document, "spec"), child(document, "spec", "prefill")):
        if workload is not None:
            judge_scaling(workload, judge)
    texts = _texts(document)
    if (depth := sum(open_blocks(node.content) for node in texts)) != 0:
        node = next(one for one in texts if open_blocks(one.content))
        why = "a block has no {{ end }}" if depth > 0 else "an {{ end }} has no block"
        message = f"failed to parse template config: {why}"
        judge.say(node, "invalid-expression", message, "Write an {{ end }} for each block.")
    for node in texts:
        if (wrong := template_error(node.content)) is not None:
            message = f"failed to parse template config: {wrong}"
            judge.say(node, "invalid-expression", message, "Correct the template in {{ }}.")


def _texts(node: Node) -> list[Scalar]:
    """Every text in a document; a Config is read as one Go template."""
    if isinstance(node, Table):
        return [text for _, below in node for text in _texts(below)]
    if isinstance(node, Items):
        return [text for below in node.nodes for text in _texts(below)]
    return [node] if isinstance(node, Scalar) and node.kind == "string" else []


def _judge_routes(document: Table, router: Node | None, judge: Judge) -> None:
    """HTTPRoutes and Gateways: each is the user's own, or the controller's."""
    http, gateway = child(router, "route", "http"), child(router, "gateway")
    if http is None:
        return
    refs, spec = entries(http, "refs"), child(http, "spec")
    if refs and spec is not None:
        message = "cannot use both custom HTTPRoute refs and an inline route spec; choose one"
        judge.say(http, "conflict", message)
    if refs and gateway is not None and not entries(gateway, "refs"):
        message = f"custom HTTP routes cannot be used with a managed gateway ({gateway.path})"
        fix = f"Remove the refs, or write {gateway.path}.refs."
        judge.say(fields(http)["refs"], "conflict", message, fix)
    parents, own = entries(spec, "parentRefs"), entries(gateway, "refs")
    if spec is not None:
        message = "the rules of Gateway API for an HTTPRoute were not judged, only its fields"
        judge.say(spec, "fields-only", message)
    both = spec is not None and parents and own
    same = sorted(map(_reference, parents)) == sorted(map(_reference, own))
    if both and not (same and content(document, "apiVersion").endswith("v1alpha2")):
        assert spec is not None
        message = "the route has parentRefs that conflict with custom gateway refs"
        judge.say(spec, "conflict", message, f"Remove {spec.path}.parentRefs.")


def _reference(node: Node) -> tuple[str, ...]:
    return tuple(content(node, name) for name in ("namespace", "name", "sectionName"))


def _judge_shares(router: Node | None, judge: Judge) -> None:
    """`group` and `weight` of a route: services that share the requests for one model."""
    route = child(router, "route")
    group, weight = child(route, "group"), child(route, "weight")
    if route is None or (group is None and weight is None):
        return
    if child(router, "ingress") is not None:
        message = "traffic splitting requires Gateway API routing: the controller manages "
        message += "HTTPRoutes, not Ingress resources"
        judge.say(route, "conflict", message, field=f"{route.path}.group")
    elif group is None or weight is None:
        judge.missing(route, "group" if group is None else "weight")
    elif entries(route, "http", "refs"):
        message = "traffic splitting cannot be used with custom HTTPRoute refs"
        judge.say(group, "conflict", message, "Remove route.http.refs.")


def _judge_scheduler_replicas(scheduler: Node | None, judge: Judge) -> None:
    replicas, value = child(scheduler, "replicas"), number(scheduler, "replicas")
    if replicas is not None and value is not None and value <= 0:
        judge.invalid(replicas, "scheduler replicas must be greater than zero")


def _judge_scheduler(scheduler: Node | None, judge: Judge) -> None:
    """The scheduler has one config: written here, or in a ConfigMap."""
    _judge_scheduler_replicas(scheduler, judge)
    config = child(scheduler, "config")
    if config is None:
        return
    inline, reference = child(config, "inline"), child(config, "ref")
    judge.check_one_of(config, "inline", "ref")
    if isinstance(inline, Table) and not inline.entries:
        judge.invalid(inline, "inline configuration is invalid", shown="{}")
    if reference is not None:
        judge.check_filled(reference, "name")


def _judge_pool(pool: Node | None, judge: Judge) -> None:
    """An InferencePool that is written here; the CRD of v1alpha2 has rules for it."""
    picker = child(pool, "endpointPickerRef")
    service = content(picker, "kind") in ("", "Service")
    if picker is not None and service and child(picker, "port") is None:
        judge.missing(picker, "port")
    ports: set[int | None] = set()
    for port in entries(pool, "targetPorts"):
        node = child(port, "number")
        if node is not None and number(node) in ports:
            judge.repeated(node)
        ports.add(number(node))


def _judge_adapters(adapters: Node | None, base: str, judge: Judge) -> None:
    """LoRA adapters, which requests name beside the base model."""
    seen: dict[str, int] = {}
    for position, adapter in enumerate(entries(adapters)):
        name, text = child(adapter, "name"), content(adapter, "name")
        if name is None or not text:
            judge.missing(adapter, "name")
            continue
        if text in (".", ".."):
            judge.invalid(name, 'adapter name must not include "." or ".."')
        elif text in seen:
            message = f"duplicate name (same as adapters[{seen[text]}])"
            judge.say(name, "duplicate-item", f"invalid value: {text}: {message}")
        if text == base:
            judge.invalid(name, f'adapter name must differ from base model name "{base}"')
        seen.setdefault(text, position)


def _judge_confidential(confidential: Node | None, judge: Judge) -> None:
    identity = child(confidential, "resourceId")
    if identity is None or not truth(confidential, "enabled") or not content(identity):
        return
    if not _RESOURCE_ID.fullmatch(content(identity)):
        judge.invalid(identity, "must be in the format kbs:///<repo>/<type>/<tag>")


def _judge_devices(annotations: Node | None, judge: Judge) -> None:
    """Annotations by which KServe writes a ResourceClaimTemplate for the service."""
    found = {
        name.removeprefix(MANAGED_DRA): node
        for name, node in fields(annotations).items()
        if name.startswith(MANAGED_DRA)
    }
    known = ("device-class", "device-count", "cel-selector", "container-name")
    asked = [node for name, node in found.items() if name in known]
    if asked and "device-class" not in found:
        field = f"metadata.annotations[{MANAGED_DRA}device-class]"
        message = (
            f"{MANAGED_DRA}device-class is required where another annotation of the claim is set"
        )
        judge.say(asked[0], "missing-field", message, "Name a DeviceClass.", field=field)
    if (name := found.get("device-class")) is not None and not is_subdomain(content(name).strip()):
        judge.invalid(name, "the name of a DeviceClass is a DNS subdomain")
    count = found.get("device-count")
    text = content(count).strip()
    if count is not None and text and (not _WHOLE.fullmatch(text) or int(text) < 1):
        judge.invalid(count, "must be a whole number, at least 1")
    selector = found.get("cel-selector")
    if selector is not None and not content(selector).strip():
        judge.invalid(selector, "must hold a CEL expression", shown='""')
    container = found.get("container-name")
    if container is not None and not is_dns_label(content(container).strip()):
        judge.invalid(container, f"the name of a container has {RULE_LABEL}")
