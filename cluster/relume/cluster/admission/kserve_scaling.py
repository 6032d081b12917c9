"""How many replicas of an InferenceService's component, and by which measure.

Source: kserve/kserve pkg/apis/serving/v1beta1/{component,inference_service_validation}.go.
"""

from relume.base.vocabulary import DEPLOYMENT_MODE
from relume.cluster.admission.judge import Judge, child, content, fields, number
from relume.cluster.admission.kserve_metrics import judge_metrics
from relume.config.nodes import Node, Table

AUTOSCALER = "serving.kserve.io/autoscalerClass"


def judge_replicas(component: Table, judge: Judge) -> None:
    low_node, high_node = component.get("minReplicas"), component.get("maxReplicas")
    low, high = number(low_node), number(high_node) or 0
    if low_node is not None and low is not None and low < 0:
        judge.say(low_node, "out-of-range", f"'MinReplicas' cannot be less than 0: {low}")
    if high_node is not None and high < 0:
        judge.say(high_node, "out-of-range", f"'MaxReplicas' cannot be less than 0: {high}")
    least = 1 if low is None else low
    if high > 0 and least > high:
        judge.say(
            low_node or high_node or component,
            "conflict",
            f"'MinReplicas' cannot be greater than MaxReplicas: {least} > {high}",
        )
    concurrency, value = component.get("containerConcurrency"), None
    value = number(concurrency)
    if concurrency is not None and value is not None and value < 0:
        judge.say(concurrency, "out-of-range", f"parallelism cannot be less than 0: {value}")


def judge_scaling(document: Table, component: Table, judge: Judge) -> None:
    annotations = fields(child(document, "metadata", "annotations"))
    metric, target = component.get("scaleMetric"), component.get("scaleTarget")
    aim = number(target)
    if content(annotations.get(DEPLOYMENT_MODE)) in ("Standard", "RawDeployment"):
        chosen = content(annotations.get(AUTOSCALER))
        if chosen == "keda":
            if metric is not None:
                judge.say(metric, "not-allowed", "ScaleMetric is not supported for KEDA")
            judge_metrics(component, judge, keda=True)
            return
        hpa = chosen == "hpa"
        knative = False
    else:
        hpa = content(annotations.get("autoscaling.knative.dev/class")).startswith("hpa.")
        knative = not hpa
    if knative:
        strategy = component.get("deploymentStrategy")
        if strategy is not None:
            message = "customizing deploymentStrategy is only supported for raw deployment mode"
            judge.say(strategy, "not-allowed", message)
        if metric is not None and content(metric) not in ("concurrency", "rps"):
            _unsupported(metric, "concurrency, rps", judge)
        if content(metric) == "rps" and target is not None and aim is not None and aim < 1:
            judge.say(target, "out-of-range", f"the target for rps should be greater than 1: {aim}")
    elif hpa:
        if metric is not None and content(metric) not in ("cpu", "memory"):
            _unsupported(metric, "cpu, memory", judge)
        if target is not None and aim is not None and not 1 <= aim <= 100:
            judge.bounds(target, 1, 100)  # of cpu in percent, of memory in MiB
        judge_metrics(component, judge, keda=False)


def _unsupported(metric: Node, known: str, judge: Judge) -> None:
    message = f"[{content(metric)}] is not a supported metric: {known}"
    judge.say(metric, "unsupported-value", message)
