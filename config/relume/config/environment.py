"""Read `env` and `envFrom`: values, and those of the files' own Secrets and ConfigMaps.

A value of a Secret is never put into a message. Where the files lack the Secret, a variable of the
same name in the environment of `relume` stands for it.
"""

import re
from collections.abc import Container

from relume.config.arguments import expand
from relume.config.fields import Fields, Resource, did_you_mean
from relume.config.nodes import Node, Table
from relume.config.object_references import (
    ObjectReference,
    read_key_reference,
    read_object_reference,
)

RESERVED_ENVIRONMENT = ("PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION")
ENVIRONMENT = Fields.of("name value valueFrom")
_FROM_POD = "write value: a predictor is a process here, not a pod"
VALUE_FROM = Fields.of(
    "secretKeyRef configMapKeyRef fieldRef",
    refused={_FROM_POD: "resourceFieldRef", "write value": "fileKeyRef"},
)
FIELD_REF = Fields.of("fieldPath apiVersion")
ENV_FROM = Fields.of("prefix secretRef configMapRef")
# What only a download needs, which `relume models prepare` does with your own environment.
DOWNLOAD_CREDENTIALS = frozenset(
    (
        *(
            "HF_TOKEN",
            "HUGGING_FACE_HUB_TOKEN",
            "HUGGINGFACE_HUB_TOKEN",
            "HUGGINGFACEHUB_API_TOKEN",
        ),
        *(
            "MODELSCOPE_API_TOKEN",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
        ),
        *("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE", "S3_ENDPOINT"),
        *("S3_USE_HTTPS", "S3_REGION", "S3_VERIFY_SSL", "GOOGLE_APPLICATION_CREDENTIALS"),
        *("AZ_TENANT_ID", "AZ_CLIENT_ID", "AZ_CLIENT_SECRET", "AZURE_STORAGE_ACCESS_KEY"),
    )
)
VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


def variable_name(node: Node, reserved: Container[str]) -> str:
    """The name of an environment variable. Raises InvalidManifest for one that cannot be set."""
    name = node.text()
    if not VARIABLE.fullmatch(name):
        raise node.wrong(f"invalid value: {name}: no name of an environment variable")
    if name in reserved:
        raise node.wrong(f'"{name}" is a reserved environment variable')
    return name


def read_environment(
    node: Node | None, resource: Resource, sources: Node | None = None
) -> dict[str, str]:
    """The variables of `env`, over those of `sources` (`envFrom`).

    In a value $(NAME) is a variable from an earlier line.
    """
    environment: dict[str, str] = {}
    for source in sources.items() if sources is not None else ():
        environment |= _all_of(source.table(), resource)
    for item in node.items() if node is not None else ():
        table = item.table()
        ENVIRONMENT.check(table, resource)
        name_node = table.need("name", "a variable needs a name")
        name = variable_name(name_node, RESERVED_ENVIRONMENT)
        value, reference = table.get("value"), table.get("valueFrom")
        if value is not None and value.text() and reference is not None:
            raise reference.wrong("may not be specified when `value` is not empty")
        if reference is not None:
            found = _referred(name, reference.table(), resource)
        else:
            found = expand(value.text(), environment) if value is not None else ""
        if found is not None and "\0" in found:
            raise (value or name_node).wrong(f"the value of {name} has a NUL character")
        if found is not None:
            environment[name] = found
    return environment


def _referred(name: str, table: Table, resource: Resource) -> str | None:
    """The value that `valueFrom` names; None, with a note, where the variable is not set."""
    VALUE_FROM.check(table, resource)
    fields = dict(table)
    if len(fields) != 1:
        raise table.wrong("write exactly one of secretKeyRef, configMapKeyRef and fieldRef")
    ((kind, node),) = fields.items()
    if kind == "fieldRef":
        return _of_pod(node.table(), resource)
    if kind in VALUE_FROM.refused:
        return None
    return _key(name, read_key_reference(table, resource), resource)


def _of_pod(table: Table, resource: Resource) -> str | None:
    FIELD_REF.check(table, resource)
    node = table.need("fieldPath", "write metadata.namespace")
    if node.text() == "metadata.namespace":
        return resource.namespace
    resource.cannot_run(node.origin, f"not honoured on this machine: {node.text()}: {_FROM_POD}")
    return None


def _key(name: str, reference: ObjectReference, resource: Resource) -> str | None:
    source, key = reference.source, reference.source.key or ""
    wanted = f"{source.kind} {resource.namespace}/{source.name}"
    values = resource.here.values_of(source.kind, resource.namespace, source.name)
    if values is not None and key in values:
        return values[key]
    at = reference.name
    if (own := resource.here.environment.get(name)) is not None:
        resource.leave_out(at, f"{wanted} is not read: {name} is taken from your environment")
        return own
    if source.optional:
        resource.leave_out(at, f"{name} is not set: {wanted} has no such key in these files")
    elif name in DOWNLOAD_CREDENTIALS:
        why = "set it in your environment for relume models prepare, which downloads the model"
        resource.leave_out(at, f"{name} is not set, and a model in the store needs none: {why}")
    elif values is not None:
        hint = did_you_mean(key, values)
        place = at if reference.key is None else reference.key
        resource.cannot_run(place.origin, f"{wanted} has no key {key}{hint}")
    else:
        why = f"{wanted} is in none of these files: add it, or set {name} in your environment"
        resource.cannot_run(at.origin, why)
    return None


def _all_of(table: Table, resource: Resource) -> dict[str, str]:
    """Every variable of one item of `envFrom`."""
    ENV_FROM.check(table, resource)
    prefix = table.get("prefix")
    start = "" if prefix is None else prefix.text()
    reference = read_object_reference(table, resource)
    source, name = reference.source, reference.name
    values = resource.here.values_of(source.kind, resource.namespace, source.name)
    if values is not None:
        prefixed = {start + key: value for key, value in values.items()}
        named_well = {key: value for key, value in prefixed.items() if VARIABLE.fullmatch(key)}
        for key, value in named_well.items():
            if "\0" in value:
                raise name.wrong(f"the value of {key} has a NUL character")
        return named_well
    wanted = f"{source.kind} {resource.namespace}/{source.name}"
    if source.optional:
        resource.leave_out(name, f"{wanted} is in none of these files; it is optional")
    else:
        resource.cannot_run(
            name.origin, f"{wanted} is in none of these files: add it, or write env"
        )
    return {}
