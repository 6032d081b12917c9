"""What becomes of an InferenceService that admission took: the Knative Service that KServe makes.

Source: kserve/kserve pkg/controller/v1beta1/inferenceservice/reconcilers/knative; what a real
cluster did. KServe's controller does not ask for strict validation, so that a field which Knative
does not have is dropped without a word.
"""

from collections.abc import Mapping
from dataclasses import replace

from relume.base.vocabulary import DEPLOYMENT_MODE
from relume.cluster.admission.annotations import INITIAL_SCALE, judge_template
from relume.cluster.admission.cluster import Cluster
from relume.cluster.admission.judge import Judge, child, content, entries, fields, subset
from relume.cluster.admission.kserve import OLD_FORMATS, mode
from relume.cluster.admission.serving import judge_concurrency, judge_revision_spec, judge_timeout
from relume.cluster.findings import Finding
from relume.cluster.reasons import REASONS
from relume.cluster.schemas import schema
from relume.cluster.schemas.check import check_shape
from relume.cluster.schemas.prune import pruned
from relume.config.head import PREDICTOR_SUFFIX
from relume.config.nodes import Items, Node, Table

_LABEL = 63
_OF_COMPONENT = frozenset(
    {
        "annotations",
        "autoScaling",
        "batcher",
        "canaryTrafficPercent",
        "containerConcurrency",
        "deploymentStrategy",
        "labels",
        "logger",
        "maxReplicas",
        "minReplicas",
        "model",
        "name",
        "scaleMetric",
        "scaleMetricType",
        "scaleTarget",
        "storageContainerName",
        "storageUris",
        "timeout",
        "workerSpec",
        *OLD_FORMATS,
    }
)
_OF_MODEL = frozenset(
    {
        "modelFormat",
        "runtime",
        "storageUri",
        "runtimeVersion",
        "protocolVersion",
        "storage",
        "confidential",
    }
)
_DROPPED = {"min-scale": "minReplicas", "max-scale": "maxReplicas"}


def after_admission(document: Table, cluster: Cluster) -> list[Finding]:
    """What is said too late or never about an InferenceService that passes admission."""
    judge = Judge(cluster)
    _judge_mode(document, judge)
    predictor = child(document, "spec", "predictor")
    if mode(document) != "Knative" or not isinstance(predictor, Table):
        return judge.found
    _judge_name(document, judge)
    failing = Judge(cluster)
    judge_timeout(predictor.get("timeout"), failing)
    judge_concurrency(predictor.get("containerConcurrency"), failing)
    notes = {
        **fields(child(document, "metadata", "annotations")),
        **fields(predictor.get("annotations")),
    }
    judge_template(_carried(notes, judge), failing)
    _judge_pod(predictor, judge, failing)
    judge.adopt(failing, "reconcile-failed")
    return judge.found


def _judge_mode(document: Table, judge: Judge) -> None:
    said = fields(child(document, "metadata", "annotations")).get(DEPLOYMENT_MODE)
    if said is None:
        return
    if content(said) in ("Serverless", "RawDeployment"):
        new = {"Serverless": "Knative", "RawDeployment": "Standard"}[content(said)]
        judge.say(said, "renamed-mode", f"{content(said)} is now called {new}", f"Write {new}.")
    elif content(said) not in ("Knative", "Standard", "ModelMesh"):
        judge.say(said, "unknown-mode", f"there is no deployment mode {content(said)}")


def _judge_name(document: Table, judge: Judge) -> None:
    name = child(document, "metadata", "name")
    if name is not None and len(content(name) + PREDICTOR_SUFFIX) > _LABEL:
        judge.say(
            name,
            "reconcile-failed",
            f"not a DNS 1035 label with {PREDICTOR_SUFFIX} after it: must be no more than {_LABEL} "
            f"characters, and {content(name)} makes {len(content(name) + PREDICTOR_SUFFIX)}",
            f"Write a name of at most {_LABEL - len(PREDICTOR_SUFFIX)} characters.",
        )


def _carried(notes: Mapping[str, Node], judge: Judge) -> dict[str, Node]:
    """The annotations that reach the revision; says which ones KServe takes out."""
    carried = dict(notes)
    for short, field in _DROPPED.items():
        node = carried.pop(f"autoscaling.knative.dev/{short}", None)
        if node is not None:
            message = f"KServe takes {short} off the revision and writes its own from {field}"
            judge.say(node, "annotation-ignored", message, f"Write spec.predictor.{field}.")
    initial = carried.get(INITIAL_SCALE)
    if initial is None:
        return carried
    allowed = judge.cluster.switch("allow-zero-initial-scale")
    whole = content(initial).lstrip("+-").isdigit()
    if not whole or (int(content(initial)) == 0 and not allowed):
        del carried[INITIAL_SCALE]
        message = f"KServe deletes initial-scale: {content(initial)}, and a pod starts"
        fix = "Set allow-zero-initial-scale: true in config-autoscaler, or remove the annotation."
        judge.say(initial, "annotation-ignored", message, fix)
    return carried


def _judge_pod(predictor: Table, judge: Judge, failing: Judge) -> None:
    knative = schema("serving.knative.dev/v1", "Service")
    shape = knative.shape.field("spec", "template", "spec") if knative else None
    if shape is None:
        return
    pod = subset(predictor, (name for name in predictor.entries if name not in _OF_COMPONENT))
    models = [predictor.entries[n] for n in ("model", *OLD_FORMATS) if n in fields(predictor)]
    containers = [*entries(predictor.get("containers")), *map(_container, models)]
    listed = Items(
        predictor.file, predictor.line, f"{predictor.path}.containers", tuple(containers)
    )
    whole = Table(pod.file, pod.line, pod.path, {**pod.entries, "containers": listed})
    for finding in check_shape(whole, shape):
        judge.found.append(_later(finding))
    kept = pruned(whole, shape)
    if isinstance(kept, Table):
        judge_revision_spec(kept, failing, merged=True)


def _container(model: Node) -> Node:
    """The container in a model's table."""
    if not isinstance(model, Table):
        return model
    return subset(model, (name for name in model.entries if name not in _OF_MODEL))


def _later(finding: Finding) -> Finding:
    last = finding.field.rpartition(".")[2]
    if finding.reason != "unknown-field":
        return replace(finding, reason="reconcile-failed")
    if last in ("resourceClaims", "claims"):
        message = f"{finding.field} is dropped: READY without a device"
        return replace(finding, reason="no-device", message=message, fix=REASONS["no-device"].fix)
    message = f"{finding.field}: a Knative Service has no such field"
    fix = REASONS["dropped-later"].fix
    return replace(finding, reason="dropped-later", message=message, fix=fix)
