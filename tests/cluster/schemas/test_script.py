"""What the script that makes the field tables reads in a CRD, by CRDs of our own.

The clauses are those of Kubernetes' structural schemas: apiextensions.k8s.io/v1 JSONSchemaProps,
and the documentation of its `x-kubernetes-` extensions.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from relume.cluster.schemas import pruned
from relume.cluster.schemas.check import check_shape
from relume.cluster.schemas.tables import Shape
from relume.config.nodes import Node, Table
from relume.config.yaml_source import documents

ROOT = Path(__file__).parents[3]
TABLES = ROOT / "cluster/relume/cluster/schemas/data"
QUANTITY = r"^(\+|-)?[0-9]+(\.[0-9]+)?([KMGTPE]i?)?$"

KETTLE = f"""
group: serving.kserve.io
names: {{kind: Kettle, plural: kettles}}
scope: Cluster
versions:
  - name: v0
    served: false
    schema: {{openAPIV3Schema: {{type: object}}}}
  - name: v1
    served: true
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          apiVersion: {{type: string}}
          kind: {{type: string}}
          metadata: {{type: object}}
          status: {{type: object, properties: {{on: {{type: boolean}}}}}}
          spec:
            type: object
            required: [litres, colour]
            properties:
              litres: {{type: integer, format: int32, minimum: 0, maximum: 9}}
              colour: {{type: string, default: red, enum: [red, blue]}}
              port: {{x-kubernetes-int-or-string: true}}
              memory: {{x-kubernetes-int-or-string: true, pattern: '{QUANTITY}'}}
              label: {{type: string, pattern: '^[a-z]+$', minLength: 2, maxLength: 5}}
              since: {{type: string, format: date-time}}
              notes: {{type: object, additionalProperties: {{type: string}}}}
              extra: {{type: object, x-kubernetes-preserve-unknown-fields: true}}
              tags: {{type: array, items: {{type: string}}, x-kubernetes-list-type: set}}
              spouts:
                type: array
                minItems: 1
                maxItems: 2
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name, side]
                items:
                  type: object
                  required: [name]
                  properties:
                    name: {{type: string}}
                    side: {{type: string, default: left}}
"""
PIPE = """
group: eventing.knative.dev
names: {kind: Pipe, plural: pipes}
scope: Namespaced
versions:
  - name: v1
    served: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            x-kubernetes-preserve-unknown-fields: true
            properties:
              delivery: {type: object, x-kubernetes-preserve-unknown-fields: true}
              filters:
                type: array
                items:
                  type: object
                  properties:
                    all:
                      type: array
                      items: {type: object, x-kubernetes-preserve-unknown-fields: true}
