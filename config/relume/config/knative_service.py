"""Read a Knative Service that configures a function, and lay it over what its func.yaml says.

Only the function of the same name and namespace can run here: a container image cannot.
"""

from collections.abc import Mapping
from dataclasses import replace

from relume.base.vocabulary import AUTOSCALING, JsonValue
from relume.config.autoscaling import canonical, read_autoscaling
from relume.config.fields import Resource
from relume.config.function import Function, ServiceSettings
from relume.config.function_fields import (
    CONTAINER,
    CONTAINER_RESOURCES,
    REVISION,
    SERVICE,
    SHARED_MACHINE,
    TEMPLATE,
    TEMPLATE_METADATA,
)
from relume.config.function_variables import read_container_environment
from relume.config.head import annotations
from relume.config.nodes import Node, Table
from relume.config.quantities import read_bytes
from relume.config.service import MOST_CONCURRENCY, MOST_TIMEOUT_S
from relume.config.waiting import check_waiting


def read_knative_service(resource: Resource) -> ServiceSettings:
    """The settings in a Knative Service; raises InvalidManifest for the first wrong field."""
    spec = resource.body.need("spec", "write spec.template").table()
    SERVICE.check(spec, resource)
    template = spec.need("template", "write spec.template.spec").table()
    TEMPLATE.check(template, resource)
    notes: dict[str, Node] = {}
    if (metadata := template.get("metadata")) is not None:
        TEMPLATE_METADATA.check(metadata.table(), resource)
        notes = canonical(annotations(metadata.table()))
    revision = template.need("spec", "write spec.template.spec.containers").table()
    REVISION.check(revision, resource)
    containers = revision.need("containers", "write one container")
    if len(containers.items()) != 1:
        raise containers.wrong("a function has one container")
    container = containers.items()[0].table()
    CONTAINER.check(container, resource)
    resources, memory = _resources(container.get("resources"), resource)
    scaled = any(key.startswith(AUTOSCALING) for key in notes)
    check_waiting(notes)
    image = container.get("image")
    return ServiceSettings(
        namespace=resource.namespace,
        name=resource.name,
        annotations={key: node.text() for key, node in notes.items()},
        autoscaling=read_autoscaling(notes, resource) if scaled else None,
        variables=read_container_environment(container, resource),
        container_concurrency=_whole(revision, "containerConcurrency", MOST_CONCURRENCY),
        timeout_s=_whole(revision, "timeoutSeconds", MOST_TIMEOUT_S),
        response_start_timeout_s=_whole(revision, "responseStartTimeoutSeconds", MOST_TIMEOUT_S),
        idle_timeout_s=_whole(revision, "idleTimeoutSeconds", MOST_TIMEOUT_S),
        resources=resources,
        memory_bytes=memory,
        image_origin=(container if image is None else image).origin,
    )


def _whole(table: Table, name: str, most: int) -> int | None:
    node = table.get(name)
    return None if node is None else node.integer(0, most)


def _resources(
    node: Node | None, resource: Resource
) -> tuple[Mapping[str, JsonValue] | None, int | None]:
    if node is None:
        return None, None
    CONTAINER_RESOURCES.check(node.table(), resource)
    written: dict[str, JsonValue] = {}
    memory = None
    for name, amounts in node.table():
        if name == "claims":
            continue
        written[name] = dict(amounts.table().texts())
        if name == "requests" or amounts.table().get("cpu") is not None:
            resource.leave_out(amounts, f"{SHARED_MACHINE}; limits.memory counts")
        if name == "limits" and (limit := amounts.table().get("memory")) is not None:
            memory = read_bytes(limit)
    return written, memory


def configured(function: Function, settings: ServiceSettings) -> Function:
    """The function with what the Knative Service sets; the rest stays as its func.yaml says."""
    own = {variable.name for variable in settings.variables if variable.name}
    kept = tuple(variable for variable in function.variables if variable.name not in own)
    timeout = settings.timeout_s or function.timeout_s
    # As Knative defaults it: no longer than the whole request.
    start = settings.response_start_timeout_s or min(timeout, function.response_start_timeout_s)
    changes = {
        "autoscaling": settings.autoscaling,
        "container_concurrency": settings.container_concurrency,
        "idle_timeout_s": settings.idle_timeout_s,
        "resources": settings.resources,
        "memory_bytes": settings.memory_bytes,
    }
    given = {name: value for name, value in changes.items() if value is not None}
    return replace(
        function,
        variables=(*kept, *settings.variables),
        timeout_s=float(timeout),
        response_start_timeout_s=float(start),
        annotations={**function.annotations, **settings.annotations},
        **given,  # type: ignore[arg-type]
    )
