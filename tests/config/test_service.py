"""An InferenceService is read as KServe and Knative would, or refused by the field's name."""

from pathlib import Path

import pytest

from relume.config import Autoscaling

from .manifests import HERE, load_text, read_text, refused, service


def test_what_is_not_written_gets_the_defaults_of_kserve_and_knative(tmp_path: Path) -> None:
    (found,) = load_text(tmp_path, service()).services
    assert (found.namespace, found.name, found.model_format) == ("default", "m", "vLLM")
    assert (found.min_replicas, found.max_replicas, found.container_concurrency) == (1, 0, 0)
    assert (found.timeout_s, found.response_start_timeout_s, found.idle_timeout_s) == (300, 300, 0)
    assert found.progress_deadline_s == 600
    assert found.autoscaling == Autoscaling(min_scale=1)
    assert (found.args, found.env, found.runtime, found.annotations) == ((), {}, None, {})
    assert found.revision == "m-predictor-00001"
    assert found.source == "/namespaces/default/inferenceservices/m"


@pytest.mark.parametrize("mode", ["process", "template", "engine"])
def test_what_stays_in_memory_at_zero_is_chosen_by_an_annotation(tmp_path: Path, mode: str) -> None:
    (found,) = load_text(
        tmp_path, service(metadata=f"annotations: {{relume.dev/zero: {mode}}}")
    ).services
    assert found.zero == mode
    (found,) = load_text(tmp_path, service()).services
    assert found.zero is None


def test_another_word_for_what_stays_at_zero_is_refused(tmp_path: Path) -> None:
    text = service(metadata="annotations: {relume.dev/zero: warm}")
    field = "metadata.annotations.relume.dev/zero"
    refused(tmp_path, text, field, "warm is no mode: write process")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    text = service(
        metadata="namespace: prod\nannotations: {example.com/team: a, "
        "serving.knative.dev/progress-deadline: 20m}",
        predictor="minReplicas: 0\nmaxReplicas: 3\ncontainerConcurrency: 16\ntimeout: 600\n"
        "scaleTarget: 8\nscaleMetric: rps\nannotations: {example.com/team: b}",
        model="runtime: relume-vllm\nprotocolVersion: v2\n"
        "args: [--max-model-len=2048, --enforce-eager]\n"
        "env: [{name: A, value: '1'}, {name: EMPTY}]",
    )
    plan = load_text(tmp_path, text)
    (found,) = plan.services
    assert (found.namespace, found.source) == ("prod", "/namespaces/prod/inferenceservices/m")
    assert (found.min_replicas, found.max_replicas, found.container_concurrency) == (0, 3, 16)
    assert (found.timeout_s, found.response_start_timeout_s) == (600, 600)
    assert found.progress_deadline_s == 1200
    scaling = found.autoscaling
    assert (scaling.metric, scaling.target, scaling.min_scale, scaling.max_scale) == (
        "rps",
        8,
        0,
        3,
    )
    assert found.args == ("--max-model-len=2048", "--enforce-eager")
    assert found.env == {"A": "1", "EMPTY": ""}
    assert found.runtime == "relume-vllm"
    assert found.annotations["example.com/team"] == "b", "the predictor's annotations win"
    assert plan.not_honoured == ()


def test_a_field_that_is_null_counts_as_absent(tmp_path: Path) -> None:
    text = service(predictor="minReplicas:\ntimeout: null\ntolerations: ~", model="args:")
    plan = load_text(tmp_path, text)
    assert plan.services[0].min_replicas == 1
    assert plan.not_honoured == ()


def test_timeout_zero_means_the_default(tmp_path: Path) -> None:
    assert load_text(tmp_path, service("timeout: 0")).services[0].timeout_s == 300


def test_arguments_are_filled_in_as_a_cluster_does(tmp_path: Path) -> None:
    text = service(
        model="env: [{name: A, value: x}, {name: B, value: $(A)y}]\n"
        "args: ['--lora={{.Name}}/{{ .Namespace }}', '--b=$(B)', '$(NONE)', '$$(A)', '{\"a\":{}}']"
    )
    (found,) = read_text(tmp_path, text).services
    assert found.env == {"A": "x", "B": "xy"}
    assert found.args == ("--lora=m/default", "--b=xy", "$(NONE)", "$(A)", '{"a":{}}')


