"""What becomes of an InferenceService that admission took: the Knative Service that KServe makes.

Source: kserve/kserve pkg/controller/v1beta1/inferenceservice/reconcilers/knative; what a real
cluster did. KServe's controller does not ask for strict validation, so that a field which Knative
does not have is dropped silently.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cache

from relume.base.vocabulary import AUTOSCALER_CLASS, DEPLOYMENT_MODE, INITIAL_SCALE
from relume.cluster.admission.annotations import judge_template
from relume.cluster.admission.cluster import POD_FLAGS, Cluster
from relume.cluster.admission.judge import Judge, child, content, entries, fields
from relume.cluster.admission.kserve import OLD_FORMATS, RENAMED_MODES, mode
from relume.cluster.admission.serving import judge_limits, judge_revision_spec
from relume.cluster.claims.workloads import COMPONENTS
from relume.cluster.findings import Finding
from relume.cluster.reasons import REASONS
from relume.cluster.schemas import check_shape, pruned, shape_of
from relume.config.nodes import Items, Node, Table

_LABEL = 63
_MODELS = ("model", "art")  # beside the older formats, what KServe makes a container of
_STANDARD_ONLY = ("autoScaling", "scaleMetricType")
_DROPPED = {"min-scale": "minReplicas", "max-scale": "maxReplicas"}


def after_admission(document: Table, cluster: Cluster) -> list[Finding]:
    """What fails or is dropped after an InferenceService has passed admission."""
    judge = Judge(cluster)
    _judge_mode(document, judge)
    if mode(document) != "Knative":
        _note_share(document, judge)
        return judge.found
    _note_unread(document.get("metadata"), judge)
    for kind in COMPONENTS:
        component = child(document, "spec", kind)
        if isinstance(component, Table):
            _judge_component(document, component, kind, judge)
    return judge.found


def _judge_component(document: Table, component: Table, kind: str, judge: Judge) -> None:
    """The Knative Service of the predictor, the transformer or the explainer."""
    _judge_name(document, f"-{kind}", judge)
    _note_unread(component, judge)
    failing = Judge(judge.cluster)
    judge_limits(component.get("timeout"), component.get("containerConcurrency"), failing)
    notes = {**fields(document, "metadata", "annotations"), **fields(component, "annotations")}
    # KServe makes a TrafficTarget of it, whose bounds are Knative's.
    failing.check_number(component.get("canaryTrafficPercent"), 0, 100)
    judge_template(_carried(notes, kind, judge), failing)
    _judge_pod(component, kind, judge, failing)
    _judge_storage(component, failing)
    judge.adopt(failing, "reconcile-failed")


def _note_unread(owner: Node | None, judge: Judge) -> None:
    """What only the Standard mode reads of scaling; here Knative's own autoscaler scales."""
    unread = [child(owner, name) for name in _STANDARD_ONLY]
    for node in (*unread, child(owner, "annotations", AUTOSCALER_CLASS)):
        if node is not None:
            message = f"{node.path} has no effect in Knative mode: Knative's own autoscaler scales"
            judge.say(node, "no-effect", message)


def _note_share(document: Table, judge: Judge) -> None:
    """`canaryTrafficPercent`, which only the reconciler of Knative Services reads."""
    for kind in COMPONENTS:
        share = child(document, "spec", kind, "canaryTrafficPercent")
        if share is not None:
            message = "only Knative mode splits requests by it; Standard mode has spec.canary"
            judge.say(share, "no-effect", message)


def _judge_storage(component: Table, failing: Judge) -> None:
    """`storageUris`, which KServe's controller makes init containers and volumes of."""
    for one in entries(component, "storageUris"):
        scheme = content(one, "uri").partition("://")[0]
        if scheme == "pvc":
            flag, made = POD_FLAGS + "persistent-volume-claim", "a volume with a claim"
        elif scheme.partition("+")[0] == "oci":
            continue  # an image that is mounted; no webhook of Knative looks at it
        else:
            flag, made = POD_FLAGS + "init-containers", "an init container"
        if not failing.cluster.enabled(flag):
            where = component.entries["storageUris"]
            failing.closed(where, flag, f": KServe makes {made} of it")


def _judge_mode(document: Table, judge: Judge) -> None:
    said = child(document, "metadata", "annotations", DEPLOYMENT_MODE)
    if said is None:
        return
    if (new := RENAMED_MODES.get(content(said))) is not None:
        judge.say(said, "renamed-mode", f"{content(said)} is now called {new}", f"Write {new}.")
    elif content(said) not in ("Knative", "Standard", "ModelMesh"):
        judge.say(said, "unknown-mode", f"there is no deployment mode {content(said)}")


def _judge_name(document: Table, suffix: str, judge: Judge) -> None:
    name = child(document, "metadata", "name")
    if name is not None and len(content(name) + suffix) > _LABEL:
        judge.say(
            name,
            "reconcile-failed",
            f"not a DNS 1035 label with {suffix} after it: must be no more than {_LABEL} "
            f"characters, and {content(name)} makes {len(content(name) + suffix)}",
            f"Write a name of at most {_LABEL - len(suffix)} characters.",
        )


def _carried(notes: Mapping[str, Node], kind: str, judge: Judge) -> dict[str, Node]:
    """The annotations that reach the revision. Adds a note for each that KServe removes."""
    carried = dict(notes)
    for short, field in _DROPPED.items():
        node = carried.pop(f"autoscaling.knative.dev/{short}", None)
        if node is not None:
            message = f"KServe takes {short} off the revision and writes its own from {field}"
            judge.say(node, "annotation-ignored", message, f"Write spec.{kind}.{field}.")
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


def _judge_pod(component: Table, kind: str, judge: Judge, failing: Judge) -> None:
    shape = shape_of("serving.knative.dev/v1", "Service", "spec", "template", "spec")
    of_component, of_model = _kserves_own(kind)
    named = [name for name in (*_MODELS, *OLD_FORMATS) if name in fields(component)]
    models = [component.entries[name] for name in named]
    containers = [
        *entries(component, "containers"),
        *(_without(model, of_model) if isinstance(model, Table) else model for model in models),
    ]
    path = f"{component.path}.containers"
    listed = Items(component.file, component.line, path, tuple(containers))
    pod = _without(component, of_component)
    whole = replace(pod, entries={**pod.entries, "containers": listed})
    for finding in check_shape(whole, shape):
        judge.found.append(_later(finding))
    kept = pruned(whole, shape)
    if isinstance(kept, Table):
        judge_revision_spec(kept, failing, merged=True)


@cache
def _kserves_own(kind: str) -> tuple[frozenset[str], frozenset[str]]:
    """The fields of a component that no pod has, and those of its model that no container has."""
    component = ("serving.kserve.io/v1beta1", "InferenceService", "spec")
    pod = ("v1", "Pod", "spec")
    model = ("explainer", "art") if kind == "explainer" else ("predictor", "model")
    pairs = (((*component, kind), pod), ((*component, *model), (*pod, "containers", "[]")))
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
