"""networking.k8s.io/v1 Ingress.

Source: kubernetes pkg/apis/networking/validation/validation.go, ValidateIngressSpec.
"""

import ipaddress

from relume.cluster.admission.judge import Judge, child, content, entries, fields
from relume.cluster.admission.pods import is_port_name, judge_port
from relume.config.names import is_dns1035_label, is_subdomain
from relume.config.nodes import Node, Table

_KINDS = ("Exact", "ImplementationSpecific", "Prefix")
_FORBIDDEN = ("//", "/./", "/../", "%2f", "%2F")


def judge_ingress(document: Table, judge: Judge) -> None:
    """Its rules, and what answers where none fits."""
    spec = document.get("spec") or document
    backend = child(spec, "defaultBackend")
    if not entries(spec, "rules") and backend is None:
        judge.missing(spec, "defaultBackend", "rules", reason="one-of", path="spec")
    _judge_backend(backend, judge)
    for rule in entries(spec, "rules"):
        _judge_host(child(rule, "host"), judge)
        paths = child(rule, "http", "paths")
        if child(rule, "http") is not None and not entries(paths):
            judge.missing(child(rule, "http") or rule, "paths")
        for path in entries(paths):
            _judge_path(path, judge)
            _judge_backend(child(path, "backend"), judge)
    for one in entries(spec, "tls"):
        for host in entries(one, "hosts"):
            _judge_host(host, judge)


def _judge_host(host: Node | None, judge: Judge) -> None:
    text = content(host)
    if host is None or not text:
        return
    try:
        ipaddress.ip_address(text)
        judge.invalid(host, "must be a DNS name, not an IP address")
    except ValueError:
        if not is_subdomain(text.removeprefix("*.")):
            judge.invalid(host, "must be a DNS name, or *. and one")


def _judge_path(path: Node, judge: Judge) -> None:
    kind, where = child(path, "pathType"), child(path, "path")
    if kind is None:
        judge.missing(path, "pathType")
        return
    judge.check_word(kind, _KINDS, empty=False)
    text = content(where)
    if content(kind) == "ImplementationSpecific" and not text:
        return
    if not text.startswith("/"):
        judge.say(
            where or path,
            "invalid-value",
            f"invalid value: {text}: must be an absolute path",
            "Begin it with /.",
            field=f"{path.path}.path",
        )
    elif content(kind) != "ImplementationSpecific" and where is not None and _is_twisted(text):
        judge.invalid(where, "must not contain //, /./, /../ or an escaped /")


def _is_twisted(path: str) -> bool:
    return any(part in path for part in _FORBIDDEN) or path.endswith(("/..", "/."))


def _judge_backend(backend: Node | None, judge: Judge) -> None:
    """A Service and one of its ports, or another object."""
    if backend is None:
        return
    judge.check_one_of(backend, "service", "resource")
    service = child(backend, "service")
    if service is None:
        return
    name = child(service, "name")
    if name is None or not content(name):
        judge.missing(service, "name")
    elif not is_dns1035_label(content(name)):
        judge.invalid(name, "must be the name of a Service")
    port = child(service, "port")
    chosen = [one for one in ("name", "number") if content(port, one) not in ("", "0")]
    if len(chosen) > 1 and port is not None:
        judge.several(port, *chosen)
    elif not chosen:
        message = f"{service.path}: port name or number is required"
        judge.say(port or service, "missing-field", message, "Write port: {number: 80}.")
    elif chosen == ["number"]:
        judge_port(fields(port)["number"], judge)
    elif not is_port_name(content(port, "name")):
        judge.invalid(fields(port)["name"], "must be the name of a port")
