"""What Kubernetes and KServe take as names."""

import re

from relume.config.nodes import Node

_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_DNS_1123_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_DNS_1123_SUBDOMAIN = re.compile(rf"{_DNS_1123_LABEL.pattern}(\.{_DNS_1123_LABEL.pattern})*")
_LABEL = 63
_SUBDOMAIN = 253
PREDICTOR_SUFFIX = "-predictor"


def namespace_name(node: Node) -> str:
    """A namespace: a DNS-1123 label."""
    name = node.text()
    if not _DNS_1123_LABEL.fullmatch(name) or len(name) > _LABEL:
        raise node.wrong(
            f"invalid value: {name}: a namespace has at most {_LABEL} lower case letters, digits "
            "and '-', and starts and ends with a letter or digit"
        )
    return name


def resource_name(node: Node) -> str:
    """A Broker or Trigger: a DNS-1123 subdomain."""
    name = node.text()
    if not _DNS_1123_SUBDOMAIN.fullmatch(name) or len(name) > _SUBDOMAIN:
        raise node.wrong(
            f"invalid value: {name}: a name has at most {_SUBDOMAIN} lower case letters, digits, "
            "'-' and '.', and starts and ends with a letter or digit"
        )
    return name


def service_name(node: Node) -> str:
    """An InferenceService: a DNS-1035 label that still is one with `-predictor` after it.

    KServe admits longer ones, and Knative then refuses the predictor.
    """
    name = node.text()
    if not _DNS_1035.fullmatch(name):
        raise node.wrong(
            f"invalid value: {name}: an InferenceService name must consist of lower case letters, "
            "digits and '-', start with a letter and end with a letter or digit"
        )
    if len(name) > _LABEL - len(PREDICTOR_SUFFIX):
        raise node.wrong(
            f"invalid value: {name}: not a DNS 1035 label with {PREDICTOR_SUFFIX} after it: "
            f"write at most {_LABEL - len(PREDICTOR_SUFFIX)} characters"
        )
    return name
