"""One workload of an LLMInferenceService: decode, which is the service's own, or prefill.

Source: kserve/kserve pkg/apis/serving/v1alpha2/llm_inference_service_validation.go; v1alpha1 calls
the same functions.
"""

import re

from relume.cluster.admission.judge import Judge, child, content, entries, fields, number
from relume.config.nodes import Node, Scalar

_PERCENT = re.compile(r"[0-9]+%")


def judge_workload(workload: Node, judge: Judge) -> None:
    """Parallelism, scaling, the cache of keys and values, and the rollout."""
    _judge_parallelism(workload, judge)
    judge_scaling(workload, judge)
    _judge_cache(child(workload, "kvCacheOffloading"), judge)
    several_nodes = child(workload, "worker") is not None
    _judge_rollout(child(workload, "rolloutStrategy"), judge, several_nodes=several_nodes)


def _judge_parallelism(workload: Node, judge: Judge) -> None:
    """The schema has asked for sizes from 1."""
    worker, parallelism = child(workload, "worker"), child(workload, "parallelism")
    data, local = child(parallelism, "data"), child(parallelism, "dataLocal")
    pipeline = child(parallelism, "pipeline")
    if worker is not None and data is None and local is None and pipeline is None:
        message = "when worker is specified, parallelism must be configured for either data "
        message += "parallelism or pipeline parallelism"
        judge.say(worker, "conflict", message, f"Write {workload.path}.parallelism.pipeline.")
    if parallelism is None:
        return
    if pipeline is not None and (data is not None or local is not None):
        message = "cannot set both pipeline parallelism and data parallelism (data or dataLocal)"
        judge.say(parallelism, "conflict", message)
    if (data is None) != (local is None):
        missing, there = ("data", "dataLocal") if data is None else ("dataLocal", "data")
        message = f"{missing} must be set when {there} is set"
        field = f"{parallelism.path}.{missing}"
        judge.say(parallelism, "missing-field", message, f"Add {missing}.", field=field)


def judge_scaling(workload: Node, judge: Judge) -> None:
    """Replicas by a metric: of WVA through an actuator, or of KEDA's own triggers.

    The CRDs have these rules too, so that they hold for a Config.
    """
    scaling = child(workload, "scaling")
    if scaling is None:
        return
    if (replicas := child(workload, "replicas")) is not None:
        message = "replicas and scaling are mutually exclusive; use scaling for autoscaled "
        message += "deployments or replicas for static deployments"
        judge.say(replicas, "conflict", message, field=workload.path)
    least, most = number(scaling, "minReplicas"), number(scaling, "maxReplicas")
    if least is not None and most is not None and least > most:
        message = f"minReplicas ({least}) cannot exceed maxReplicas ({most})"
        judge.say(fields(scaling)["minReplicas"], "conflict", message)
    chosen = judge.check_one_of(scaling, "wva", "keda")
    if chosen == ["keda"]:
        keda = fields(scaling)["keda"]
        if not entries(keda, "triggers"):
            judge.missing(keda, "triggers")
        _judge_keda(scaling, keda, judge, by_wva=False)
    elif chosen == ["wva"]:
        wva = fields(scaling)["wva"]
        judge.check_one_of(wva, "hpa", "keda")
        if (keda_of_wva := child(wva, "keda")) is not None:
            _judge_keda(scaling, keda_of_wva, judge, by_wva=True)


def _judge_keda(scaling: Node, keda: Node, judge: Judge, *, by_wva: bool) -> None:
    modifiers = child(keda, "advanced", "scalingModifiers")
    if by_wva and modifiers is not None and any(map(content, fields(modifiers).values())):
        judge.not_allowed(modifiers, ": WVA controls the scaling metric formula and logic")
    name = child(keda, "advanced", "horizontalPodAutoscalerConfig", "name")
    if name is not None and content(name):
        judge.not_allowed(name, ": the controller manages the HPA name")
    idle, least = child(keda, "idleReplicaCount"), number(scaling, "minReplicas")
    value = number(idle)
    if idle is None:
        return
    if least is None:
        judge.missing(scaling, "minReplicas")
    elif value is not None and value >= least:
        message = f"idleReplicaCount ({value}) must be less than minReplicas ({least})"
        judge.say(idle, "conflict", message)


def judge_actuators(decode: Node | None, prefill: Node | None, judge: Judge) -> None:
    """`scaling` of both workloads: in the same way, by the same actuator."""
    if decode is None or prefill is None:
        return
    first, second = (child(one, "keda") is not None for one in (decode, prefill))
    if first != second:
        words = ("direct keda", "wva") if first else ("wva", "direct keda")
        message = "decode and prefill must use the same scaling mode: decode uses {}, prefill {}"
        judge.say(prefill, "conflict", message.format(*words))
        return
    ours, theirs = child(decode, "wva"), child(prefill, "wva")
    if ours is None or theirs is None:
        return
    first, second = (child(one, "hpa") is not None for one in (ours, theirs))
    if first != second:
        words = ("hpa", "keda") if first else ("keda", "hpa")
        message = (
            "decode and prefill must use the same actuator backend: decode uses {}, prefill {}"
        )
        judge.say(theirs, "conflict", message.format(*words))


def _judge_cache(cache: Node | None, judge: Judge) -> None:
    """Tiers below the cache in the CPU's memory; each is one volume."""
    for tier in entries(cache, "secondary"):
        system = child(tier, "fileSystem")
        if system is None:
            judge.missing(tier, "fileSystem")
            continue
        if judge.check_one_of(system, "emptyDir", "pvc") != ["pvc"]:
            continue
        claim = fields(system)["pvc"]
        if judge.check_one_of(claim, "spec", "ref") == ["ref"]:
            judge.check_filled(fields(claim)["ref"], "name")


def _judge_rollout(rollout: Node | None, judge: Judge, *, several_nodes: bool) -> None:
    if rollout is None:
        return
    found = {name: _share(child(rollout, name), judge) for name in ("maxUnavailable", "maxSurge")}
    gone, more = found["maxUnavailable"], found["maxSurge"]
    surge = child(rollout, "maxSurge")
    if gone == 0 and more == 0:
        message = "maxUnavailable and maxSurge cannot both be zero"
        judge.say(rollout, "conflict", f"{message}: no update could make progress")
    elif several_nodes and gone == 0 and surge is None:
        message = "maxSurge is required for several nodes where maxUnavailable is 0"
        field = f"{rollout.path}.maxSurge"
        judge.say(rollout, "missing-field", message, "Add maxSurge.", field=field)


def _share(node: Node | None, judge: Judge) -> int | None:
    """A number of replicas, or a percentage of one; None where it is neither, or not there.

    The webhook takes a percentage of one replica: rounded down for maxUnavailable, up for maxSurge.
    """
    if not isinstance(node, Scalar):
        return None
    if node.kind == "integer":
        value = number(node)
        if value is not None and value < 0:
            judge.invalid(node, "must be greater than or equal to 0")
        return value
    if not _PERCENT.fullmatch(node.content):
        judge.invalid(node, "must be a whole number or a percentage, such as 25%")
        return None
    value = int(node.content[:-1][:9])
    if value > 100:
        judge.invalid(node, "must not be greater than 100%")
        return None
    if node.path.endswith("maxUnavailable"):
        return value // 100
    return 1 if value else 0
