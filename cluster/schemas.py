"""Write the field tables of `relume.cluster.schemas` from what the projects publish.

    python cluster/schemas.py CRDS TABLES

CRDS is the folder of published CRDs (knative-serving, knative-eventing, kserve); Kubernetes' own
kinds come from the models of the `kubernetes` package. Only facts are kept (names, types, required,
enums, ranges), none of the text. Run by `make schemas`; a test runs it again and compares.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from schemas_crds import CustomTypes
from schemas_models import KINDS, ModelTypes
from schemas_types import Types

# One file each. A custom kind needs the models too: for metadata and for what its CRD leaves open.
FAMILIES = ("kubernetes", "knative-serving", "knative-eventing", "kserve")
METADATA = "V1ObjectMeta"


def families(crds: Path) -> Iterator[tuple[str, Types]]:
    """Each family's tables."""
    for family in FAMILIES:
        types = Types()
        models = ModelTypes(types)
        if family == "kubernetes":
            for kind, (model, plural, namespaced) in KINDS.items():
                types.kinds[kind] = (models.document(model), plural, namespaced)
        else:
            for file in sorted((crds / family).glob("*.yaml")):
                _read_crd(file, CustomTypes(family, types, models), types)
        yield family, types


def _read_crd(file: Path, custom: CustomTypes, types: Types) -> None:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    spec = yaml.load(file.read_text(encoding="utf-8"), Loader=loader)["spec"]
    for version in spec["versions"]:
        if version["served"]:
            kind = f"{spec['group']}/{version['name']}/{spec['names']['kind']}"
            shape = version["schema"]["openAPIV3Schema"]
            index = custom.document(shape, METADATA)
            types.kinds[kind] = (index, spec["names"]["plural"], spec["scope"] == "Namespaced")


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
