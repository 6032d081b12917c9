"""A function as the documents that `func deploy` makes of it: a Knative Service and its Triggers.

Source: knative/func `pkg/knative/deployer.go` and `pkg/k8s/deployer.go`. Left out is what func adds
for itself: the time of the build, the deployer's name and `ADDRESS`, which only Go functions read.
"""

from pathlib import PurePosixPath

from relume.base.vocabulary import (
    AUTOSCALING,
    FUNCTION_LABEL,
    KNATIVE_EVENTING_V1,
    KNATIVE_SERVING_V1,
    JsonValue,
)
from relume.config.function import DEFAULT_TIMEOUT_S, FromObject, Function, ObjectMount, Variable
from relume.config.nodes import Items, Kind, Node, Scalar, Table
from relume.config.resources import Origin

IMAGE_PLACEHOLDER = "image-of-function.invalid/{name}"
_PORT = 8080  # the default of Knative, and what func writes
_KEYS = {"Secret": ("secretKeyRef", "secretRef"), "ConfigMap": ("configMapKeyRef", "configMapRef")}


def service_document(function: Function) -> dict[str, JsonValue]:
    """The Knative Service of a function."""
    labels: dict[str, JsonValue] = {
        **function.labels,
        "boson.dev/function": "true",
        FUNCTION_LABEL: function.name,
        "function.knative.dev/runtime": "python",
    }
    notes: dict[str, JsonValue] = dict(sorted(function.annotations.items()))
    scaling = {key: note for key, note in notes.items() if key.startswith(AUTOSCALING)}
    own = {key: note for key, note in notes.items() if key not in scaling}
    metadata: dict[str, JsonValue] = {
        "name": function.name,
        "namespace": function.namespace,
        "labels": dict(labels),
    }
    template: dict[str, JsonValue] = {"labels": dict(labels)}
    if own:
        metadata["annotations"] = own
    if notes:
        template["annotations"] = notes
    return {
        "apiVersion": KNATIVE_SERVING_V1,
        "kind": "Service",
        "metadata": metadata,
        "spec": {"template": {"metadata": template, "spec": _revision(function)}},
    }


def _revision(function: Function) -> dict[str, JsonValue]:
    spec: dict[str, JsonValue] = {}
    if function.container_concurrency:
        spec["containerConcurrency"] = function.container_concurrency
    if function.timeout_s != DEFAULT_TIMEOUT_S:
        spec["timeoutSeconds"] = int(function.timeout_s)
    if function.response_start_timeout_s not in (function.timeout_s, DEFAULT_TIMEOUT_S):
        spec["responseStartTimeoutSeconds"] = int(function.response_start_timeout_s)
    if function.idle_timeout_s:
        spec["idleTimeoutSeconds"] = int(function.idle_timeout_s)
    if function.service_account:
        spec["serviceAccountName"] = function.service_account
    if function.pull_secret:
        spec["imagePullSecrets"] = [{"name": function.pull_secret}]
    spec["containers"] = [_container(function)]
    if function.mounts:
        names = list(dict.fromkeys(_volume_name(m) for m in function.mounts))
        volumes = {_volume_name(mount): _volume(mount) for mount in function.mounts}
        spec["volumes"] = [{"name": name, **volumes[name]} for name in names]
    return spec


def _container(function: Function) -> dict[str, JsonValue]:
    container: dict[str, JsonValue] = {
        "image": function.image or IMAGE_PLACEHOLDER.format(name=function.name)
    }
    named: list[JsonValue] = []
    whole: list[JsonValue] = []
    for variable in function.variables:
        (named if variable.name else whole).append(_variable(variable))
    if named:
        container["env"] = named
    if whole:
        container["envFrom"] = whole
    container["livenessProbe"] = {"httpGet": {"path": function.liveness, "port": _PORT}}
    container["readinessProbe"] = {"httpGet": {"path": function.readiness, "port": _PORT}}
    if function.resources:
        container["resources"] = dict(function.resources)
    container["securityContext"] = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if function.mounts:
        container["volumeMounts"] = [
            {"name": _volume_name(mount), "mountPath": mount.path} for mount in function.mounts
        ]
    return container


def _variable(variable: Variable) -> dict[str, JsonValue]:
    source = variable.value
    if isinstance(source, str):
        return {"name": variable.name, "value": source}
    by_key, whole = _KEYS[source.kind]
    reference: dict[str, JsonValue] = {"name": source.name}
    if source.key is not None:
        reference["key"] = source.key
    if source.optional:
        reference["optional"] = True
    if not variable.name:
        return {whole: reference}
    return {"name": variable.name, "valueFrom": {by_key: reference}}


def _volume_name(mount: ObjectMount) -> str:
    if mount.source is None:
        return "-".join(("empty-dir", *PurePosixPath(mount.path).parts[1:])).lower()
    prefix = "secret" if mount.source.kind == "Secret" else "config-map"
    return f"{prefix}-{mount.source.name}"


def _volume(mount: ObjectMount) -> dict[str, JsonValue]:
    match mount.source:
        case None:
            return {"emptyDir": {}}
        case FromObject(kind="Secret", name=name):
            return {"secret": {"secretName": name}}
        case FromObject(name=name):
            return {"configMap": {"name": name}}


def documents_of(function: Function) -> list[Node]:
    """The trees of the Knative Service and of the Triggers."""
    assert function.origin is not None, "a function from a file knows its lines"
    return [as_tree(service_document(function), function.origin), *triggers_of(function)]


def triggers_of(function: Function) -> list[Node]:
    """The trees of the Triggers; each has the line of its subscription."""
    trees = []
    made = trigger_documents(function)
    for document, subscription in zip(made, function.subscriptions, strict=True):
        assert subscription.origin is not None, "a subscription from a file knows its line"
        trees.append(as_tree(document, subscription.origin))
    return trees


def trigger_documents(function: Function) -> list[dict[str, JsonValue]]:
    """One Trigger for each of `deploy.subscriptions`, named as func names them."""
    subscriber: JsonValue = {
        "ref": {"apiVersion": KNATIVE_SERVING_V1, "kind": "Service", "name": function.name}
    }
    documents: list[dict[str, JsonValue]] = []
    for number, subscription in enumerate(function.subscriptions):
        spec: dict[str, JsonValue] = {"broker": subscription.broker}
        if subscription.attributes:
            spec["filter"] = {"attributes": dict(subscription.attributes)}
        spec["subscriber"] = subscriber
        name = f"{function.name}-function-trigger-{number}"
        documents.append(
            {
                "apiVersion": KNATIVE_EVENTING_V1,
                "kind": "Trigger",
                "metadata": {"name": name, "namespace": function.namespace},
                "spec": spec,
            }
        )
    return documents


def as_tree(value: JsonValue, at: Origin, path: str = "") -> Node:
    """A value as the tree of a document whose every line is that of `at`."""
    if isinstance(value, dict):
        fields = {
            name: as_tree(item, at, f"{path}.{name}" if path else name)
            for name, item in value.items()
        }
        return Table(at.file, at.line, path, fields)
    if isinstance(value, list):
        items = tuple(as_tree(item, at, f"{path}[{i}]") for i, item in enumerate(value))
        return Items(at.file, at.line, path, items)
    kind, content = _scalar(value)
    return Scalar(at.file, at.line, path, kind, content, content)


def _scalar(value: JsonValue) -> tuple[Kind, str]:
    match value:
        case None:
            return "null", "null"
        case bool():
            return "boolean", str(value).lower()
        case int():
            return "integer", str(value)
        case float():
            return "number", repr(value)
        case _:
            return "string", str(value)
