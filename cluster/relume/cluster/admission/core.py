"""Kubernetes' own kinds, as far as we write them: what the API server asks beyond their types.

Source: kubernetes pkg/apis/{core,apps,policy,networking,admissionregistration}/validation. A pod
template is judged here too; a pod that Knative makes is refused by the same rules, but later.
"""

import re
from collections.abc import Callable, Mapping

from relume.cluster.admission.judge import Judge, child, content, entries, fields, number
from relume.cluster.admission.metadata import judge_keys
from relume.cluster.admission.pod_rules import (
    PROTOCOLS,
    judge_port,
    judge_whole_pod,
    judge_words,
)
from relume.cluster.admission.settings import judge_settings
from relume.cluster.admission.syntax import (
    is_dns_label,
    is_qualified_name,
)
from relume.config.nodes import Node, Table

_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "Pod": (),
    "PodTemplate": ("template",),
    "Deployment": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}


def judge_workload(document: Table, judge: Judge) -> None:
    """A pod, or what makes pods of a template."""
    kind = content(document.get("kind"))
    owner = child(document, *_TEMPLATES[kind])
    if owner is None:
        return
    if _TEMPLATES[kind]:
        judge_keys(fields(owner).get("metadata"), judge)
    pod = fields(owner).get("spec")
    if pod is None:
        judge.missing(owner, "spec")
        return
    judge_words("pod", pod, judge)
    if not entries(fields(pod).get("containers")):
        judge.missing(pod, "containers")
    if kind in ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"):
        _judge_selector(document, owner, judge)
    judge_whole_pod(pod, judge)
    _judge_mounts(pod, judge)


def _judge_selector(document: Table, template: Node, judge: Judge) -> None:
    selector = child(document, "spec", "selector")
    labels = fields(child(template, "metadata", "labels"))
    for name, node in fields(child(selector, "matchLabels")).items():
        if content(labels.get(name)) != content(node):
            judge.say(
                node,
                "conflict",
                f"`selector` does not match template `labels`: {name}: {content(node)}",
                f"Write the label {name}: {content(node)} in spec.template.metadata.labels.",
                field="spec.template.metadata.labels",
            )
    if selector is not None and not fields(selector):
        judge.say(selector, "invalid-value", "empty selector is invalid for a workload")


def _judge_mounts(pod: Node, judge: Judge) -> None:
    volumes = {content(fields(v).get("name")) for v in entries(fields(pod).get("volumes"))}
    for volume in entries(fields(pod).get("volumes")):
        name = fields(volume).get("name")
        if name is not None and not is_dns_label(content(name)):
            judge.invalid(name, "a volume's name is a DNS-1123 label")
        sources = [source for source in fields(volume) if source != "name"]
        if len(sources) > 1:
            judge.several(volume, *sources)
    for list_ in ("initContainers", "containers"):
        for container in entries(fields(pod).get(list_)):
            for mount in entries(fields(container).get("volumeMounts")):
                name = fields(mount).get("name")
                if name is not None and content(name) not in volumes:
                    judge.say(name, "invalid-value", f'not found: "{content(name)}"')


def judge_config_map(document: Table, judge: Judge) -> None:
    """v1 ConfigMap and Secret: the names of keys."""
    for list_ in ("data", "binaryData", "stringData"):
        for name, node in fields(document.get(list_)).items():
            if not _KEY.fullmatch(name) or name in (".", ".."):
                judge.invalid(node, "a key has letters, digits, '-', '_' and '.'", shown=name)
    if content(document.get("kind")) == "ConfigMap":
        judge_settings(document, judge)


def judge_service(document: Table, judge: Judge) -> None:
    """v1 Service."""
    ports = entries(child(document, "spec", "ports"))
    kind = content(child(document, "spec", "type"))
    headless = content(child(document, "spec", "clusterIP")) == "None"
    if not ports and not headless and kind != "ExternalName":
        judge.missing(child(document, "spec") or document, "ports")
    names: set[str] = set()
    for port in ports:
        inside = fields(port)
        for name in ("port", "nodePort"):
            judge_port(inside.get(name), judge)
        name_node, text = inside.get("name"), content(inside.get("name"))
        if len(ports) > 1 and not text:
            judge.missing(port, "name")
        elif name_node is not None and text and not is_dns_label(text):
            judge.invalid(name_node, "must be a DNS-1123 label")
        elif name_node is not None and text in names:
            judge.say(name_node, "duplicate-item", f'duplicate value: "{text}"')
        names.add(text)


def judge_disruption_budget(document: Table, judge: Judge) -> None:
    """policy/v1 PodDisruptionBudget."""
    spec = child(document, "spec")
    both = [name for name in ("minAvailable", "maxUnavailable") if name in fields(spec)]
    if spec is not None and len(both) > 1:
        judge.several(spec, *both)
    for name in both:
        node = fields(spec)[name]
        share = content(node)
        if number(node) is None and not re.fullmatch(r"\d{1,3}%", share):
            judge.invalid(node, "must be a whole number or a percentage")


def judge_network_policy(document: Table, judge: Judge) -> None:
    """networking.k8s.io/v1 NetworkPolicy."""
    spec = fields(document.get("spec"))
    for node in entries(spec.get("policyTypes")):
        if content(node) not in ("Ingress", "Egress"):
            judge.say(node, "unsupported-value", f'unsupported value: "{content(node)}"')
    for way in ("ingress", "egress"):
        for rule in entries(spec.get(way)):
            for port in entries(fields(rule).get("ports")):
                judge_port(fields(port).get("port"), judge)
                protocol = fields(port).get("protocol")
                if protocol is not None and content(protocol) not in PROTOCOLS:
                    message = f'unsupported value: "{content(protocol)}"'
                    judge.say(protocol, "unsupported-value", message)


def judge_quota(document: Table, judge: Judge) -> None:
    """v1 ResourceQuota: the names of resources."""
    for name, node in fields(child(document, "spec", "hard")).items():
        if not is_qualified_name(name):
            judge.invalid(node, "must be a resource's name", shown=name)


RULES: dict[tuple[str, str], Callable[[Table, Judge], None]] = {
    ("", "ConfigMap"): judge_config_map,
    ("", "Secret"): judge_config_map,
    ("", "Service"): judge_service,
    ("", "ResourceQuota"): judge_quota,
    ("", "Pod"): judge_workload,
    ("", "PodTemplate"): judge_workload,
    **{
        ("apps", kind): judge_workload
        for kind in ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet")
    },
    **{("batch", kind): judge_workload for kind in ("Job", "CronJob")},
    ("policy", "PodDisruptionBudget"): judge_disruption_budget,
    ("networking.k8s.io", "NetworkPolicy"): judge_network_policy,
}
