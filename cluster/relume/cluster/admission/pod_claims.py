"""Device claims of a pod: which it has, and which container uses which.

Source: kubernetes pkg/apis/core/validation/validation.go, validatePodResourceClaims and
validateContainerResourceClaims.
"""

from relume.cluster.admission.judge import Judge, child, content, entries, fields
from relume.cluster.admission.metadata import RULE_LABEL
from relume.cluster.admission.pod_volumes import containers_of
from relume.config.names import is_dns_label, is_subdomain
from relume.config.nodes import Node

_SOURCES = ("resourceClaimName", "resourceClaimTemplateName")


def judge_pod_claims(pod: Node, judge: Judge) -> None:
    """`resourceClaims` of the pod, and `resources.claims` of its containers."""
    names: set[str] = set()
    for claim in entries(pod, "resourceClaims"):
        name = child(claim, "name")
        if name is None or not content(name):
            judge.missing(claim, "name")
        elif content(name) in names:
            judge.repeated(name)
        elif not is_dns_label(content(name)):
            judge.invalid(name, f"a claim's name has {RULE_LABEL}")
        names.add(content(name))
        _judge_source(claim, judge)
    for container in containers_of(pod):
        used: set[tuple[str, str]] = set()
        for use in entries(container, "resources", "claims"):
            _judge_use(use, names, used, judge)


def _judge_source(claim: Node, judge: Judge) -> None:
    chosen = [source for source in _SOURCES if source in fields(claim)]
    words = " or ".join(f"`{source}`" for source in _SOURCES)
    if len(chosen) > 1:
        message = f"{claim.path}: at most one of {words} may be specified"
        judge.say(claim, "one-of", message)
    elif not chosen:
        message = f"{claim.path}: must specify one of: {words.replace(' or ', ', ')}"
        judge.say(claim, "one-of", message, f"Add {' or '.join(_SOURCES)}.")
    for source in chosen:
        node = fields(claim)[source]
        if not is_subdomain(content(node)):
            judge.invalid(node, "must be the name of an object")


def _judge_use(use: Node, names: set[str], used: set[tuple[str, str]], judge: Judge) -> None:
    name, request = child(use, "name"), content(use, "request")
    if name is None or not content(name):
        judge.missing(use, "name")
        return
    if content(name) not in names:
        message = f'not found: "{content(name)}": must be one of the names in resourceClaims'
        judge.say(name, "invalid-value", message, "Add the claim to the pod's resourceClaims.")
    # The claim as a whole uses every request of it too.
    if (content(name), request) in used or (content(name), "") in used:
        judge.repeated(name)
    used.add((content(name), request))
