"""The table of types that a generated file holds, and Kubernetes' own kinds in it.

The kinds come from the models of the `kubernetes` package.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import kubernetes.client.api
from kubernetes.client import models

Shape = dict[str, object]
ANY: Shape = {}
STRING: Shape = {"type": "string"}
QUANTITY: Shape = {"type": "quantity"}
INT_OR_STRING: Shape = {"type": "int-or-string"}


@dataclass
class Types:
    """Types by number. A type refers to another by its number.

    The keys of a type: `type`, `fields`, `items`, `values` (of a map), `required`, `enum`, `min`,
    `max`, `format`, `pattern`, `min_length`, `max_length`, `min_items`, `max_items`, `keys` (what
    makes the items of a list unique; [] for the items themselves), and `unknown`: what becomes of a
    field that is not listed. Absent it is dropped, `refuse` it is an error, `keep` it stays.
    """

    all: list[Shape] = field(default_factory=list)
    kinds: dict[str, tuple[int, str, bool]] = field(default_factory=dict)
    _seen: dict[str, int] = field(default_factory=dict)
    _named: dict[str, int] = field(default_factory=dict)

    def add(self, shape: Shape) -> int:
        """The number of `shape`; an equal one is shared."""
        key = json.dumps(shape, sort_keys=True)
        if key not in self._seen:
            self._seen[key] = len(self.all)
            self.all.append(shape)
        return self._seen[key]

    def named(self, name: str, build: Callable[[], Shape]) -> int:
        """The number of the type with a name, which may refer to itself while it is built."""
        if name not in self._named:
            number = self._named[name] = len(self.all)
            self.all.append({})
            self.all[number] = build()
        return self._named[name]

    def map_of(self, values: Shape) -> int:
        """A map from names to `values`."""
        return self.add({"type": "object", "values": self.add(values)})

    def list_of(self, items: Shape) -> int:
        """A list of `items`."""
        return self.add({"type": "array", "items": self.add(items)})


_PLAIN: dict[str, Shape] = {
    "str": STRING,
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "datetime": {"type": "string", "format": "date-time"},
    "bytes": {"type": "string", "format": "byte"},
    "object": ANY,
    "V1JSONSchemaProps": ANY,  # of a CRD; nobody here writes one
}
# What the models call a string or an object, and the API reads in more than one way.
_QUANTITIES = {
    ("V1ResourceRequirements", "limits"),
    ("V1ResourceRequirements", "requests"),
    ("V1VolumeResourceRequirements", "limits"),
    ("V1VolumeResourceRequirements", "requests"),
    ("V1CapacityRequirements", "requests"),
    ("V1PodSpec", "overhead"),
    ("V1PersistentVolumeSpec", "capacity"),
    ("V1ResourceQuotaSpec", "hard"),
    *(
        ("V1LimitRangeItem", name)
        for name in ("default", "defaultRequest", "max", "maxLimitRequestRatio", "min")
    ),
    ("V1EmptyDirVolumeSource", "sizeLimit"),
    ("V1ResourceFieldSelector", "divisor"),
    ("V1DeviceCapacity", "value"),
    ("V1Counter", "value"),
    ("V1CapacityRequestPolicy", "default"),
    ("V1CapacityRequestPolicyRange", "min"),
    ("V1CapacityRequestPolicyRange", "max"),
    ("V1CapacityRequestPolicyRange", "step"),
    ("V1CapacityRequestPolicy", "validValues"),
    ("V2MetricTarget", "averageValue"),
    ("V2MetricTarget", "value"),
}
_INT_OR_STRING = {
    ("V1HTTPGetAction", "port"),
    ("V1TCPSocketAction", "port"),
    ("V1NetworkPolicyPort", "port"),
    ("V1PodDisruptionBudgetSpec", "maxUnavailable"),
    ("V1PodDisruptionBudgetSpec", "minAvailable"),
    ("V1RollingUpdateDeployment", "maxSurge"),
    ("V1RollingUpdateDeployment", "maxUnavailable"),
    ("V1RollingUpdateDaemonSet", "maxSurge"),
    ("V1RollingUpdateDaemonSet", "maxUnavailable"),
    ("V1RollingUpdateStatefulSetStrategy", "maxUnavailable"),
    ("V1ServicePort", "targetPort"),
}
# In the models of 1.37, behind a gate that is off: an API server drops them.
_GATED = {"derivedAttributes", "skipNodeOperations", "partitionTypeAttribute"}
# Required by the models only: the API server takes these without.
_OPTIONAL = {
    ("V1DeviceClass", "spec"),
    ("ResourceV1ResourceClaim", "spec"),
    ("V1ResourceClaim", "spec"),
    ("V1ResourceClaimTemplate", "spec"),
    ("V1ResourceClaimTemplateSpec", "spec"),
}
_LEFT_OUT = re.compile(r"Review$|Eviction|Binding$(?<!RoleBinding)(?<!PolicyBinding)|TokenRequest")
_SERVED = re.compile(r"/(v1|v2)/|/resource\.k8s\.io/v1beta[12]/")


def _kinds() -> dict[str, tuple[str, str, bool]]:
    """`apiVersion/Kind` to model, plural and whether it lives in a namespace."""
    found: dict[str, tuple[str, str, bool]] = {}
    create = re.compile(
        r"def (create_[a-z0-9_]+?)\(\n +self,\n(?: +namespace[^\n]*\n)? +body: ([A-Za-z0-9]+),"
    )
    for file in sorted(Path(kubernetes.client.api.__file__).parent.glob("*_api.py")):
        source = file.read_text(encoding="utf-8")
        for name, model in create.findall(source):
            if name.endswith(("_with_http_info", "_without_preload_content")):
                continue
            serialize = source.index(f"def _{name}_serialize")
            path = source[source.index("resource_path='", serialize) + 15 :].split("'", 1)[0]
            kind = re.sub(r"^[A-Za-z]*?V\d+(alpha\d+|beta\d+)?", "", model)
            if _SERVED.search(path) and not _LEFT_OUT.search(kind):
                api, _, rest = path.partition("/namespaces/{namespace}/")
                namespaced = bool(rest)
                api = api if namespaced else api.rsplit("/", 1)[0]
                api = api.removeprefix("/apis/").removeprefix("/api/")
                found[f"{api}/{kind}"] = (model, path.rsplit("/", 1)[1], namespaced)
    return found


KINDS = _kinds()


class ModelTypes:
    """Adds models to a table of types."""

    def __init__(self, types: Types, *, decoded: bool = False, strict: bool = False) -> None:
        """`decoded` leaves out what is required: Go's decoder does not ask for it.

        `strict` refuses a field that the type does not have, at any depth.
        """
        self._types = types
        self._decoded = decoded
        self._strict = strict

    def document(self, model: str) -> int:
        """A kind: its fields, and of the status, which the API server writes, what it decodes."""
        number = self.model(model)
        fields = dict(self._types.all[number]["fields"])  # type: ignore[call-overload]
        if "status" in fields:
            status = getattr(models, model).openapi_types["status"]
            fields["status"] = self.decoded().model(status)
        return self._types.add(self._types.all[number] | {"fields": fields})

    def model(self, name: str) -> int:
        """The number of one model's type."""
        key = f"{name}{'?' if self._decoded else ''}{'!' if self._strict else ''}"
        return self._types.named(key, lambda: self._build(name))

    def decoded(self) -> "ModelTypes":
        """The same models where nothing is required."""
        return ModelTypes(self._types, decoded=True)

    def strict(self, *, required: bool) -> "ModelTypes":
        """The same models where an unknown field is refused."""
        return ModelTypes(self._types, decoded=not required, strict=True)

    def _build(self, name: str) -> Shape:
        model = getattr(models, name)
        fields: dict[str, int] = {}
        required = []
        for attribute, written in model.attribute_map.items():
            if written in _GATED:
                continue
            fields[written] = self._field(name, written, model.openapi_types[attribute])
            # A field whose name pydantic uses itself is stored under another one; none is required.
            stored = model.model_fields.get(attribute)
            needed = stored is not None and stored.is_required()
            plain = re.sub(r"^V1beta[12]", "V1", name)
            if needed and not self._decoded and (plain, written) not in _OPTIONAL:
                required.append(written)
        shape: Shape = {"type": "object", "fields": fields}
        shape |= {"unknown": "refuse"} if self._strict else {}
        return shape | ({"required": required} if required else {})

    def _field(self, model: str, name: str, written: str) -> int:
        plain = re.sub(r"^V1beta[12]", "V1", model)
        if (plain, name) in _INT_OR_STRING:
            return self._types.add(INT_OR_STRING)
        if (plain, name) in _QUANTITIES:
            if written.startswith("Dict"):
                return self._types.map_of(QUANTITY)
            if written.startswith("List"):
                return self._types.list_of(QUANTITY)
            return self._types.add(QUANTITY)
        return self._type(written)

    def _type(self, written: str) -> int:
        if match := re.fullmatch(r"List\[(.+)\]", written):
            return self._types.add({"type": "array", "items": self._type(match[1])})
        if match := re.fullmatch(r"Dict\[str, (.+)\]", written):
            return self._types.add({"type": "object", "values": self._type(match[1])})
        if written in _PLAIN:
            return self._types.add(_PLAIN[written])
        return self.model(written)
