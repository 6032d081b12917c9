"""serving.knative.dev/v1beta1 DomainMapping: a host name of one's own for a service.

Source: knative/serving pkg/apis/serving/v1beta1/domainmapping_validation.go, knative/pkg
apis/duck/v1/knative_reference.go.
"""

from relume.cluster.admission.delivery import judge_reference
from relume.cluster.admission.judge import Judge, child, content
from relume.config.names import is_dns_label, is_subdomain
from relume.config.nodes import Table

_CLUSTER_DOMAIN = "cluster.local"


def judge_domain_mapping(document: Table, judge: Judge) -> None:
    """Its name, which is the host's, and what answers under it."""
    generated, name = (child(document, "metadata", one) for one in ("generateName", "name"))
    if generated is not None and content(generated):
        judge.not_allowed(generated)
    if name is not None and content(name):
        labels = content(name).removesuffix(".").split(".")
        why = ""
        if not is_subdomain(content(name)) or not all(map(is_dns_label, labels)):
            why = "should be a domain of lower case letters, digits, '-' and '.'"
        elif len(labels) < 2:
            why = "should be a domain with at least two segments separated by dots"
        elif content(name).endswith(f".{_CLUSTER_DOMAIN}"):
            why = f'must not be a subdomain of cluster local domain "{_CLUSTER_DOMAIN}"'
        if why:
            message = f'invalid name "{content(name)}": {why}'
            judge.say(name, "invalid-name", message, "Write a host's whole name.")
    reference = child(document, "spec", "ref")
    if reference is None:
        for field in ("name", "kind", "apiVersion"):
            judge.missing(child(document, "spec") or document, field, path="spec.ref")
        return
    judge_reference(reference, judge)
    own, other = content(document, "metadata", "namespace"), child(reference, "namespace")
    if other is not None and own and content(other) not in ("", own):
        message = f'mismatched namespaces: "{own}" does not match ref: "{content(other)}"'
        judge.say(other, "conflict", message, f"Write {own}, or leave the namespace out.")
