"""Other predictors beside the one of an InferenceService, each with a share of the requests.

Source: kserve/kserve pkg/apis/serving/v1beta1/inference_service_validation.go.
"""

from relume.base.vocabulary import DEPLOYMENT_MODE
from relume.cluster.admission.judge import Judge, child, content, entries, fields, number
from relume.cluster.admission.kserve_scaling import judge_replicas
from relume.config.nodes import Node, Table

_FIXED = ("workerSpec", "scaleTarget", "scaleMetric", "autoScaling")


def judge_canaries(document: Table, judge: Judge) -> None:
    """`spec.canary`."""
    spec = fields(document.get("spec"))
    canaries = entries(spec.get("canary"))
    if not canaries:
        return
    said = content(fields(child(document, "metadata", "annotations")).get(DEPLOYMENT_MODE))
    if said not in ("Standard", "RawDeployment"):
        message = "canary is only supported in Standard deployment mode"
        judge.say(spec["canary"], "not-allowed", message)
    stable = fields(spec.get("predictor"))
    names, total = {content(stable.get("name"))}, 0
    for canary in canaries:
        total += _judge_share(canary, judge)
        _judge_predictor(canary, names, stable.get("minReplicas"), judge)
    if total > 100:
        message = f"trafficPercent of all canaries is {total} > 100"
        judge.say(canaries[0], "out-of-range", message, field=spec["canary"].path)


def _judge_share(canary: Node, judge: Judge) -> int:
    share = fields(canary).get("trafficPercent")
    value = number(share) or 0
    if share is not None and not 0 <= value <= 100:
        judge.bounds(share, 0, 100)
    return value


def _judge_predictor(canary: Node, names: set[str], least: Node | None, judge: Judge) -> None:
    """A name of its own, and a number of replicas that does not change."""
    predictor = fields(canary).get("predictor")
    path = f"{canary.path}.predictor"
    name = fields(predictor).get("name")
    if name is None or not content(name):
        judge.missing(predictor or canary, "name", path=path)
    elif content(name) in names:
        message = f'predictor.name "{content(name)}" is there already'
        judge.say(name, "duplicate-item", message)
    names.add(content(name))
    if not isinstance(predictor, Table):
        return
    judge_replicas(predictor, judge)
    most = predictor.get("maxReplicas")
    for field in _FIXED:
        node = predictor.get(field)
        if node is not None:
            judge.say(node, "not-allowed", f"a canary must not set {field}: its replicas are fixed")
    if most is not None and (number(most) or 0) > 0:
        judge.say(most, "not-allowed", "a canary must not set maxReplicas: its replicas are fixed")
    own, bound = number(predictor.get("minReplicas")), number(least)
    bound = 1 if bound is None else bound
    if own is not None and own > bound:
        message = f"minReplicas must not exceed the stable predictor's: {own} > {bound}"
        judge.say(predictor.entries["minReplicas"], "conflict", message)