@pytest.mark.parametrize(
    ("uri", "read"),
    [
        ("hf://org/model:main", "hf://org/model:main"),
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("https://host/model.tar.gz?x=1", "https://host/model.tar.gz?x=1"),
        ("file:///mnt/models", "file:///mnt/models"),
        ("/mnt/models", "/mnt/models"),
        ("models/m", "{folder}/models/m"),
    ],
)
def test_storage_uris_stay_as_written_and_relative_paths_start_at_the_file(
    tmp_path: Path, uri: str, read: str
) -> None:
    text = service().replace("hf://org/model", uri)
    assert load_text(tmp_path, text).services[0].storage_uri == read.format(folder=tmp_path)


@pytest.mark.parametrize(
    ("predictor", "field", "message"),
    [
        ("gpu: 1", "gpu", "unknown field"),
        ("minReplica: 0", "minReplica", "unknown field; did you mean minReplicas?"),
        ("minReplicas: '0'", "minReplicas", "must be a whole number, not the string 0"),
        ("minReplicas: 0.5", "minReplicas", "must be a whole number, not the number 0.5"),
        ("minReplicas: true", "minReplicas", "must be a whole number, not the boolean true"),
        ("minReplicas: [0]", "minReplicas", "must be a whole number, not a list"),
        ("minReplicas: -1", "minReplicas", "expected 0 <= -1 <= 2147483647"),
        ("minReplicas: 99999999999999999999999", "minReplicas", "expected 0 <= "),
        ("minReplicas: 1.5", "minReplicas", "must be a whole number"),
        ("containerConcurrency: 0x3E9", "containerConcurrency", "expected 0 <= 0x3E9 <= 1000"),
        ("containerConcurrency: 1001", "containerConcurrency", "expected 0 <= 1001 <= 1000"),
        ("containerConcurrency: -1", "containerConcurrency", "expected 0 <= -1 <= 1000"),
        ("timeout: 3600", "timeout", "expected 0 <= 3600 <= 600"),
        ("timeout: 5m", "timeout", "must be a whole number, not the string 5m"),
        ("canaryTrafficPercent: 101", "canaryTrafficPercent", "expected 0 <= 101 <= 100"),
        ("canaryTrafficPercent: -1", "canaryTrafficPercent", "expected 0 <= -1 <= 100"),
        ("canaryTrafficPercent: 10%", "canaryTrafficPercent", "must be a whole number"),
        ("scaleMetric: tokens", "scaleMetric", "invalid value: tokens"),
        ("scaleMetric: cpu", "scaleMetric", "scaled by the HPA, which has no zero"),
        ("scaleTarget: 0", "scaleTarget", "expected 1 <= 0"),
        ("containers: []", "containers", "Relume runs its own vLLM runtime"),
        ("workerSpec: {}", "workerSpec", "several nodes"),
        ("initContainers: []", "initContainers", "Relume runs its own vLLM runtime"),
        ("storageUris: [{uri: hf://a/b}]", "storageUris", "write storageUri or storageUris"),
        ("sklearn: {storageUri: gs://a/b}", "sklearn", "write spec.predictor.model"),
        ("annotations: {a: 1}", "annotations.a", 'must be a string, not the integer 1: write "1"'),
        ("annotations: [a]", "annotations", "must be a table of fields, not a list"),
    ],
)
def test_a_wrong_field_of_the_predictor_is_refused_by_name(
    tmp_path: Path, predictor: str, field: str, message: str
) -> None:
    refused(tmp_path, service(f"{predictor}  {HERE}"), f"spec.predictor.{field}", message)


