"""Whether a cluster serves a kind in that version, and how much is known of it.

A kind is judged by its rules, by its fields alone (`fields-only`), or not (`unchecked-kind`).
Which versions an API server serves by default: kubernetes/kubernetes pkg/controlplane/instance.go.
"""

from relume.base.vocabulary import KUSTOMIZE_GROUP
from relume.cluster.admission.cluster import OPTIONAL_VERSIONS
from relume.cluster.admission.judge import Judge, content
from relume.cluster.schemas import known_kinds, schema
from relume.config.fields import did_you_mean
from relume.config.nodes import Node, Table

# Kinds that exist beside those with tables, in groups where every other kind is a mistake.
_WITHOUT_TABLES = {
    ("autoscaling.internal.knative.dev/v1alpha1", "Metric"),
    ("serving.kserve.io/v1alpha1", "Predictor"),  # ModelMesh's
}
# Groups in which other projects have kinds too: sources for RabbitMQ, Redis, GitHub and so on.
_OPEN_GROUPS = frozenset(
    {
        "sources.knative.dev",
        "sinks.knative.dev",
        "messaging.knative.dev",
        "eventing.knative.dev",
    }
)
# What changed from a version to the next.
_MOVED = {
    ("resource.k8s.io/v1beta1", kind): ", where a request has its fields under exactly"
    for kind in ("ResourceClaim", "ResourceClaimTemplate")
}
# Kinds of which admission asks no more than the fields and the metadata: no webhook is shipped for
# them, or none that looks at one document by itself.
_WHOLE = {
    ("", "Namespace"),
    ("", "ServiceAccount"),
    ("serving.kserve.io", "ClusterStorageContainer"),
    ("serving.kserve.io", "LocalModelCache"),
    ("serving.kserve.io", "LocalModelNamespaceCache"),
    ("serving.kserve.io", "LocalModelNode"),
    ("serving.kserve.io", "LocalModelNodeGroup"),
}


def judge_head(document: Table, judge: Judge) -> bool:
    """Judge apiVersion and kind. Returns whether the rest of the document can be judged."""
    for name in ("apiVersion", "kind"):
        node = document.get(name)
        if node is None or content(node) == "":
            near = did_you_mean(
                name, [n for n in document.entries if n not in ("metadata", "spec")]
            )
            if node is not None and not isinstance(node, Table) and node.what != "the string ":
                judge.say(node, "wrong-type", f"must be a string, not {node.what}")
            else:
                judge.say(node or document, "missing-field", f"{name} is not set{near}", field=name)
    if judge.found:
        return False
    api_version, kind = (content(document.entries[name]) for name in ("apiVersion", "kind"))
    node, defined = document.entries["apiVersion"], (api_version, kind) in judge.cluster.defines
    if not defined and not _judge_version(node, api_version, kind, judge):
        return False
    return schema(api_version, kind) is not None or _judge_kind(document, api_version, kind, judge)


def _judge_version(node: Node, api_version: str, kind: str, judge: Judge) -> bool:
    """Judge whether the cluster serves the version of the group; the core group has one."""
    serves = judge.cluster.serves
    message = f'no matches for kind "{kind}" in version "{api_version}"'
    if serves is None and api_version in OPTIONAL_VERSIONS:
        if judge.cluster.enabled(api_version):
            return True
        message += ": the version is off by default"
        fix = f"Write {api_version.rpartition('/')[0]}/v1{_MOVED.get((api_version, kind), '')}, or "
        fix += f"start the API server with --runtime-config={api_version}=true and say so here: "
        fix += f"--features with {api_version}: enabled."
        judge.say(node, "no-such-kind", message, fix)
        return False
    if serves is not None and "/" in api_version and api_version not in serves:
        group = f"{api_version.rpartition('/')[0]}/"
        others = sorted(one for one in serves if one.startswith(group))
        fix = f"Write {' or '.join(others)}." if others else f"Install what serves {api_version}."
        judge.say(node, "no-such-kind", f"{message}: the cluster does not serve it", fix)
        return False
    return True


def judged_by_fields_alone(api_version: str, kind: str) -> bool:
    """Whether admission has rules for a kind beyond its fields; asked of kinds without ours."""
    return (api_version.rpartition("/")[0], kind) not in _WHOLE


def _judge_kind(document: Table, api_version: str, kind: str, judge: Judge) -> bool:
    """Judge a kind without a table: either we do not know it, or no cluster does."""
    group = api_version.rpartition("/")[0]
    versions = [v for v, k in known_kinds() if k == kind and v.rpartition("/")[0] == group]
    versions = [version for version in versions if version not in OPTIONAL_VERSIONS]
    near = did_you_mean(kind, [k for v, k in known_kinds() if v.rpartition("/")[0] == group])
    known = (api_version, kind) in judge.cluster.defines or api_version in (
        judge.cluster.serves or ()
    )
    if known or (not versions and _may_exist(api_version, group, kind, near)):
        node = document.entries["kind"]
        message = f"no field tables for {api_version} {kind}: it was not judged"
        judge.say(node, "unchecked-kind", message)
        return group != KUSTOMIZE_GROUP  # which is never sent to a cluster, and has no metadata
    message = f'no matches for kind "{kind}" in version "{api_version}"'
    if versions:
        fix = f"Write {' or '.join(versions)}."
        judge.say(document.entries["apiVersion"], "no-such-kind", message, fix)
    else:
        judge.say(document.entries["kind"], "no-such-kind", f"{message}{near}")
    return False


def _may_exist(api_version: str, group: str, kind: str, near: str) -> bool:
    """Whether a cluster may serve a kind that no table has."""
    if group in _OPEN_GROUPS:
        return not near  # otherwise it is misspelled
    groups = {version.rpartition("/")[0] for version, _ in known_kinds()}
    return group not in groups or (api_version, kind) in _WITHOUT_TABLES