"""
POT = """
group: serving.knative.dev
names: {kind: Pot, plural: pots}
scope: Namespaced
versions:
  - name: v1
    served: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              tolerations:
                type: array
                items: {type: object, x-kubernetes-preserve-unknown-fields: true}
              other: {type: object, x-kubernetes-preserve-unknown-fields: true}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of tables that the script makes of our CRDs."""
    crds, tables = tmp_path_factory.mktemp("crds"), tmp_path_factory.mktemp("tables")
    for family, spec in (("kserve", KETTLE), ("knative-eventing", PIPE), ("knative-serving", POT)):
        (crds / family).mkdir()
        text = yaml.safe_dump({"spec": yaml.safe_load(spec)})
        (crds / family / "one.yaml").write_text(text)
    script = ROOT / "cluster" / "schemas.py"
    subprocess.run([sys.executable, str(script), str(crds), str(tables)], check=True)
    return tables


def kinds(tables: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tables / "kinds.json").read_text())
    return {kind: row for kind, row in found.items() if row[0] != "kubernetes"}


def shape(tables: Path, kind: str) -> Shape:
    family, number, *_ = kinds(tables)[kind]
    return Shape(json.loads((tables / f"{family}.json").read_text()), number)


def written(folder: Path, spec: str) -> Node:
    (folder / "m.yaml").write_text(f"metadata: {{name: a}}\nspec: {spec}\n")
    (document,) = documents(folder / "m.yaml")
    return document


def test_kubernetes_own_kinds_are_what_the_script_makes_of_the_models(made: Path) -> None:
    assert (made / "kubernetes.json").read_text() == (TABLES / "kubernetes.json").read_text()


def test_a_kind_is_listed_with_its_plural_and_scope_in_each_version_that_is_served(
    made: Path,
) -> None:
    assert {kind: (row[0], *row[2:]) for kind, row in kinds(made).items()} == {
        "serving.kserve.io/v1/Kettle": ("kserve", "kettles", False),
        "eventing.knative.dev/v1/Pipe": ("knative-eventing", "pipes", True),
        "serving.knative.dev/v1/Pot": ("knative-serving", "pots", True),
        # its CRD is not in the folder of CRDs: the script has its fields
        "serving.knative.dev/v1beta1/DomainMapping": ("knative-serving", "domainmappings", True),
    }


@pytest.mark.parametrize(
    ("spec", "reason", "field"),
    [
        pytest.param("{litres: 2}", None, "", id="a required field with a default may be absent"),
        pytest.param("{}", "missing-field", "spec.litres", id="a required field may not"),
        pytest.param("{litres: 0}", None, "", id="the least that is allowed"),
        pytest.param("{litres: -1}", "out-of-range", "spec.litres", id="less than the minimum"),
        pytest.param("{litres: 10}", "out-of-range", "spec.litres", id="more than the maximum"),
        pytest.param("{litres: 1.5}", "wrong-type", "spec.litres", id="a fraction is no integer"),
        pytest.param(
            "{litres: 1, colour: green}", "unsupported-value", "spec.colour", id="not in the enum"
        ),
        pytest.param("{litres: 1, port: http}", None, "", id="an int or a string is a string"),
        pytest.param("{litres: 1, port: 80}", None, "", id="an int or a string is an int"),
        pytest.param(
            "{litres: 1, port: true}", "wrong-type", "spec.port", id="a boolean is neither"
        ),
        pytest.param("{litres: 1, memory: 2Gi}", None, "", id="a quantity"),
        pytest.param(
            "{litres: 1, memory: lots}", "invalid-value", "spec.memory", id="not a quantity"
        ),
        pytest.param(
            "{litres: 1, label: ABC}", "invalid-value", "spec.label", id="not the pattern"
        ),
        pytest.param("{litres: 1, label: a}", "out-of-range", "spec.label", id="a text too short"),
        pytest.param(
            "{litres: 1, label: abcdef}", "out-of-range", "spec.label", id="a text too long"
        ),
        pytest.param("{litres: 1, since: today}", "invalid-value", "spec.since", id="not a time"),
        pytest.param(
            "{litres: 1, notes: {a: 1}}", "wrong-type", "spec.notes.a", id="a map has one type"
        ),
        pytest.param("{litres: 1, extra: {a: 1}}", None, "", id="a place that is left open"),
        pytest.param(
            "{litres: 1, tags: [a, b, a]}", "duplicate-item", "spec.tags[2]", id="a set repeats"
        ),
        pytest.param("{litres: 1, spouts: []}", "out-of-range", "spec.spouts", id="too few items"),
        pytest.param(
            "{litres: 1, spouts: [{name: a}, {name: b}, {name: c}]}",
            "too-many",
            "spec.spouts",
            id="too many items",
        ),
        pytest.param(
            "{litres: 1, spouts: [{name: a}, {name: a, side: left}]}",
            "duplicate-item",
            "spec.spouts[1]",
            id="a default is part of an item's key",
        ),
        pytest.param(
            "{litres: 1, spouts: [{name: a}, {name: a, side: right}]}",
            None,
            "",
            id="items that differ in one key",
        ),
        pytest.param("{litres: 1, litre: 1}", "unknown-field", "spec.litre", id="an unknown field"),
    ],
)
def test_what_a_crd_says_of_a_field_is_held(
    made: Path, tmp_path: Path, spec: str, reason: str | None, field: str
) -> None:
    found = check_shape(written(tmp_path, spec), shape(made, "serving.kserve.io/v1/Kettle"))
    expected = [(reason, field)] if reason else []
    assert [(finding.reason, finding.field) for finding in found] == expected


@pytest.mark.parametrize(
    ("kind", "spec", "reason", "field"),
    [
        pytest.param(
            "eventing.knative.dev/v1/Pipe",
            "{delivery: {timeout: PT1S, retryAfterMax: PT9S}}",
            None,
            "",
            id="a delivery has the fields of its Go type",
        ),
        pytest.param(
            "eventing.knative.dev/v1/Pipe",
            "{delivery: {tries: 1}}",
            "undecodable-field",
            "spec.delivery.tries",
            id="Knative Eventing refuses what its Go type does not have",
        ),
        pytest.param(
            "eventing.knative.dev/v1/Pipe",
            "{filters: [{all: [{not: {any: [{cesql: 'TRUE'}, {exact: {type: a}}]}}]}]}",
            None,
            "",
            id="a filter holds filters to any depth",
        ),
        pytest.param(
            "eventing.knative.dev/v1/Pipe",
            "{filters: [{all: [{not: {any: [{glob: {type: a}}]}}]}]}",
            "undecodable-field",
            "spec.filters[0].all[0].not.any[0].glob",
            id="an unknown dialect at any depth",
        ),
        pytest.param(
            "serving.knative.dev/v1/Pot",
            "{tolerations: [{key: gpu, operator: Exists}]}",
            None,
            "",
            id="Kubernetes' own type where Knative Serving leaves the place open",
        ),
        pytest.param(
            "serving.knative.dev/v1/Pot",
            "{tolerations: [{kee: gpu}]}",
            "unknown-field",
            "spec.tolerations[0].kee",
            id="Knative Serving drops what Kubernetes' type does not have",
        ),
    ],
)
def test_a_place_that_a_crd_leaves_open_has_the_type_that_the_webhook_decodes(
    made: Path, tmp_path: Path, kind: str, spec: str, reason: str | None, field: str
) -> None:
    found = check_shape(written(tmp_path, spec), shape(made, kind))
    expected = [(reason, field)] if reason else []
    assert [(finding.reason, finding.field) for finding in found] == expected


def test_what_is_not_a_field_is_pruned_and_what_is_left_open_is_kept(
    made: Path, tmp_path: Path
) -> None:
    spec = "{litres: 1, gone: 1, label: null, extra: {a: 1}, notes: {b: c}, spouts: [{x: 1}]}"
    kept = pruned(written(tmp_path, spec), shape(made, "serving.kserve.io/v1/Kettle"))
    assert isinstance(kept, Table)
    assert plain(kept.get("spec")) == {
        "litres": "1",
        "extra": {"a": "1"},
        "notes": {"b": "c"},
        "spouts": [{}],
    }


def plain(node: Any) -> object:
    if isinstance(node, Table):
        return {name: plain(child) for name, child in node}
    return [plain(child) for child in node.nodes] if hasattr(node, "nodes") else node.content
