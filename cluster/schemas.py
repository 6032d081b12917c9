"""Write the field tables of `relume.cluster.schemas` from what the projects publish.

    python cluster/schemas.py CRDS TABLES

CRDS is the folder of published CRDs (knative-serving, knative-eventing, knative-kafka, kserve);
Kubernetes' own kinds come from the models of the `kubernetes` package. Only facts are kept (names,
types, required, enums, ranges), none of the text. Run by `make schemas`; a test runs it again and
compares.

Where a CRD leaves a place open (`x-kubernetes-preserve-unknown-fields`), the project's webhook
still decodes it into a Go type. Those types are named here: the webhooks of Knative Eventing and
of its Kafka kinds refuse a field that their type does not have, Knative Serving's drops it. A CRD
that leaves the whole kind open says nothing of it, and makes no table.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from schemas_models import ANY, KINDS, STRING, ModelTypes, Shape, Types

# One file each. A custom kind needs the models too: for metadata and for what its CRD leaves open.
FAMILIES = ("kubernetes", "knative-serving", "knative-eventing", "knative-kafka", "kserve")
_STRICT = ("knative-eventing", "knative-kafka")  # whose webhooks refuse unknown fields
METADATA = "V1ObjectMeta"
_TEXT: dict[str, Any] = {"type": "string"}
# A kind whose CRD is not in the folder, by its family. Its fields are those of the CRD in
# knative/serving config/core/300-resources/domain-mapping.yaml.
_WRITTEN: dict[str, dict[str, Any]] = {
    "knative-serving": {
        "group": "serving.knative.dev",
        "names": {"kind": "DomainMapping", "plural": "domainmappings"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1beta1",
                "served": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "required": ["ref"],
                                "properties": {
                                    "ref": {
                                        "type": "object",
                                        "required": ["kind", "name"],
                                        "properties": dict.fromkeys(
                                            (
                                                "address",
                                                "apiVersion",
                                                "group",
                                                "kind",
                                                "name",
                                                "namespace",
                                            ),
                                            _TEXT,
                                        ),
                                    },
                                    "tls": {
                                        "type": "object",
                                        "required": ["secretName"],
                                        "properties": {"secretName": _TEXT},
                                    },
                                },
                            }
                        },
                    }
                },
            }
        ],
    }
}
# Path in the CRD (its end) to a model of Kubernetes.
_SERVING = {
    "template.metadata": "V1ObjectMeta",
    "spec.affinity": "V1Affinity",
    "valueFrom.fieldRef": "V1ObjectFieldSelector",
    "valueFrom.resourceFieldRef": "V1ResourceFieldSelector",
    "spec.dnsConfig": "V1PodDNSConfig",
    "hostAliases.[]": "V1HostAlias",
    "initContainers.[]": "V1Container",
    "spec.securityContext": "V1PodSecurityContext",
    "tolerations.[]": "V1Toleration",
    "topologySpreadConstraints.[]": "V1TopologySpreadConstraint",
    "volumes.[].csi": "V1CSIVolumeSource",
    "volumes.[].emptyDir": "V1EmptyDirVolumeSource",
    "volumes.[].ephemeral": "V1EphemeralVolumeSource",
    "volumes.[].hostPath": "V1HostPathVolumeSource",
    "volumes.[].image": "V1ImageVolumeSource",
    "volumes.[].persistentVolumeClaim": "V1PersistentVolumeClaimVolumeSource",
}
_FILTER = re.compile(r"(all|any)\.\[\]$|filters\.\[\]\.not$")
_TEXTS = re.compile(r"(exact|prefix|suffix|attributes|matchLabels|extensions)$")
_OPEN = re.compile(r"channelTemplate\.spec$")  # another kind's fields, or nobody's
_REFERENCE = re.compile(r"(subscriber\.ref|spec\.channel)$")
# Path to a model of Kubernetes, where Knative Eventing leaves the place open.
_EVENTING = {"spec.job": "V1Job", "spec.template": "V1PodTemplateSpec"}
_QUANTITY = "KMGTPE"
_LIMITS = {
    "minimum": "min",
    "maximum": "max",
    "minLength": "min_length",
    "maxLength": "max_length",
    "minItems": "min_items",
    "maxItems": "max_items",
    "pattern": "pattern",
    "enum": "enum",
    "format": "format",
}


class CustomTypes:
    """Adds the CRDs of one family to a table of types."""

    def __init__(self, family: str, types: Types, models: ModelTypes) -> None:
        self._family = family
        self._types = types
        self._models = models

    def document(self, kind: str, crd: dict[str, Any], metadata: str) -> int:
        """A kind: apiVersion, kind, metadata and the CRD's own fields."""
        fields = {
            name: self._type(shape, f"{kind}.{name}")
            for name, shape in crd.get("properties", {}).items()
            if name not in ("metadata", "apiVersion", "kind")
        }
        fields |= {"apiVersion": self._types.add(STRING), "kind": self._types.add(STRING)}
        fields |= {"metadata": self._models.model(metadata)}
        fields.setdefault("status", self._types.add(ANY))
        shape: Shape = {"type": "object", "fields": fields}
        if crd.get("required"):
            shape["required"] = crd["required"]
        return self._types.add(shape)

    def _type(self, crd: dict[str, Any], path: str) -> int:
        if crd.get("x-kubernetes-preserve-unknown-fields"):
            return self._types.add(self._left_open(crd, path))
        return self._types.add(self._shape(crd, path))

    def _shape(self, crd: dict[str, Any], path: str) -> Shape:
        if crd.get("x-kubernetes-int-or-string"):
            quantity = _QUANTITY in crd.get("pattern", "")
            return {"type": "quantity" if quantity else "int-or-string"}
        shape: Shape = {"type": crd["type"]} if "type" in crd else {}
        shape |= {ours: crd[theirs] for theirs, ours in _LIMITS.items() if crd.get(theirs)}
        if crd.get("minimum") == 0:
            shape["min"] = 0
        if "items" in crd:
            shape["items"] = self._type(crd["items"], f"{path}.[]")
            shape |= self._unique(crd)
        if "properties" in crd:
            fields = crd["properties"]
            shape["fields"] = {k: self._type(v, f"{path}.{k}") for k, v in fields.items()}
            defaulted = {k for k, v in fields.items() if "default" in v}
            required = [name for name in crd.get("required", ()) if name not in defaulted]
            shape |= {"required": required} if required else {}
        elif isinstance(crd.get("additionalProperties"), dict):
            shape["values"] = self._type(crd["additionalProperties"], f"{path}.*")
        return shape

    def _unique(self, crd: dict[str, Any]) -> Shape:
        if crd.get("x-kubernetes-list-type") == "map":
            fields = crd["items"].get("properties", {})
            keys = crd["x-kubernetes-list-map-keys"]
            return {"keys": [[key, fields.get(key, {}).get("default")] for key in keys]}
        return {"keys": []} if crd.get("x-kubernetes-list-type") == "set" else {}

    def _left_open(self, crd: dict[str, Any], path: str) -> Shape:
        shape = self._shape(crd, path)
        decoded = self._models.decoded()
        if self._family == "knative-serving":
            model = next((m for end, m in _SERVING.items() if path.endswith(end)), None)
            return (
                shape | {"unknown": "keep"} if model is None else _of(self._types, decoded, model)
            )
        if self._family not in _STRICT or _OPEN.search(path):
            return shape | {"unknown": "keep"}
        return self._decoded_strictly(shape, path)

    def _decoded_strictly(self, shape: Shape, path: str) -> Shape:
        """What a webhook that refuses unknown fields takes in a place that is left open."""
        model = next((m for end, m in _EVENTING.items() if path.endswith(end)), None)
        if model is not None:
            return _of(self._types, self._models.strict(required=model == "V1Job"), model)
        if _TEXTS.search(path):
            return {"type": "object", "values": self._types.add(STRING)}
        if _FILTER.search(path):
            return self._types.all[self._types.named("filter", self._filter)]
        fields: dict[str, int] = {}
        if path.endswith("delivery"):
            names = ("timeout", "retryAfterMax", "format", "backoffDelay", "backoffPolicy")
            fields = {name: self._types.add(STRING) for name in names}
        elif _REFERENCE.search(path):
            fields = {name: self._types.add(STRING) for name in ("group", "address")}
        elif path == "ApiServerSource.spec":  # a field that the published CRD lacks
            one = self._types.named("filter", self._filter)
            fields = {"filters": self._types.add({"type": "array", "items": one})}
        known: dict[str, int] = shape.get("fields", {})  # type: ignore[assignment]
        return {**shape, "fields": {**fields, **known}, "unknown": "refuse"}

    def _filter(self) -> Shape:
        """A filter inside another one (SubscriptionsAPIFilter): every dialect, to any depth."""
        texts = self._types.map_of(STRING)
        own = self._types.named("filter", self._filter)
        several = self._types.add({"type": "array", "items": own})
        fields = dict.fromkeys(("exact", "prefix", "suffix"), texts)
        fields |= {"all": several, "any": several, "not": own, "cesql": self._types.add(STRING)}
        return {"type": "object", "fields": fields, "unknown": "refuse"}


