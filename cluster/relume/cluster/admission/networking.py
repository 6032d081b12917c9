"""How pods are reached: v1 Service and NetworkPolicy.

Source: kubernetes pkg/apis/core/validation/validation.go (ValidateService) and
pkg/apis/networking/validation/validation.go.
"""

import ipaddress
import re

from relume.cluster.admission.judge import Judge, child, content, entries, fields, number
from relume.cluster.admission.metadata import is_qualified_name
from relume.cluster.admission.pods import PROTOCOLS, is_port_name, judge_port
from relume.config.names import is_dns_label, is_subdomain
from relume.config.nodes import Node, Scalar, Table

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_NODE_PORTS = (30000, 32767)  # the API server's --service-node-port-range as it ships
_POLICIES = ("Ingress", "Egress")
_EMPTY = re.compile(r"|None")


def judge_core_service(document: Table, judge: Judge) -> None:
    """v1 Service."""
    spec = document.get("spec") or document
    kind = content(spec, "type") or "ClusterIP"
    judge.check_word(child(spec, "type"), _TYPES)
    address = child(spec, "clusterIP")
    headless = content(address) == "None"
    if not entries(spec, "ports") and not headless and kind != "ExternalName":
        judge.missing(spec, "ports")
    if headless and kind in ("NodePort", "LoadBalancer"):
        message = f"may not be set to 'None' for {kind} services"
        judge.say(address or spec, "conflict", f"invalid value: None: {message}")
    elif address is not None and not _EMPTY.fullmatch(content(address)):
        if kind == "ExternalName":
            judge.not_allowed(address, ": may not be set for ExternalName services")
        elif judge.parsed(address, ipaddress.ip_address) is None:
            return
    if kind == "ExternalName":
        _judge_external_name(spec, judge)
    _judge_ports(spec, kind, judge)
    judge.check_word(child(spec, "sessionAffinity"), ("ClientIP", "None"))
    judge.check_word(child(spec, "internalTrafficPolicy"), ("Cluster", "Local"))
    outside = child(spec, "externalTrafficPolicy")
    judge.check_word(outside, ("Cluster", "Local"))
    reached = kind in ("NodePort", "LoadBalancer") or entries(spec, "externalIPs")
    if outside is not None and content(outside) and not reached:
        judge.invalid(outside, "may only be set for externally-accessible services")
    for name in ("loadBalancerSourceRanges", "loadBalancerClass"):
        node = child(spec, name)
        if node is not None and kind != "LoadBalancer":
            judge.not_allowed(node, ": may only be used when `type` is 'LoadBalancer'")


def _judge_external_name(spec: Node, judge: Judge) -> None:
    name = child(spec, "externalName")
    if name is None or not content(name):
        judge.missing(spec, "externalName")
    elif not is_subdomain(content(name).removesuffix(".")):
        judge.invalid(name, "must be the name of a host")


def _judge_ports(spec: Node, kind: str, judge: Judge) -> None:
    ports = entries(spec, "ports")
    names: set[str] = set()
    seen: set[tuple[str, str, int | None]] = set()
    for port in ports:
        judge_port(child(port, "port"), judge)
        _judge_name(port, names, judge, needed=len(ports) > 1)
        protocol = child(port, "protocol")
        judge.check_word(protocol, PROTOCOLS)
        for name in ("port", "nodePort"):
            key = (name, content(protocol) or "TCP", number(port, name))
            if key[2] and key in seen:
                where = port.path if name == "port" else f"{port.path}.nodePort"
                message = f"duplicate value: {key[1]} {key[2]}"
                judge.say(child(port, name) or port, "duplicate-item", message, field=where)
            seen.add(key)
        _judge_node_port(child(port, "nodePort"), kind, judge)
        _judge_target(child(port, "targetPort"), judge)
        application = child(port, "appProtocol")
        if application is not None and not is_qualified_name(content(application)):
            judge.invalid(application, "must be a name, with or without domain/ before it")


