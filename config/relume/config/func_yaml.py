"""Read a func.yaml: what `func deploy` would make of the folder, for one machine.

Source: knative/func `schema/func_yaml-schema.json` and `docs/reference/func_yaml.md`.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from relume.base.vocabulary import AUTOSCALING, KNATIVE_SERVING, PROGRESS_DEADLINE, JsonValue
from relume.config.autoscaling import canonical, read_autoscaling
from relume.config.fields import Resource
from relume.config.function import BrokerSubscription, FromObject, Function, Invoke, ObjectMount
from relume.config.function_fields import (
    DEPLOY,
    EMPTY_DIR,
    FUNCTION,
    HEALTH,
    LABEL,
    LIMITS,
    OPTIONS,
    REQUESTS,
    RESOURCES,
    RUN,
    SCALE,
    SHARED_MACHINE,
    SUBSCRIPTION,
    VOLUME,
)
from relume.config.function_variables import read_envs
from relume.config.head import DEFAULT_NAMESPACE, document_table, function_name, namespace_name
from relume.config.nodes import Node, Scalar, Table
from relume.config.quantities import read_bytes
from relume.config.service import DEFAULT_PROGRESS_DEADLINE_S, MOST_CONCURRENCY
from relume.config.waiting import check_waiting

FUNC_YAML = "func.yaml"
_SCALE = {
    "min": "min-scale",
    "max": "max-scale",
    "metric": "metric",
    "target": "target",
    "utilization": "target-utilization-percentage",
}


def read_function(document: Node, environment: Mapping[str, str]) -> tuple[Resource, Function]:
    """The function of a func.yaml; `environment` is where `{{ env:NAME }}` is looked up.

    Raises InvalidManifest for the first wrong field.
    """
    body = document_table(document)
    FUNCTION.refuse_unknown(body)
    for name in ("specVersion", "created"):
        body.need(name, "func writes it: run func init, or copy it from another function").text()
    name_node = body.need("name", "name the function")
    deploy = _table(body, "deploy")
    DEPLOY.refuse_unknown(deploy)
    resource = Resource(
        kind="Service",  # what a Trigger refers to it as
        namespace=_namespace(body, deploy),
        name=function_name(name_node),
        origin=name_node.origin,
        body=body,
    )
    FUNCTION.check(body, resource)
    DEPLOY.check(deploy, resource)
    _check_runtime(body, document.file.parent)
    run = _table(body, "run")
    RUN.check(run, resource)
    options = _table(deploy, "options")
    OPTIONS.check(options, resource)
    health = _health(_table(deploy, "healthEndpoints"), resource)
    return resource, _with_options(
        Function(
            namespace=resource.namespace,
            name=resource.name,
            folder=document.file.absolute().parent,
            invoke=_invoke(body),
            image=_image(body, deploy),
            variables=read_envs(run.get("envs"), resource, environment),
            mounts=_mounts(run.get("volumes"), resource),
            subscriptions=_subscriptions(deploy.get("subscriptions"), resource),
            labels=_labels(deploy.get("labels"), resource),
            service_account=_text(deploy, "serviceAccountName"),
            pull_secret=_text(deploy, "imagePullSecret"),
            liveness=health["liveness"],
            readiness=health["readiness"],
            origin=resource.origin,
        ),
        options,
        deploy,
        run,
        resource,
    )


def _with_options(
    function: Function, options: Table, deploy: Table, run: Table, resource: Resource
) -> Function:
    """The function with its scale, its resources and its annotations."""
    notes = canonical(_annotations(deploy))
    own = {key: node.text() for key, node in notes.items()}
    scale = _table(options, "scale")
    SCALE.check(scale, resource)
    for name, node in scale:
        notes[AUTOSCALING + _SCALE[name]] = _as_annotation(node)
    limits, resources = _resources(_table(options, "resources"), resource)
    concurrency, memory = limits.get("concurrency"), limits.get("memory")
    start = run.get("startTimeout")
    deadline = DEFAULT_PROGRESS_DEADLINE_S if start is None else float(start.integer(least=1))
    for key, node in notes.items():
        if key.startswith(KNATIVE_SERVING) and key != PROGRESS_DEADLINE:
            resource.leave_out(node, "the annotation has no effect on this machine")
    check_waiting(notes)
    return replace(
        function,
        resources=resources,
        memory_bytes=None if memory is None else read_bytes(memory),
        container_concurrency=0
        if concurrency is None
        else concurrency.integer(most=MOST_CONCURRENCY),
        progress_deadline_s=deadline,
        autoscaling=read_autoscaling(notes, resource),
        annotations=own | {key: node.text() for key, node in notes.items()},
    )


def _as_annotation(node: Node) -> Node:
    """A number as the text that func writes into an annotation."""
    if isinstance(node, Scalar) and node.kind in ("integer", "number"):
        return replace(node, kind="string")
    return node


def _check_runtime(body: Table, folder: Path) -> None:
    runtime = body.need("runtime", "write python")
    if runtime.text() != "python":
        raise runtime.wrong(
            f"not honoured on this machine: {runtime.text()}: only python functions run here"
        )
    if not (folder / "pyproject.toml").is_file():
        raise runtime.wrong(f"there is no pyproject.toml in {folder}: func create writes one")
    if not (folder / "function" / "__init__.py").is_file():
        raise runtime.wrong(
            f"there is no package `function` in {folder}: func-python calls new() or handle() of "
            "function/__init__.py"
        )


def _invoke(body: Table) -> Invoke:
    node = body.get("invoke")
    if node is None:
        return "http"
    return "cloudevent" if node.one_of("http", "cloudevent") == "cloudevent" else "http"


def _namespace(body: Table, deploy: Table) -> str:
    """What func deploys to: its own namespace, else the one that it was deployed to last."""
    node = body.get("namespace") or deploy.get("namespace")
    return DEFAULT_NAMESPACE if node is None else namespace_name(node)


def _image(body: Table, deploy: Table) -> str | None:
    """As func has it: what was deployed, the image that is named, or one in the registry."""
    for node in (deploy.get("image"), body.get("image")):
        if node is not None:
            return node.filled()
    registry = body.get("registry")
    if registry is None:
        return None
    return f"{registry.filled().rstrip('/')}/{body.need('name', '').text()}:latest"


def _mounts(node: Node | None, resource: Resource) -> tuple[ObjectMount, ...]:
    mounts: dict[str, ObjectMount] = {}
    for item in node.items() if node is not None else ():
        table = item.table()
        VOLUME.check(table, resource)
        path = table.need("path", "write where the files are, as in /etc/secrets")
        where = path.filled()
        if not where.startswith("/") or ".." in where.split("/"):
            raise path.wrong(f"invalid value: {where}: write a whole path, as in /etc/secrets")
        kinds = [name for name, _ in table if name != "path"]
        if len(kinds) != 1:
            raise item.wrong("write one of secret, configMap and emptyDir")
        if kinds[0] in VOLUME.refused:
            continue
        if where.rstrip("/") in mounts:
            raise path.wrong(f"{where} is there twice")
        mounts[where.rstrip("/")] = _mount(table, kinds[0], where, resource)
    return tuple(mounts.values())


def _mount(table: Table, kind: str, path: str, resource: Resource) -> ObjectMount:
    node = table.need(kind, "")
    if kind == "emptyDir":
        EMPTY_DIR.check(node.table(), resource)
        return ObjectMount(path, None, node.origin)
    of: Literal["Secret", "ConfigMap"] = "Secret" if kind == "secret" else "ConfigMap"
    return ObjectMount(path, FromObject(of, node.filled()), node.origin)


def _subscriptions(node: Node | None, resource: Resource) -> tuple[BrokerSubscription, ...]:
    found = []
    for item in node.items() if node is not None else ():
        table = item.table()
        SUBSCRIPTION.check(table, resource)
        source = table.need("source", "name the Broker").filled()
        attributes = _table(table, "filters").texts()
        found.append(BrokerSubscription(source, attributes, item.origin))
    return tuple(found)


def _labels(node: Node | None, resource: Resource) -> dict[str, str]:
    labels = {}
    for item in node.items() if node is not None else ():
        table = item.table()
        LABEL.check(table, resource)
        labels[table.need("key", "name the label").filled()] = _text(table, "value") or ""
    return labels


def _health(table: Table, resource: Resource) -> dict[str, str]:
    HEALTH.check(table, resource)
    paths = {"liveness": "/health/liveness", "readiness": "/health/readiness"}
    for name, node in table:
        if not re.fullmatch(r"/\S*", node.text()):
            raise node.wrong(f"invalid value: {node.text()}: write a path, as in /health/readiness")
        paths[name] = node.text()
    return paths


def _resources(table: Table, resource: Resource) -> tuple[Table, dict[str, JsonValue]]:
    """The limits, and requests and limits as a container has them."""
    RESOURCES.check(table, resource)
    requests, limits = _table(table, "requests"), _table(table, "limits")
    REQUESTS.check(requests, resource)
    LIMITS.check(limits, resource)
    written: dict[str, JsonValue] = {}
    for name, amounts in (("requests", requests), ("limits", limits)):
        values: dict[str, JsonValue] = {
            key: node.text() for key, node in amounts if key != "concurrency"
        }
        if values:
            written[name] = values
    if (memory := requests.get("memory")) is not None:
        read_bytes(memory)
    if requests.entries or limits.get("cpu") is not None:
        resource.leave_out(table, f"{SHARED_MACHINE}; limits.memory and concurrency count")
    return limits, written


def _annotations(deploy: Table) -> dict[str, Node]:
    node = deploy.get("annotations")
    found = dict(node.table()) if node is not None else {}
    for value in found.values():
        value.text()
    return found


def _table(table: Table, name: str) -> Table:
    """The table of that name, an empty one where it is not there."""
    node = table.get(name)
    path = f"{table.path}.{name}" if table.path else name
    return Table(table.file, table.line, path, {}) if node is None else node.table()


def _text(table: Table, name: str) -> str | None:
    node = table.get(name)
    return None if node is None else node.text()
