"""What the field tables say of a document, and that the script makes them of the CRDs."""

import subprocess
import sys
from pathlib import Path

import pytest

from relume.cluster.findings import Finding
from relume.cluster.schemas import check_shape, known_kinds, schema
from relume.config.yaml_source import documents
from tests.vectors import published, vector

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


@published
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


POD = "spec.template.spec"
BOX = f"{POD}.containers[0]"

# id → what is wrong with the pod's spec, its container or the metadata; the reason and the field.
WRONG: dict[str, tuple[str, str, str, str, str]] = {
    "a field that the pod does not have": (
        "tmeoutSeconds: 5",
        "",
        "",
        "unknown-field",
        f"{POD}.tmeoutSeconds",
    ),
    "a string for a whole number": (
        "timeoutSeconds: '5'",
        "",
        "",
        "wrong-type",
        f"{POD}.timeoutSeconds",
    ),
    "a fraction for a whole number": (
        "timeoutSeconds: 5.5",
        "",
        "",
        "wrong-type",
        f"{POD}.timeoutSeconds",
    ),
    "a number that 64 bits do not hold": (
        f"timeoutSeconds: {2**70}",
        "",
        "",
        "out-of-range",
        f"{POD}.timeoutSeconds",
    ),
    "a word for true or false": ("hostIPC: 'yes'", "", "", "wrong-type", f"{POD}.hostIPC"),
    "a number for a table": ("affinity: 5", "", "", "wrong-type", f"{POD}.affinity"),
    "a number in a map of strings": (
        "nodeSelector: {a: 1}",
        "",
        "",
        "wrong-type",
        f"{POD}.nodeSelector.a",
    ),
    "a string for a list": ("", ", args: x", "", "wrong-type", f"{BOX}.args"),
    "null in a list of strings": ("", ", args: [null]", "", "wrong-type", f"{BOX}.args[0]"),
    "a variable without its name": (
        "",
        ", env: [{value: x}]",
        "",
        "missing-field",
        f"{BOX}.env[0].name",
    ),
    "a word for a quantity": (
        "",
        ", resources: {limits: {cpu: much}}",
        "",
        "invalid-value",
        f"{BOX}.resources.limits.cpu",
    ),
    "a number for a label": ("", "", ", labels: {a: 1}", "wrong-type", "metadata.labels.a"),
    "a misspelled field of the metadata": (
        "",
        "",
        ", lables: {}",
        "unknown-field",
        "metadata.lables",
    ),
    "a misspelled field where the CRD leaves the place open": (
        "tolerations: [{key: a, oprator: Exists}]",
        "",
        "",
        "unknown-field",
        f"{POD}.tolerations[0].oprator",
    ),
    "two volumes of one name": (
        "volumes: [{name: a, emptyDir: {}}, {name: a, emptyDir: {}}]",
        "",
        "",
        "duplicate-item",
        f"{POD}.volumes[1]",
    ),
}


@pytest.mark.parametrize(
    ("spec", "container", "metadata", "reason", "field"), WRONG.values(), ids=WRONG
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
