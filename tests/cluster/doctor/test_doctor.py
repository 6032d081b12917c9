"""What becomes of documents after admission, and where their times do not go together."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from relume.cluster.admission import SHIPPED, Cluster
from relume.cluster.doctor import Diagnosis, examine
from relume.cluster.reasons import REASONS
from tests.config.manifests import broker, service, together, trigger

ROOT = Path(__file__).parents[3]
SINK = "deadLetterSink: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: b}}"
ASK = "ref: {apiVersion: serving.kserve.io/v1beta1, kind: InferenceService, name: m}"
ONLY_REQUESTS = "filters: [{exact: {type: com.example.request}}]"


def diagnosed(
    folder: Path, text: str, cluster: Cluster = SHIPPED, cold_start_s: float = 60
) -> list[Diagnosis]:
    (folder / "m.yaml").write_text(text)
    return examine([folder / "m.yaml"], cluster, cold_start_s=cold_start_s)


def found(
    folder: Path, text: str, cluster: Cluster = SHIPPED, cold_start_s: float = 60
) -> set[tuple[str, str]]:
    """Reason and field of every finding that is more than a note."""
    return {
        (finding.reason, finding.field)
        for one in diagnosed(folder, text, cluster, cold_start_s)
        for finding in one.findings
        if finding.severity != "info"
    }


def test_the_samples_have_nothing_worse_than_notes() -> None:
    for one in examine([ROOT / "config" / "samples"]):
        assert one.verdict == "accepted"
        assert {finding.severity for finding in one.findings} <= {"info"}


def test_the_page_has_a_section_for_every_reason() -> None:
    script = ROOT / "cluster" / "doctor_page.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    page = (ROOT / "cluster" / "DOCTOR.md").read_text()
    assert done.stdout == page, "run: make schemas"
    assert all(f"\n## {reason}\n" in page for reason in REASONS)


@pytest.mark.parametrize(
    ("predictor", "model", "metadata", "reason", "field"),
    [
        ("timeout: 3600", "", "", "reconcile-failed", "spec.predictor.timeout"),
        (
            "containerConcurrency: 1001",
            "",
            "",
            "reconcile-failed",
            "spec.predictor.containerConcurrency",
        ),
        (
            "tolerations: [{key: a, operator: Exists}]",
            "",
            "",
            "reconcile-failed",
            "spec.predictor.tolerations",
        ),
        ("nodeSelector: {a: b}", "", "", "reconcile-failed", "spec.predictor.nodeSelector"),
        ("runtimeClassName: nvidia", "", "", "reconcile-failed", "spec.predictor.runtimeClassName"),
        (
            "serviceAccountName: A_b",
            "",
            "",
            "reconcile-failed",
            "spec.predictor.serviceAccountName",
        ),
        (
            "terminationGracePeriodSeconds: 600",
            "",
            "",
            "dropped-later",
            "spec.predictor.terminationGracePeriodSeconds",
        ),
        (
            "",
            "lifecycle: {preStop: {sleep: {seconds: 5}}}",
            "",
            "dropped-later",
            "spec.predictor.model.lifecycle",
        ),
        (
            "",
            "env: [{name: K_SERVICE, value: x}]",
            "",
            "reconcile-failed",
            "spec.predictor.model.env[0].name",
        ),
        (
            "",
            "ports: [{containerPort: 8022}]",
            "",
            "reconcile-failed",
            "spec.predictor.model.ports.containerPort",
        ),
        (
            "resourceClaims: [{name: gpu, resourceClaimTemplateName: one}]",
            "",
            "",
            "no-device",
            "spec.predictor.resourceClaims",
        ),
        (
            "",
            "resources: {claims: [{name: gpu}]}",
            "",
            "no-device",
            "spec.predictor.model.resources.claims",
        ),
        (
            "",
            "",
            "annotations: {autoscaling.knative.dev/initial-scale: '0'}",
            "annotation-ignored",
            "metadata.annotations.autoscaling.knative.dev/initial-scale",
        ),
        (
            "",
            "",
            "annotations: {autoscaling.knative.dev/min-scale: '0'}",
            "annotation-ignored",
            "metadata.annotations.autoscaling.knative.dev/min-scale",
        ),
        (
            "",
            "",
            "annotations: {autoscaling.knative.dev/window: 2s}",
            "reconcile-failed",
            "metadata.annotations.autoscaling.knative.dev/window",
        ),
        (
            "",
            "",
            "annotations: {autoscaling.knative.dev/scaleUpDelay: 2s}",
            "annotation-ignored",
            "metadata.annotations.autoscaling.knative.dev/scaleUpDelay",
        ),
        (
            "",
            "",
            "annotations: {serving.kserve.io/deploymentMode: Foo}",
            "unknown-mode",
            "metadata.annotations.serving.kserve.io/deploymentMode",
        ),
    ],
)
def test_what_kserve_takes_and_knative_does_not_is_said(
    tmp_path: Path, predictor: str, model: str, metadata: str, reason: str, field: str
) -> None:
    (one,) = diagnosed(tmp_path, service(predictor, model, metadata))
    assert one.verdict == "accepted"
    assert (reason, field) in {(f.reason, f.field) for f in one.findings}


def test_standard_mode_takes_what_knative_does_not(tmp_path: Path) -> None:
    text = service(
        "timeout: 3600\ntolerations: [{operator: Exists}]\n"
        "resourceClaims: [{name: gpu, resourceClaimTemplateName: one}]",
        metadata="annotations: {serving.kserve.io/deploymentMode: Standard}",
    )
    assert found(tmp_path, text) == set()


def test_a_flag_that_is_on_opens_its_field(tmp_path: Path) -> None:
    text = service("tolerations: [{operator: Exists}]\ntimeout: 900")
    open_ = Cluster(
        {"kubernetes.podspec-tolerations": "Enabled", "max-revision-timeout-seconds": "1200"}
    )
    assert found(tmp_path, text, open_) == set()


def test_a_name_that_grows_too_long_is_said(tmp_path: Path) -> None:
    text = service().replace("name: m\n", f"name: {'a' * 54}\n")
    assert found(tmp_path, text) == {("reconcile-failed", "metadata.name")}
    assert found(tmp_path, text.replace("a" * 54, "a" * 53)) == set()


def test_a_cold_start_must_fit_into_the_request(tmp_path: Path) -> None:
    text = service("timeout: 100")
    assert found(tmp_path, text, cold_start_s=99) == set()
    assert found(tmp_path, text, cold_start_s=100) == {
        ("cold-start-over-timeout", "spec.predictor.timeout")
    }
    assert ("cold-start-over-timeout", "spec.predictor.timeout") in found(
        tmp_path, service(), cold_start_s=300
    )


def test_the_progress_deadline_must_outlast_the_cold_start(tmp_path: Path) -> None:
    key = "serving.knative.dev/progress-deadline"
    text = service("timeout: 600", metadata=f"annotations: {{{key}: 90s}}")
    assert found(tmp_path, text, cold_start_s=89) == set()
    assert found(tmp_path, text, cold_start_s=90) == {
        ("progress-deadline-short", f"metadata.annotations.{key}")
    }


def test_a_longer_request_needs_a_longer_wait_for_its_first_byte(tmp_path: Path) -> None:
    text = (
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: s}\n"
        "spec: {template: {spec: {timeoutSeconds: 600, containers: [{image: app}]%s}}}\n"
    )
    path = "spec.template.spec"
    assert found(tmp_path, text % "") == {
        ("first-byte-timeout", f"{path}.responseStartTimeoutSeconds")
    }
    assert found(tmp_path, text % ", responseStartTimeoutSeconds: 600") == set()
    assert found(tmp_path, text % ", responseStartTimeoutSeconds: 50") == {
        ("cold-start-over-timeout", f"{path}.responseStartTimeoutSeconds")
    }
    both = ", responseStartTimeoutSeconds: 600, idleTimeoutSeconds: 60"
    assert found(tmp_path, text % both) == {("idle-timeout", f"{path}.idleTimeoutSeconds")}


@pytest.mark.parametrize(
    ("delivery", "reason", "field"),
    [
        (
            f"{{timeout: PT300S, retry: 5, {SINK}}}",
            "delivery-timeout-short",
            "spec.delivery.timeout",
        ),
        (f"{{timeout: PT5M1S, retry: 5, {SINK}}}", None, ""),
        ("{retry: 3}", "no-dead-letter", "spec.delivery.deadLetterSink"),
        (f"{{retry: 0, {SINK}}}", "no-retry", "spec.delivery.retry"),
        (f"{{timeout: PT6M, {SINK}}}", "no-retry", "spec.delivery.retry"),
    ],
)
def test_a_delivery_must_go_with_the_service(
    tmp_path: Path, delivery: str, reason: str | None, field: str
) -> None:
    text = together(broker(), service(), trigger(f"{ONLY_REQUESTS}\ndelivery: {delivery}", ASK))
    assert found(tmp_path, text) == ({(reason, field)} if reason else set())


def test_the_brokers_delivery_counts_where_the_trigger_has_none(tmp_path: Path) -> None:
    given = broker(f"delivery: {{timeout: PT10M, retry: 5, {SINK}}}")
    assert found(tmp_path, together(given, service(), trigger(ONLY_REQUESTS, ASK))) == set()


def test_retries_must_outlast_a_start_where_nothing_holds_the_request(tmp_path: Path) -> None:
    standard = service(metadata="annotations: {serving.kserve.io/deploymentMode: Standard}")
    fast = f"{ONLY_REQUESTS}\ndelivery: {{retry: 5, backoffDelay: PT1S, {SINK}}}"
    reason = ("retries-shorter-than-start", "spec.delivery.retry")
    assert found(tmp_path, together(broker(), standard, trigger(fast, ASK))) == {reason}
    # 1 + 2 + 4 + 8 + 16 = 31 s; Knative holds each attempt, so there it is enough.
    assert found(tmp_path, together(broker(), service(), trigger(fast, ASK))) == set()
    assert (
        found(tmp_path, together(broker(), standard, trigger(fast, ASK)), cold_start_s=31) == set()
    )


@pytest.mark.parametrize(
    ("filters", "loops"),
    [
        ("", True),
        ("filters: []", True),
        ("filters: [{exact: {type: com.example.request}}]", False),
        ("filters: [{exact: {type: relume.inference.response}}]", True),
        ("filters: [{prefix: {type: relume.}}]", True),
        ("filters: [{suffix: {type: request}}]", False),
        ("filters: [{not: {exact: {type: relume.inference.response}}}]", True),
        ("filters: [{not: {prefix: {type: relume.inference.}}}]", False),
        ("filters: [{any: [{exact: {type: a}}, {prefix: {source: /namespaces/}}]}]", True),
        ("filters: [{all: [{prefix: {subject: x}}, {prefix: {type: relume}}]}]", True),
        ("filters: [{exact: {mine: x}}]", False),
        ("filters: [{cesql: \"type LIKE '%request'\"}]", False),
        ("filter: {attributes: {type: com.example.request}}", False),
        ("filter: {attributes: {type: ''}}", True),
        ("filter: {attributes: {}}", True),
        ("filter: {attributes: {source: /namespaces/default/inferenceservices/m}}", True),
    ],
)
def test_a_trigger_that_takes_its_own_replies_is_found(
    tmp_path: Path, filters: str, loops: bool
) -> None:
    spec = f"{filters}\ndelivery: {{{SINK}}}"
    text = together(broker(), service(), trigger(spec, ASK))
    reasons = {reason for reason, _ in found(tmp_path, text)}
    assert ("reply-loop" in reasons) == loops


def test_devices_are_counted_for_rollouts_and_bursts(tmp_path: Path) -> None:
    text = service(model="resources: {limits: {nvidia.com/gpu: 1}}")
    limit = "spec.predictor.model.resources.limits.nvidia.com/gpu"
    assert found(tmp_path, text) == {
        ("second-device", limit),
        ("unbounded-scale", "spec.predictor.maxReplicas"),
    }
    bounded = service("maxReplicas: 2", "resources: {limits: {cpu: 1, memory: 1Gi}}")
    assert found(tmp_path, bounded) == set()


def test_a_format_without_a_runtime_is_said(tmp_path: Path) -> None:
    text = service().replace("name: vLLM", "name: vllm")
    (one,) = diagnosed(tmp_path, text)
    (finding,) = [f for f in one.findings if f.reason == "no-runtime"]
    assert "did you mean vLLM?" in finding.message
    runtime = (
        "apiVersion: serving.kserve.io/v1alpha1\nkind: ClusterServingRuntime\nmetadata: {name: r}\n"
        "spec: {supportedModelFormats: [{name: vllm, autoSelect: true}], "
        "containers: [{name: kserve-container, image: a}]}\n"
    )
    assert found(tmp_path, together(text, runtime)) == set()


def test_the_lints_of_claims_are_said_at_their_document(tmp_path: Path) -> None:
    head = "apiVersion: resource.k8s.io/v1\nkind: DeviceClass\nmetadata: {name: c}\nspec:\n"
    memory = "device.capacity['gpu.nvidia.com'].memory.compareTo(quantity('80Gi')) >= 0"
    text = f'{head}  selectors:\n  - cel: {{expression: "{memory}"}}\n'
    (tmp_path / "m.yaml").write_text(together(broker(), text))
    first, second = examine([tmp_path / "m.yaml"])
    assert first.findings == ()
    assert second.verdict == "accepted"
    said = {(f.reason, f.field) for f in second.findings}
    expression = "spec.selectors[0].cel.expression"
    assert ("unguarded-key", expression) in said
    assert ("label-size-quantity", expression) in said


def test_every_reason_of_the_lints_is_in_the_catalogue() -> None:
    table = (ROOT / "cluster" / "CLAIMS.md").read_text().split("## Lints")[1]
    words = re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)
    assert len(words) >= 7
    assert set(words) <= REASONS.keys()


def test_a_model_without_a_format_is_said(tmp_path: Path) -> None:
    text = service().replace("      modelFormat: {name: vLLM}\n", "")
    assert found(tmp_path, text) == {("no-runtime", "spec.predictor.model.modelFormat.name")}


def test_text_that_is_no_yaml_is_a_finding_after_the_documents_before_it(tmp_path: Path) -> None:
    first, second = diagnosed(tmp_path, "---\n".join((broker(), "a: b: c\n")))
    assert (first.verdict, first.unreadable) == ("accepted", False)
    assert (second.verdict, second.unreadable) == ("refused", True)
    (finding,) = second.findings
    assert (finding.reason, finding.field, finding.line) == ("not-yaml", "YAML", 7)


def test_a_repeated_field_is_refused_and_the_rest_still_examined(tmp_path: Path) -> None:
    text = together(broker("delivery: {retry: 1}") + "  delivery: {retry: -1}\n", service())
    first, second = diagnosed(tmp_path, text)
    assert [f.reason for f in first.findings] == ["repeated-field", "invalid-value"]
    assert second.verdict == "accepted"


def test_a_trigger_whose_broker_is_missing_is_said(tmp_path: Path) -> None:
    delivery = (
        f"{ONLY_REQUESTS}\ndelivery: {{retry: 5, backoffDelay: PT30S, timeout: PT10M, {SINK}}}"
    )
    alone = together(service(), trigger(delivery, ASK))
    (finding,) = [
        f for one in diagnosed(tmp_path, alone) for f in one.findings if f.reason == "no-broker"
    ]
    assert (finding.field, finding.severity) == ("spec.broker", "warning")
    assert "not among these documents" in finding.message
    assert "no-broker" not in {r for r, _ in found(tmp_path, together(broker(), alone))}


def test_a_broker_that_the_cluster_has_is_not_missed(tmp_path: Path) -> None:
    text = together(service(), trigger(ONLY_REQUESTS, ASK))
    for brokers, missing in ((frozenset({("default", "b")}), False), (frozenset(), True)):
        diagnoses = diagnosed(tmp_path, text, Cluster(brokers=brokers))
        said = {(f.reason, f.severity) for one in diagnoses for f in one.findings}
        assert (("no-broker", "error") in said) == missing


def test_a_broker_in_another_namespace_is_another_broker(tmp_path: Path) -> None:
    elsewhere = broker(metadata="namespace: other")
    said = found(tmp_path, together(elsewhere, service(), trigger(ONLY_REQUESTS, ASK)))
    assert ("no-broker", "spec.broker") in said


def test_a_second_cache_of_one_model_is_refused(tmp_path: Path) -> None:
    cache = (
        "apiVersion: serving.kserve.io/v1alpha1\nkind: LocalModelCache\nmetadata: {name: %s}\n"
        "spec: {sourceModelUri: hf://a/%s, modelSize: 1Gi, nodeGroups: [gpu]}\n"
    )
    first, second, third = diagnosed(
        tmp_path, together(cache % ("one", "b"), cache % ("two", "b"), cache % ("three", "c"))
    )
    assert (first.verdict, second.verdict, third.verdict) == ("accepted", "refused", "accepted")
    assert [(f.reason, f.field) for f in second.findings] == [("conflict", "spec.sourceModelUri")]
