"""KServe's smaller kinds, as its webhooks judge them: graphs of services, and trained models.

Source: kserve/kserve pkg/apis/serving/v1alpha1/inference_graph_validation.go and
trainedmodel_webhook.go.
"""

import re

from relume.cluster.admission.judge import Judge, child, content, entries, fields, number
from relume.config.names import DNS_1035
from relume.config.nodes import Node, Table

_TRAINED = re.compile(r"[a-zA-Z0-9_-]+")
_TARGETS = ("nodeName", "serviceName", "serviceUrl")
_STORAGE = ("s3://", "gs://", "https://", "http://")
_ROOT = "root"


def judge_graph(document: Table, judge: Judge) -> None:
    """serving.kserve.io/v1alpha1 InferenceGraph."""
    name = child(document, "metadata", "name")
    if name is not None and content(name) and not DNS_1035.fullmatch(content(name)):
        message = f"invalid value: {content(name)}: an InferenceGraph name must consist of lower "
        message += "case letters, digits and '-', and start with a letter"
        judge.say(name, "invalid-name", message)
    spec = document.get("spec") or document
    nodes = fields(spec, "nodes")
    if nodes and _ROOT not in nodes:
        message = "root node not found, InferenceGraph needs a node with name 'root'"
        fix = f"Name the first node root: now there are {', '.join(nodes)}."
        judge.say(fields(spec)["nodes"], "missing-field", message, fix)
    for node in nodes.values():
        _judge_steps(node, judge)
        if content(node, "routerType") == "Splitter":
            _judge_weights(node, judge)


def _judge_steps(node: Node, judge: Judge) -> None:
    """Each step has a name of its own, if any, and one target."""
    names: set[str] = set()
    for step in entries(node, "steps"):
        name = child(step, "name")
        if name is not None and content(name) and content(name) in names:
            judge.repeated(name)
        names.add(content(name))
        chosen = [target for target in _TARGETS if content(step, target)]
        if len(chosen) > 1:
            judge.several(step, *chosen)
        elif not chosen:
            judge.missing(step, *_TARGETS, reason="one-of")


def _judge_weights(node: Node, judge: Judge) -> None:
    """The steps of a splitter share all requests between them."""
    total = 0
    for step in entries(node, "steps"):
        weight = child(step, "weight")
        if weight is None:
            judge.missing(step, "weight")
        total += number(weight) or 0
    if total != 100 and all(child(step, "weight") is not None for step in entries(node, "steps")):
        message = "the sum of traffic weights for all routing targets should be 100"
        judge.say(node, "conflict", f"{message}: it is {total}", field=f"{node.path}.steps")


def judge_trained_model(document: Table, judge: Judge) -> None:
    """serving.kserve.io/v1alpha1 TrainedModel."""
    name = child(document, "metadata", "name")
    if name is not None and content(name) and not _TRAINED.fullmatch(content(name)):
        message = f"invalid value: {content(name)}: write letters, digits, '_' and '-'"
        judge.say(name, "invalid-name", message)
    uri = child(document, "spec", "model", "storageUri")
    if uri is not None and not content(uri).startswith(_STORAGE):
        judge.invalid(uri, f"it must start with one of the prefixes: {', '.join(_STORAGE)}")