@pytest.mark.parametrize(
    ("model", "field", "message"),
    [
        ("storageURI: hf://a/b", "storageURI", "unknown field; did you mean storageUri?"),
        ("image: vllm/vllm-openai", "image", "not honoured on this machine: Relume runs its own"),
        ("command: [vllm]", "command", "Relume runs its own vLLM runtime"),
        ("storage: {key: k}", "storage", "write storageUri"),
        ("volumeDevices: []", "volumeDevices", "files that a cluster mounts"),
        ("protocolVersion: v3", "protocolVersion", "must be v1 or v2 or grpc-v1 or grpc-v2"),
        ("protocolVersion: grpc-v2", "protocolVersion", "only HTTP is served"),
        ("runtime: ''", "runtime", "must not be empty"),
        ("args: --enforce-eager", "args", "must be a list, not the string --enforce-eager"),
        ("args: [16]", "args[0]", 'must be a string, not the integer 16: write "16"'),
        ("args: [--seed, null]", "args[1]", "must be a string, not nothing"),
        (
            "args: [--a, --port=9000]",
            "args[1]",
            "--port is set by Relume: its callers know the port",
        ),
        ("args: [--root_path=/x]", "args[0]", "--root_path is set by Relume"),
        ("args: [--model, x]", "args[0]", "write spec.predictor.model.storageUri"),
        ("args: [--model-tag=org/m]", "args[0]", "write spec.predictor.model.storageUri"),
        ("args: [--api-key=s]", "args[0]", "without one"),
        ("args: ['{{.Labels.x}}']", "args[0]", "only {{.Name}} and {{.Namespace}}"),
        ("args: ['{{ x']", "args[0]", "beginning of a Go template"),
        ("env: [{value: x}]", "env[0].name", "a variable needs a name"),
        ("env: [{name: K_SERVICE, value: x}]", "env[0].name", '"K_SERVICE" is a reserved'),
        ("env: [{name: PORT, value: '1'}]", "env[0].name", '"PORT" is a reserved'),
        (
            "env: [{name: A, value: 1}]",
            "env[0].value",
            'must be a string, not the integer 1: write "1"',
        ),
        ("env: [{name: A, value: on}]", "env[0].value", "not the boolean on"),
        ("env: [{name: A, valueFrom: {}}]", "env[0].valueFrom", "write exactly one of"),
        ("env: [{name: A=B}]", "env[0].name", "no name of an environment variable"),
        ("env: {A: x}", "env", "must be a list, not a table of fields"),
        ("resources: {limit: {}}", "resources.limit", "did you mean limits?"),
        ("resources: {limits: 4}", "resources.limits", "must be a table of fields"),
    ],
)
def test_a_wrong_field_of_the_model_is_refused_by_name(
    tmp_path: Path, model: str, field: str, message: str
) -> None:
    text = service(model=f"{model}  {HERE}")
    refused(tmp_path, text, f"spec.predictor.model.{field}", message)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("''", "must not be empty"),
        ("7", "must be a string, not the integer 7"),
        ("pvc://claim/model", "pvc:// needs a cluster"),
        ("oci+native://registry/model", "oci+native:// needs a cluster"),
        ("relume://smollm2", "known schemes are hf, s3,"),
        ("hf://", "it names no model"),
        ("hf:///", "it names no model"),
        ("'hf://a/b '", "it names no model"),
        ("https://[::1/x", "Invalid IPv6 URL"),
    ],
)
def test_a_storage_uri_that_names_no_model_here_is_refused(
    tmp_path: Path, uri: str, message: str
) -> None:
    text = service().replace("hf://org/model", f"{uri}  {HERE}")
    refused(tmp_path, text, "spec.predictor.model.storageUri", message)


@pytest.mark.parametrize("format_name", ["sklearn", "vllm", "pytorch", "HuggingFace"])
def test_a_model_format_that_no_runtime_here_serves_is_refused(
    tmp_path: Path, format_name: str
) -> None:
    text = service().replace("{name: vLLM}", f"{{name: {format_name}}}  {HERE}")
    error = refused(tmp_path, text, "spec.predictor.model.modelFormat.name", format_name)
    assert ("did you mean vLLM?" in str(error)) == (format_name == "vllm")


@pytest.mark.parametrize(
    ("lines", "field"),
    [
        ("      storageUri: hf://org/model", "spec.predictor.model.storageUri"),
        ("      modelFormat: {name: vLLM}", "spec.predictor.model.modelFormat"),
        ("  name: m", "metadata"),
        ("kind: InferenceService", "kind"),
        ("apiVersion: serving.kserve.io/v1beta1", "apiVersion"),
    ],
)
def test_a_field_that_must_be_there_is_named_when_it_is_not(
    tmp_path: Path, lines: str, field: str
) -> None:
    text = service()
    assert lines in text
    refused(tmp_path, text.replace(lines + "\n", ""), field, "is missing")