def _judge_name(port: Node, names: set[str], judge: Judge, *, needed: bool) -> None:
    name, text = child(port, "name"), content(port, "name")
    if needed and not text:
        judge.missing(port, "name")
    elif name is not None and text and not is_dns_label(text):
        judge.invalid(name, "must be a DNS-1123 label")
    elif name is not None and text in names:
        judge.repeated(name)
    names.add(text)


def _judge_node_port(node: Node | None, kind: str, judge: Judge) -> None:
    value = number(node)
    if node is None or not value:  # 0 is the same as none
        return
    if kind in ("ClusterIP", "ExternalName"):
        message = f"{node.path}: may not be used when `type` is '{kind}'"
        judge.say(node, "conflict", message, "Remove it, or write type: NodePort.")
    elif not _NODE_PORTS[0] <= value <= _NODE_PORTS[1]:
        low, high = _NODE_PORTS
        message = f"invalid value: {value}: provided port is not in the valid range"
        fix = f"Write a port from {low} to {high}, a cluster's range as it ships, or leave it out."
        judge.say(node, "out-of-range", f"{message}: {low}-{high}", fix)


def _judge_target(node: Node | None, judge: Judge) -> None:
    if isinstance(node, Scalar) and node.kind == "string":
        if not is_port_name(content(node)):
            judge.invalid(node, "at most 15 lower case letters, digits and '-', one a letter")
    else:
        judge_port(node, judge)


def judge_network_policy(document: Table, judge: Judge) -> None:
    """networking.k8s.io/v1 NetworkPolicy."""
    spec = document.get("spec")
    words = child(spec, "policyTypes")
    if words is not None and len(entries(words)) > len(_POLICIES):
        judge.invalid(words, "may not specify more than two policyTypes", shown=words.what)
    for node in entries(words):
        judge.check_word(node, _POLICIES, empty=False)
    for way, peers in (("ingress", "from"), ("egress", "to")):
        for rule in entries(spec, way):
            for port in entries(rule, "ports"):
                _judge_policy_port(port, judge)
            for peer in entries(rule, peers):
                _judge_peer(peer, judge)


def _judge_policy_port(port: Node, judge: Judge) -> None:
    judge.check_word(child(port, "protocol"), PROTOCOLS)
    first, last = child(port, "port"), child(port, "endPort")
    _judge_target(first, judge)
    low, high = number(first), number(last)
    if last is None:
        return
    if first is None:
        judge.invalid(last, "may not be specified when `port` is not specified")
    elif low is None:
        judge.invalid(last, "may not be specified when `port` is non-numeric")
    elif high is not None and high < low:
        judge.invalid(last, "must be greater than or equal to `port`")
    else:
        judge_port(last, judge)


def _judge_peer(peer: Node, judge: Judge) -> None:
    kinds, block = fields(peer), child(peer, "ipBlock")
    if not kinds:
        message = f"{peer.path}: must specify a peer"
        fix = "Write podSelector, namespaceSelector or ipBlock."
        judge.say(peer, "missing-field", message, fix)
    elif block is not None and len(kinds) > 1:
        message = f"{peer.path}: may not specify both ipBlock and another peer"
        judge.say(peer, "one-of", message, "Write two peers, one with the ipBlock.")
    if block is None:
        return
    judge.check_filled(block, "cidr")
    whole = _network(child(block, "cidr"), judge)
    for node in entries(block, "except"):
        part = _network(node, judge)
        if whole is None or part is None:
            continue
        inside = part.version == whole.version and part.network_address in whole
        if not inside or part.prefixlen <= whole.prefixlen:
            judge.invalid(node, "must be a strict subset of `cidr`")


def _network(
    node: Node | None, judge: Judge
) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    if node is None or not content(node):
        return None
    if "/" not in content(node):
        judge.invalid(node, "must be a valid CIDR address", "Write address/bits: 10.0.0.0/8.")
        return None
    return judge.parsed(node, lambda text: ipaddress.ip_network(text, strict=False))