def _of(types: Types, models: ModelTypes, model: str) -> Shape:
    return types.all[models.model(model)]


def families(crds: Path) -> Iterator[tuple[str, Types]]:
    """Each family's tables."""
    for family in FAMILIES:
        types = Types()
        models = ModelTypes(types)
        if family == "kubernetes":
            for kind, (model, plural, namespaced) in KINDS.items():
                types.kinds[kind] = (models.document(model), plural, namespaced)
        else:
            custom = CustomTypes(family, types, models)
            for file in sorted((crds / family).glob("*.yaml")):
                _read_crd(file, custom, types)
            if family in _WRITTEN:
                _add_kind(_WRITTEN[family], custom, types)
        yield family, types


def _read_crd(file: Path, custom: CustomTypes, types: Types) -> None:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for crd in yaml.load_all(file.read_text(encoding="utf-8"), Loader=loader):
        if crd:
            _add_kind(crd["spec"], custom, types)


def _add_kind(spec: dict[str, Any], custom: CustomTypes, types: Types) -> None:
    """Add one kind in each version that is served."""
    kind, plural = spec["names"]["kind"], spec["names"]["plural"]
    for version in spec["versions"]:
        shape = version["schema"]["openAPIV3Schema"]
        if version["served"] and "properties" in shape:
            index = custom.document(kind, shape, METADATA)
            namespaced = spec["scope"] == "Namespaced"
            types.kinds[f"{spec['group']}/{version['name']}/{kind}"] = (index, plural, namespaced)


def main(crds: Path, tables: Path) -> None:
    """Write every family's file and the index of kinds into `tables`."""
    index = {}
    for family, types in families(crds):
        rows = ",\n".join(json.dumps(t, separators=(",", ":"), sort_keys=True) for t in types.all)
        (tables / f"{family}.json").write_text(f"[\n{rows}\n]\n", encoding="utf-8")
        for kind, row in types.kinds.items():
            index[kind] = [family, *row]
    rows = ",\n".join(f"{json.dumps(k)}:{json.dumps(index[k])}" for k in sorted(index))
    (tables / "kinds.json").write_text(f"{{\n{rows}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
