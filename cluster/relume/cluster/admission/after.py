"""What becomes of an InferenceService that admission took: the Knative Service that KServe makes.

Source: kserve/kserve pkg/controller/v1beta1/inferenceservice/reconcilers/knative; what a real
cluster did. KServe's controller does not ask for strict validation, so that a field which Knative
does not have is dropped silently.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cache

from relume.base.vocabulary import DEPLOYMENT_MODE, INITIAL_SCALE
from relume.cluster.admission.annotations import judge_template
from relume.cluster.admission.cluster import Cluster
from relume.cluster.admission.judge import Judge, child, content, entries, fields
from relume.cluster.admission.kserve import OLD_FORMATS, RENAMED_MODES, mode
from relume.cluster.admission.serving import judge_limits, judge_revision_spec
from relume.cluster.findings import Finding
from relume.cluster.reasons import REASONS
from relume.cluster.schemas import check_shape, pruned, shape_of
from relume.config.head import PREDICTOR_SUFFIX
from relume.config.nodes import Items, Node, Table

_LABEL = 63
_DROPPED = {"min-scale": "minReplicas", "max-scale": "maxReplicas"}


def after_admission(document: Table, cluster: Cluster) -> list[Finding]:
    """What fails or is dropped after an InferenceService has passed admission."""
    judge = Judge(cluster)
    _judge_mode(document, judge)
    predictor = child(document, "spec", "predictor")
    if mode(document) != "Knative" or not isinstance(predictor, Table):
        return judge.found
    _judge_name(document, judge)
    failing = Judge(cluster)
    judge_limits(predictor.get("timeout"), predictor.get("containerConcurrency"), failing)
    notes = {**fields(document, "metadata", "annotations"), **fields(predictor, "annotations")}
    judge_template(_carried(notes, judge), failing)
    _judge_pod(predictor, judge, failing)
    judge.adopt(failing, "reconcile-failed")
    return judge.found


def _judge_mode(document: Table, judge: Judge) -> None:
    said = child(document, "metadata", "annotations", DEPLOYMENT_MODE)
    if said is None:
        return
    if (new := RENAMED_MODES.get(content(said))) is not None:
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
    """The annotations that reach the revision. Adds a note for each that KServe removes."""
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
    shape = shape_of("serving.knative.dev/v1", "Service", "spec", "template", "spec")
    of_component, of_model = _kserves_own()
    models = [predictor.entries[n] for n in ("model", *OLD_FORMATS) if n in fields(predictor)]
    containers = [
        *entries(predictor, "containers"),
        *(_without(model, of_model) if isinstance(model, Table) else model for model in models),
    ]
    path = f"{predictor.path}.containers"
    listed = Items(predictor.file, predictor.line, path, tuple(containers))
    pod = _without(predictor, of_component)
    whole = replace(pod, entries={**pod.entries, "containers": listed})
    for finding in check_shape(whole, shape):
        judge.found.append(_later(finding))
    kept = pruned(whole, shape)
    if isinstance(kept, Table):
        judge_revision_spec(kept, failing, merged=True)


@cache
def _kserves_own() -> tuple[frozenset[str], frozenset[str]]:
    """The fields of a predictor that no pod has, and those of a model that no container has."""
    predictor = ("serving.kserve.io/v1beta1", "InferenceService", "spec", "predictor")
    pod = ("v1", "Pod", "spec")
    pairs = ((predictor, pod), ((*predictor, "model"), (*pod, "containers", "[]")))
    of_component, of_model = (
        frozenset(shape_of(*own).type["fields"].keys() - shape_of(*of_pod).type["fields"].keys())
        for own, of_pod in pairs
    )
    return of_component, of_model


def _without(table: Table, names: Collection[str]) -> Table:
    return replace(table, entries={name: node for name, node in table if name not in names})


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
