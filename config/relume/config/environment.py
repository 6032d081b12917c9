"""Read `env` and `envFrom`: values, and those of the files' own Secrets and ConfigMaps.

A value of a Secret is never put into a message. Where the files lack the Secret, a variable of the
same name in the environment of `relume` stands for it.
"""

import re

from relume.config.arguments import expand
from relume.config.fields import Fields, Resource, did_you_mean
from relume.config.nodes import Node, Table

RESERVED_ENVIRONMENT = ("PORT", "K_SERVICE", "K_CONFIGURATION", "K_REVISION")
ENVIRONMENT = Fields.of("name value valueFrom")
_FROM_POD = "write value: a predictor is a process here, not a pod"
VALUE_FROM = Fields.of(
    "secretKeyRef configMapKeyRef fieldRef",
    refused={_FROM_POD: "resourceFieldRef", "write value": "fileKeyRef"},
)
KEY_REF = Fields.of("name key optional")
FIELD_REF = Fields.of("fieldPath apiVersion")
ENV_FROM = Fields.of("prefix secretRef configMapRef")
SOURCE = Fields.of("name optional")
_KINDS = {
    "secretKeyRef": "Secret",
    "configMapKeyRef": "ConfigMap",
    "secretRef": "Secret",
    "configMapRef": "ConfigMap",
}
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
_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


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
        name = name_node.text()
        if not _VARIABLE.fullmatch(name):
            raise name_node.wrong(f"invalid value: {name}: no name of an environment variable")
        if name in RESERVED_ENVIRONMENT:
            raise name_node.wrong(f'"{name}" is a reserved environment variable')
        value, reference = table.get("value"), table.get("valueFrom")
        if value is not None and value.text() and reference is not None:
            raise reference.wrong("may not be specified when `value` is not empty")
        if reference is not None:
            found = _referred(name, reference.table(), resource)
        else:
            found = expand(value.text(), environment) if value is not None else ""
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
    if kind not in _KINDS:
        return None  # refused above
    return _key(name, _KINDS[kind], node.table(), resource)


def _of_pod(table: Table, resource: Resource) -> str | None:
    FIELD_REF.check(table, resource)
    node = table.need("fieldPath", "write metadata.namespace")
    if node.text() == "metadata.namespace":
        return resource.namespace
    resource.cannot_run(node.origin, f"not honoured on this machine: {node.text()}: {_FROM_POD}")
    return None


def _key(name: str, kind: str, table: Table, resource: Resource) -> str | None:
    KEY_REF.check(table, resource)
    source = table.need("name", f"name the {kind}")
    key = table.need("key", f"name a key of the {kind}")
    wanted = f"{kind} {resource.namespace}/{source.text()}"
    values = resource.here.values_of(kind, resource.namespace, source.text())
    if values is not None and key.text() in values:
        return values[key.text()]
    if (own := resource.here.environment.get(name)) is not None:
        resource.leave_out(source, f"{wanted} is not read: {name} is taken from your environment")
        return own
    optional = table.get("optional")
    if optional is not None and optional.boolean():
        resource.leave_out(source, f"{name} is not set: {wanted} has no such key in these files")
    elif name in DOWNLOAD_CREDENTIALS:
        why = "set it in your environment for relume models prepare, which downloads the model"
        resource.leave_out(source, f"{name} is not set, and a model in the store needs none: {why}")
    elif values is not None:
        hint = did_you_mean(key.text(), values)
        resource.cannot_run(key.origin, f"{wanted} has no key {key.text()}{hint}")
    else:
        why = f"{wanted} is in none of these files: add it, or set {name} in your environment"
        resource.cannot_run(source.origin, why)
    return None


def _all_of(table: Table, resource: Resource) -> dict[str, str]:
    """Every variable of one item of `envFrom`."""
    ENV_FROM.check(table, resource)
    prefix = table.get("prefix")
    start = "" if prefix is None else prefix.text()
    named = [(field, node) for field, node in table if field in _KINDS]
    if len(named) != 1:
        raise table.wrong("write exactly one of secretRef and configMapRef")
    ((field, node),) = named
    SOURCE.check(node.table(), resource)
    name = node.table().need("name", f"name the {_KINDS[field]}")
    values = resource.here.values_of(_KINDS[field], resource.namespace, name.text())
    if values is not None:
        named_well = {start + key: value for key, value in values.items()}
        return {key: value for key, value in named_well.items() if _VARIABLE.fullmatch(key)}
    wanted = f"{_KINDS[field]} {resource.namespace}/{name.text()}"
    optional = node.table().get("optional")
    if optional is not None and optional.boolean():
        resource.leave_out(name, f"{wanted} is in none of these files; it is optional")
    else:
        resource.cannot_run(
            name.origin, f"{wanted} is in none of these files: add it, or write env"
        )
    return {}