@pytest.mark.parametrize("spec", ["transformer: {}", "explainer: {}", "canary: []"])
def test_a_second_component_is_refused(tmp_path: Path, spec: str) -> None:
    refused(tmp_path, service(spec=f"{spec}  {HERE}"), f"spec.{spec.split(':')[0]}")


def test_more_least_than_most_replicas_is_refused_as_kserve_does(tmp_path: Path) -> None:
    text = service(f"minReplicas: 3\nmaxReplicas: 2  {HERE}")
    message = "'MinReplicas' cannot be greater than MaxReplicas"
    refused(tmp_path, text, "spec.predictor.maxReplicas", message)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.b", "must consist of lower case"),
        ("9a", "start with a letter"),
        ("A", "lower case"),
        ("a-", "end with a letter"),
        ("a" * 54, "not a DNS 1035 label with -predictor after it: write at most 53"),
        ("5", "must be a string, not the integer 5"),
    ],
)
def test_a_name_that_the_cluster_would_refuse_is_refused(
    tmp_path: Path, name: str, message: str
) -> None:
    text = service().replace("name: m\n", f"name: {name}  {HERE}\n", 1)
    refused(tmp_path, text, "metadata.name", message)


def test_the_longest_name_is_taken(tmp_path: Path) -> None:
    load_text(tmp_path, service().replace("name: m\n", f"name: {'a' * 53}\n", 1))


@pytest.mark.parametrize(
    ("deadline", "message"),
    [
        ("1.5s", "progress-deadline=1.5s is not at second precision"),
        ("0s", "must be positive"),
        ("10", "invalid value: 10"),
        ("-5s", "must be positive"),
    ],
)
def test_a_progress_deadline_that_knative_refuses_is_refused(
    tmp_path: Path, deadline: str, message: str
) -> None:
    key = "serving.knative.dev/progress-deadline"
    text = service(metadata=f"annotations:\n  {key}: '{deadline}'  {HERE}")
    refused(tmp_path, text, f"metadata.annotations.{key}", message)


def test_what_is_harmless_to_leave_out_is_listed_with_its_place_and_reason(
    tmp_path: Path,
) -> None:
    text = service(
        metadata="labels: {app: x}\nannotations:\n"
        "  serving.kserve.io/enable-metric-aggregation: 'true'\n"
        "  serving.kserve.io/deploymentMode: Standard\n  example.com/mine: '1'",
        predictor="nodeSelector: {gpu: a}\ntolerations: []\nserviceAccountName: s\n"
        "logger: {mode: all}\nresourceClaims: []\ndeploymentStrategy: {}",
        model="runtime: kserve-vllmserver\nresources:\n  requests: {memory: 4Gi}\n"
        "  limits: {cpu: 2, memory: 4Gi, nvidia.com/gpu: 1}\n  claims: [{name: gpu}]",
    )
    notes = load_text(tmp_path, text).not_honoured
    lines = text.splitlines()
    for note in notes:
        key = note.field.removeprefix("metadata.annotations.")
        last = key if key != note.field else note.field.rsplit(".", 1)[1]
        last = "nvidia.com/gpu" if note.field.endswith("nvidia.com/gpu") else last
        assert last in lines[note.line - 1], note
        assert (note.kind, note.name, note.file) == ("InferenceService", "m", tmp_path / "m.yaml")
        assert note.why
    assert [note.line for note in notes] == sorted(note.line for note in notes)
    model = "spec.predictor.model"
    assert {note.field for note in notes} == {
        "metadata.labels",
        "metadata.annotations.serving.kserve.io/enable-metric-aggregation",
        "metadata.annotations.serving.kserve.io/deploymentMode",
        "spec.predictor.nodeSelector",
        "spec.predictor.tolerations",
        "spec.predictor.serviceAccountName",
        "spec.predictor.logger",
        "spec.predictor.resourceClaims",
        "spec.predictor.deploymentStrategy",
        f"{model}.runtime",
        f"{model}.resources.requests",
        f"{model}.resources.limits",
        f"{model}.resources.limits.nvidia.com/gpu",
        f"{model}.resources.claims",
    }
