"""The field tables are what the script makes of the published CRDs, and what they say holds."""

import subprocess
import sys
from pathlib import Path

import pytest

from relume.cluster.findings import Finding
from relume.cluster.schemas import check_shape, known_kinds, schema
from relume.config.yaml_source import documents
from tests.vectors import vector

ROOT = Path(__file__).parents[3]
TABLES = ROOT / "cluster/relume/cluster/schemas/data"


def findings(folder: Path, text: str) -> list[tuple[str, str]]:
    return [(found.reason, found.field) for found in judged(folder, text)]


def judged(folder: Path, text: str) -> tuple[Finding, ...]:
    file = folder / "m.yaml"
    file.write_text(text)
    (document,) = documents(file)
    table = document.table()
    kind = schema(table.entries["apiVersion"].text(), table.entries["kind"].text())
    assert kind is not None
    return tuple(check_shape(table, kind.shape))


def test_the_tables_are_what_the_script_makes_of_the_published_crds(tmp_path: Path) -> None:
    crds = vector("crds/knative-serving/service.yaml").parents[1]
    script = ROOT / "cluster" / "schemas.py"
    subprocess.run([sys.executable, str(script), str(crds), str(tmp_path)], check=True)
    made = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert made == {file.name: file.read_text() for file in TABLES.iterdir()}


def test_every_kind_that_is_rendered_has_a_table() -> None:
    for kind in (
        "v1/ConfigMap",
        "v1/Service",
        "apps/v1/Deployment",
        "networking.k8s.io/v1/NetworkPolicy",
        "policy/v1/PodDisruptionBudget",
        "resource.k8s.io/v1/DeviceClass",
        "resource.k8s.io/v1/ResourceClaimTemplate",
        "admissionregistration.k8s.io/v1/MutatingAdmissionPolicyBinding",
        "serving.kserve.io/v1alpha1/ClusterServingRuntime",
        "serving.kserve.io/v1beta1/InferenceService",
        "serving.knative.dev/v1/Service",
        "eventing.knative.dev/v1/Trigger",
    ):
        assert tuple(kind.rsplit("/", 1)) in known_kinds()


def test_a_schema_knows_its_plural_and_its_scope() -> None:
    found = schema("resource.k8s.io/v1", "DeviceClass")
    assert found is not None
    assert (found.plural, found.namespaced) == ("deviceclasses", False)
    claim = schema("resource.k8s.io/v1", "ResourceClaim")
    assert claim is not None
    assert claim.namespaced
    assert schema("example.com/v1", "Anything") is None


SERVICE = """
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {{name: s{metadata}}}
spec:
  template:
    spec:
      containers: [{{image: a{container}}}]
      {spec}
"""


@pytest.mark.parametrize(
    ("spec", "container", "metadata", "reason", "field"),
    [
        ("tmeoutSeconds: 5", "", "", "unknown-field", "spec.template.spec.tmeoutSeconds"),
        ("timeoutSeconds: '5'", "", "", "wrong-type", "spec.template.spec.timeoutSeconds"),
        ("timeoutSeconds: 5.5", "", "", "wrong-type", "spec.template.spec.timeoutSeconds"),
        ("hostIPC: 'yes'", "", "", "wrong-type", "spec.template.spec.hostIPC"),
        ("affinity: 5", "", "", "wrong-type", "spec.template.spec.affinity"),
        ("nodeSelector: {a: 1}", "", "", "wrong-type", "spec.template.spec.nodeSelector.a"),
        ("", ", args: x", "", "wrong-type", "spec.template.spec.containers[0].args"),
        ("", ", args: [null]", "", "wrong-type", "spec.template.spec.containers[0].args[0]"),
        (
            "",
            ", env: [{value: x}]",
            "",
            "missing-field",
            "spec.template.spec.containers[0].env[0].name",
        ),
        (
            "",
            ", resources: {limits: {cpu: much}}",
            "",
            "invalid-value",
            "spec.template.spec.containers[0].resources.limits.cpu",
        ),
        ("", "", ", labels: {a: 1}", "wrong-type", "metadata.labels.a"),
        ("", "", ", lables: {}", "unknown-field", "metadata.lables"),
        (
            "tolerations: [{key: a, oprator: Exists}]",
            "",
            "",
            "unknown-field",
            "spec.template.spec.tolerations[0].oprator",
        ),
        (
            "volumes: [{name: a, emptyDir: {}}, {name: a, emptyDir: {}}]",
            "",
            "",
            "duplicate-item",
            "spec.template.spec.volumes[1]",
        ),
        (f"timeoutSeconds: {2**70}", "", "", "out-of-range", "spec.template.spec.timeoutSeconds"),
    ],
    ids=[
        "a misspelled field",
        "a number that is a string",
        "a whole number with a fraction",
        "a boolean that is a string",
        "a table that is a number",
        "a text in a map that is a number",
        "a list that is a text",
        "a text in a list that is nothing",
        "a required field that is missing",
        "a quantity that is a word",
        "a label that is a number",
        "a misspelled field of the metadata",
        "a misspelled field that only the webhook's type has",
        "an item that is there twice",
        "a number of more than 64 bits",
    ],
)
def test_a_field_that_is_not_as_the_api_has_it_is_found_at_its_place(
    tmp_path: Path, spec: str, container: str, metadata: str, reason: str, field: str
) -> None:
    text = SERVICE.format(spec=spec, container=container, metadata=metadata)
    assert findings(tmp_path, text) == [(reason, field)]


def test_a_misspelled_field_is_told_its_name(tmp_path: Path) -> None:
    text = SERVICE.format(spec="tmeoutSeconds: 5", container="", metadata="")
    (found,) = judged(tmp_path, text)
    assert "did you mean timeoutSeconds?" in found.message
    assert found.fix == "Write timeoutSeconds, or remove the field."
    assert (found.line, found.effect) == (9, "pruned")


def test_knative_eventings_webhook_refuses_where_the_crd_leaves_a_place_open(
    tmp_path: Path,
) -> None:
    head = "apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: t}\nspec:\n  "
    assert findings(tmp_path, head + "brker: b\n") == [("undecodable-field", "spec.brker")]
    nested = "filters: [{all: [{any: [{exat: {a: b}}]}]}]\n"
    field = "spec.filters[0].all[0].any[0].exat"
    assert findings(tmp_path, head + nested) == [("undecodable-field", field)]
    number = "filters: [{not: {exact: {type: 5}}}]\n"
    assert findings(tmp_path, head + number) == [("wrong-type", "spec.filters[0].not.exact.type")]
    sink = "delivery: {deadLetterSink: {rf: {}}}\n"
    assert findings(tmp_path, head + sink) == [("unknown-field", "spec.delivery.deadLetterSink.rf")]


@pytest.mark.parametrize("text", ["2", "500m", "16Gi", "1e3", "1E3", ".5", "5.", "0.1u", "2E"])
def test_what_the_api_reads_as_a_quantity_is_one(tmp_path: Path, text: str) -> None:
    limits = f", resources: {{limits: {{cpu: '{text}'}}}}"
    assert findings(tmp_path, SERVICE.format(spec="", container=limits, metadata="")) == []
