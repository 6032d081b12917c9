"""A rendering judges as a cluster: what a cluster runs passes, whatever one machine can do."""

import json
from pathlib import Path
from typing import Any

import pytest

from relume.base.errors import InvalidManifest
from relume.cluster.doctor import examine
from relume.cluster.render import Options, Rendering, render
from relume.cluster.render.folder import write
from relume.config.loader import load_plan
from tests.cluster.render.rendering import (
    broker,
    find,
    render_text,
    service,
    trigger,
    value_of,
)

MODE = "serving.kserve.io/deploymentMode"
SECRET = "{name: HF_TOKEN, valueFrom: {secretKeyRef: {name: hf, key: t}}}"


def isvc(spec: str, annotations: str = "") -> str:
    return (
        "{apiVersion: serving.kserve.io/v1beta1, kind: InferenceService,\n"
        f" metadata: {{name: chat, annotations: {{{annotations}}}}},\n"
        f" spec: {{{spec}}}}}\n"
    )


def rendered_service(rendering: Rendering) -> Any:
    return find(rendering, "InferenceService")


def flags(rendering: Rendering) -> set[str]:
    return {
        d.path.removeprefix("data.")
        for d in rendering.decisions
        if d.document.endswith("/config-features")
    }


@pytest.mark.parametrize(
    ("parts", "flag"),
    [
        ({"model": "env: [" + SECRET + "]"}, None),
        ({"model": "env: [{name: A, valueFrom: {configMapKeyRef: {name: c, key: k}}}]"}, None),
        (
            {"model": "env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]"},
            "kubernetes.podspec-fieldref",
        ),
        ({"model": "envFrom: [{secretRef: {name: s}}]"}, None),
        ({"model": "storage: {key: k, path: p}"}, None),
        ({"predictor": "serviceAccountName: downloads"}, None),
        (
            {
                "predictor": "volumes: [{name: v, persistentVolumeClaim: {claimName: c}}]",
                "model": "volumeMounts: [{name: v, mountPath: /data, readOnly: true}]",
            },
            "kubernetes.podspec-persistent-volume-claim",
        ),
        (
            {"predictor": "storageUris: [{uri: 'hf://a/b', mountPath: /mnt/models}]"},
            "kubernetes.podspec-init-containers",
        ),
        (
            {"predictor": "storageUris: [{uri: 'pvc://a/b', mountPath: /mnt/models}]"},
            "kubernetes.podspec-persistent-volume-claim",
        ),
    ],
)
def test_what_only_a_cluster_has_passes_and_relumes_runtime_serves_it(
    parts: dict[str, str], flag: str | None, tmp_path: Path
) -> None:
    text = service(**parts)
    if "storage" in str(parts):
        text = text.replace("storageUri: 'hf://a/b', ", "").replace("storageUri: 'hf://a/b'", "")
    rendering = render_text(tmp_path, text)
    model = rendered_service(rendering)["spec"]["predictor"]["model"]
    assert model["runtime"] == "relume-vllm-cpu"
    assert flags(rendering) == ({flag} if flag else set())
    write(rendering, tmp_path / "out")
    assert {one.verdict for one in examine([tmp_path / "out"])} == {"accepted"}


@pytest.mark.parametrize(
    "uri",
    ["pvc://claim/path", "oci://registry.example/m:1", "oci+native://r.example/m", "gs://b/m"],
)
def test_every_storage_scheme_of_kserve_passes(uri: str, tmp_path: Path) -> None:
    rendering = render_text(tmp_path, service().replace("hf://a/b", uri))
    model = rendered_service(rendering)["spec"]["predictor"]["model"]
    assert (model["storageUri"], model["runtime"]) == (uri, "relume-vllm-cpu")


PASSING = [
    ("a container", "predictor: {containers: [{name: kserve-container, image: i}]}", "none"),
    ("an older format", "predictor: {sklearn: {storageUri: 'gs://b/m'}}", "is none"),
    (
        "another format",
        "predictor: {model: {modelFormat: {name: sklearn}, storageUri: 'gs://b/m'}}",
        "serve vLLM and huggingface",
    ),
    (
        "an image of its own",
        "predictor: {model: {modelFormat: {name: vLLM}, storageUri: 'hf://a/b', image: i}}",
        "an image or a command",
    ),
    (
        "a flag of KServe's server",
        "predictor: {model: {modelFormat: {name: huggingface}, storageUri: 'hf://a/b', "
        "args: [--backend=huggingface]}}",
        "--backend is a flag of KServe's own server",
    ),
    (
        "a port of its own",
        "predictor: {model: {modelFormat: {name: vLLM}, storageUri: 'hf://a/b', "
        "args: [--port=80]}}",
        "--port is set by Relume's runtime",
    ),
    ("no model", "predictor: {model: {modelFormat: {name: vLLM}}}", "names no storageUri"),
    (
        "a model twice",
        "predictor: {model: {modelFormat: {name: huggingface}, storageUri: 'hf://a/b', "
        "args: [--model_id=c/d]}}",
        "takes c/d of --model_id",
    ),
    (
        "gRPC",
        "predictor: {model: {modelFormat: {name: vLLM}, storageUri: 'hf://a/b', "
        "protocolVersion: grpc-v2}}",
        "answer v1 and v2",
    ),
]
CASES = [pytest.param(*case[1:], id=case[0]) for case in PASSING]


@pytest.mark.parametrize("route", ["extended-resource", "admission", "standard"])
@pytest.mark.parametrize(("spec", "why"), CASES)
def test_a_service_that_relume_does_not_serve_passes_as_it_is(
    spec: str, why: str, route: Any, tmp_path: Path
) -> None:
    text = isvc(spec)
    rendering = render_text(tmp_path, text, options=Options(route))
    (note,) = rendering.notes
    assert "passes as it is, without Relume's runtime" in note.message and why in note.message
    assert note.line
    assert list(rendering.documents) == [
        "base/default/inferenceservice-chat.yaml",
        "base/kustomization.yaml",
    ]
    assert [d for d in rendering.decisions if "InferenceService" in d.document] == []


def test_a_predictor_of_several_nodes_passes(tmp_path: Path) -> None:
    spec = (
        "predictor: {workerSpec: {pipelineParallelSize: 2}, model: {modelFormat: "
        "{name: huggingface}, storageUri: 'pvc://c/m'}}"
    )
    notes = f"{MODE}: Standard, serving.kserve.io/autoscalerClass: none"
    rendering = render_text(tmp_path, isvc(spec, notes))
    assert "this predictor is several" in rendering.notes[0].message
    assert rendered_service(rendering)["metadata"]["annotations"][MODE] == "Standard"


@pytest.mark.parametrize(
    "extra",
    [
        "terminationGracePeriodSeconds: 60",
        "scaleMetric: cpu, scaleTarget: 80",
        "nodeName: x",
        "deploymentStrategy: {type: Recreate}",
    ],
)
def test_what_only_standard_mode_has_keeps_a_service_in_it(extra: str, tmp_path: Path) -> None:
    text = service(extra, annotations=f"{MODE}: Standard, serving.kserve.io/autoscalerClass: hpa")
    rendering = render_text(tmp_path, text)
    (note,) = rendering.notes
    assert "it stays in Standard mode, because of spec.predictor." in note.message
    assert rendered_service(rendering)["metadata"]["annotations"][MODE] == "Standard"


@pytest.mark.parametrize("argument", ["--port=80", "--task=fill_mask", "--ssl-keyfile=/k"])
def test_a_runtime_of_ours_that_cannot_serve_the_service_is_refused(
    argument: str, tmp_path: Path
) -> None:
    text = service(model=f"runtime: relume-vllm-cpu, args: ['{argument}']")
    with pytest.raises(InvalidManifest, match="cannot work with the runtime relume-vllm-cpu") as e:
        render_text(tmp_path, text)
    assert e.value.field == "spec.predictor.model.args[0]"


@pytest.mark.parametrize(
    ("written", "rendered"),
    [
        ("--model_name=q, --dtype=auto", ["--served-model-name", "{{.Name}}", "q", "--dtype=auto"]),
        ("--model-name, q, --seed=1", ["--served-model-name", "{{.Name}}", "q", "--seed=1"]),
        ("--model_name=q, --model_name=r", ["--served-model-name", "{{.Name}}", "q", "r"]),
        ("--model_name=chat", None),
        ("'--model_name={{.Name}}'", None),
        ("'--model_name=$(NAME)'", ["--served-model-name", "{{.Name}}", "$(NAME)"]),
        ("--backend=vllm", None),
        ("--backend, auto, --dtype=half", ["--dtype=half"]),
        ("--task=embed", ["--runner=pooling", "--convert=embed"]),
        ("--task, text_generation", ["--runner=generate"]),
        ("--return_raw_logits", ['--pooler-config={"use_activation": false}']),
        ("--max_length=128", ["--max-model-len=128"]),
        ("--model_dir=/mnt/models/", None),
        ("'--seed 7'", ["--seed", "7"]),
        ("--disable_log_requests, --swap-space=4", None),
        ("--host=0.0.0.0, --port, '8080'", None),
        ("'--max-model-len=$(LENGTH)'", ["--max-model-len=$(LENGTH)"]),
        ("'$(MORE)', --seed, '$(SEED)'", ["$(MORE)", "--seed", "$(SEED)"]),
        ("--trust_remote_code", ["--trust_remote_code"]),
    ],
)
def test_arguments_are_written_for_the_vllm_of_relumes_runtime(
    written: str, rendered: list[str] | None, tmp_path: Path
) -> None:
    rendering = render_text(tmp_path, service(model=f"args: [{written}]"))
    model = rendered_service(rendering)["spec"]["predictor"]["model"]
    assert (model.get("args"), model["runtime"]) == (rendered, "relume-vllm-cpu")


@pytest.mark.parametrize("runtime", ["", "runtime: relume-vllm-cpu, "])
@pytest.mark.parametrize(
    "argument",
    [
        "--max-modl-len=1",
        "--max-modl-len=$(LENGTH)",
        "--max_model_len=long",
        "--task=embd",
        "--backend=tensorrt",
        "--rope-theta=1",
        "--model_name",
        "stray",
    ],
)
def test_an_argument_that_vllm_would_end_with_is_refused_with_the_words_of_one_machine(
    argument: str, runtime: str, tmp_path: Path
) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(service(model=f"{runtime}args: [--seed=1, '{argument}']"))
    (wrong,) = load_plan([file]).cannot_run
    with pytest.raises(InvalidManifest) as error:
        render([file], Options())
    assert error.value.field == "spec.predictor.model.args[1]"
    assert str(error.value).endswith(wrong.why)


@pytest.mark.parametrize(
    "argument",
    [
        "--http_port=8081",
        "--return_probabilities",
        "--task=fill_mask",
        "--task=$(TASK)",
        "--backend=$(BACKEND)",
        "--model_dir=/mnt/models/below",
        "--host=127.0.0.1",
    ],
)
def test_what_only_kserves_own_server_honours_leaves_the_service_to_it(
    argument: str, tmp_path: Path
) -> None:
    rendering = render_text(tmp_path, service(model=f"args: ['{argument}', --whatever=1]"))
    (note,) = rendering.notes
    assert note.field == "spec.predictor.model.args[0]"
    assert "passes as it is, without Relume's runtime" in note.message
    assert rendered_service(rendering)["spec"]["predictor"]["model"]["args"] == [
        argument,
        "--whatever=1",
    ]


@pytest.mark.parametrize(
    "argument", ["--http_port=8081", "--backend=huggingface", "--swap-space=4"]
)
def test_what_a_named_runtime_of_ours_leaves_out_is_noted(argument: str, tmp_path: Path) -> None:
    text = service(model=f"runtime: relume-vllm-cpu, args: ['{argument}', --seed=1]")
    rendering = render_text(tmp_path, text)
    model = rendered_service(rendering)["spec"]["predictor"]["model"]
    assert model["args"] == ["--seed=1"]
    told = [note.message for note in rendering.notes if note.field.endswith("args[0]")]
    assert told and told[0].startswith(argument.partition("=")[0])


@pytest.mark.parametrize(
    ("uri", "argument", "rendered"),
    [
        ("hf://a/b", "--model_revision=v2", "hf://a/b:v2"),
        ("hf://a/b", "--revision=main", "hf://a/b"),
        ("pvc://a/b", "--model_revision=v2", "pvc://a/b"),
        ("", "--model_dir=s3://bucket/m", "s3://bucket/m"),
        ("", "--model_id=a/b", "hf://a/b"),
        ("hf://a/b", "--model_id=a/b", "hf://a/b"),
    ],
)
def test_arguments_that_name_the_model_become_its_uri(
    uri: str, argument: str, rendered: str, tmp_path: Path
) -> None:
    text = service(model=f"args: ['{argument}']")
    text = text.replace("hf://a/b", uri, 1) if uri else text.replace("storageUri: 'hf://a/b', ", "")
    model = rendered_service(render_text(tmp_path, text))["spec"]["predictor"]["model"]
    assert (model["storageUri"], model.get("args")) == (rendered, None)


def test_a_model_name_becomes_a_further_name_and_a_model_id_the_storage_uri(tmp_path: Path) -> None:
    text = service(model="args: [--model_name=q, --model_id=c/d, --dtype=auto]")
    rendering = render_text(tmp_path, text.replace("storageUri: 'hf://a/b', ", ""))
    model = rendered_service(rendering)["spec"]["predictor"]["model"]
    assert model["args"] == ["--served-model-name", "{{.Name}}", "q", "--dtype=auto"]
    assert model["storageUri"] == "hf://c/d"
    assert model["runtime"] == "relume-vllm-cpu"
    path = "spec.predictor.model.storageUri"
    assert value_of(rendering, "InferenceService", path) == ("hf://c/d", "kserve-flags")


def test_an_older_huggingface_predictor_is_rendered_as_the_model_that_kserve_makes_of_it(
    tmp_path: Path,
) -> None:
    text = isvc("predictor: {huggingface: {args: [--model_id=a/b, --task=embed]}}")
    rendering = render_text(tmp_path, text)
    predictor = rendered_service(rendering)["spec"]["predictor"]
    model = predictor["model"]
    assert "huggingface" not in predictor
    assert (model["modelFormat"], model["protocolVersion"]) == ({"name": "huggingface"}, "v2")
    assert (model["storageUri"], model["runtime"]) == ("hf://a/b", "relume-vllm-cpu")
    assert model["args"] == ["--runner=pooling", "--convert=embed"]
    write(rendering, tmp_path / "out")
    assert {one.verdict for one in examine([tmp_path / "out"])} == {"accepted"}


def test_an_older_huggingface_predictor_is_refused_where_it_was_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidManifest, match="no flag --max-modl-len") as error:
        render_text(
            tmp_path, isvc("predictor: {huggingface: {args: [--model_id=a/b, --max-modl-len=1]}}")
        )
    assert error.value.field == "spec.predictor.huggingface.args[1]"


def test_an_older_huggingface_predictor_that_kserve_alone_serves_passes(tmp_path: Path) -> None:
    text = isvc("predictor: {huggingface: {args: [--model_id=a/b, --task=fill_mask]}}")
    rendering = render_text(tmp_path, text)
    assert list(rendered_service(rendering)["spec"]["predictor"]) == ["huggingface"]
    assert rendering.notes[0].field == "spec.predictor.huggingface.args[1]"


OTHERS = """\
apiVersion: v1
kind: Secret
metadata: {name: hf, namespace: models}
stringData: {HF_TOKEN: abc, LINES: "a\\nb"}
---
apiVersion: v1
kind: Namespace
metadata: {name: models}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: downloads, namespace: models}}
---
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: models, namespace: models},
 spec: {accessModes: [ReadOnlyMany], resources: {requests: {storage: 1Gi}}}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r}, spec: {}}
---
{apiVersion: sources.knative.dev/v1, kind: PingSource, metadata: {name: p},
 spec: {sink: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: b}}}}
---
{apiVersion: messaging.knative.dev/v1, kind: Channel, metadata: {name: c}}
---
{apiVersion: kustomize.config.k8s.io/v1beta1, kind: Kustomization, resources: [a.yaml]}
"""


def test_documents_of_other_kinds_pass_as_they_are(tmp_path: Path) -> None:
    rendering = render_text(tmp_path, OTHERS)
    kinds = {
        file: [str(one["kind"]) for one in documents]
        for file, documents in rendering.documents.items()
    }
    assert kinds == {
        "base/cluster-wide.yaml": ["Namespace"],
        "base/default/others.yaml": ["HTTPRoute", "PingSource", "Channel"],
        "base/kustomization.yaml": ["Kustomization"],
        "base/models/others.yaml": ["Secret", "ServiceAccount", "PersistentVolumeClaim"],
    }
    (base,) = rendering.documents["base/kustomization.yaml"]
    assert base["resources"] == ["cluster-wide.yaml", "default/others.yaml", "models/others.yaml"]
    assert rendering.notes == ()


def test_a_trigger_may_ask_a_knative_service(tmp_path: Path) -> None:
    ref = "ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: event-display}"
    one = "{apiVersion: eventing.knative.dev/v1, kind: Trigger, metadata: {name: t}, spec: "
    one += f"{{broker: b, subscriber: {{{ref}}}}}}}\n"
    rendering = render_text(tmp_path, broker(), one)
    made = find(rendering, "Trigger")
    assert made["spec"]["subscriber"]["ref"]["name"] == "event-display"
    assert "delivery" not in made["spec"]
    assert "no Service default/event-display is in these files" in rendering.notes[0].message


def test_a_broker_or_service_that_is_in_no_file_is_the_clusters(tmp_path: Path) -> None:
    rendering = render_text(tmp_path, trigger())
    told = [f"{note.field}: {note.message}" for note in rendering.notes]
    assert told[0].startswith("spec.broker: no Broker default/b is in these files")
    assert told[1].startswith("spec.subscriber.ref.name: no InferenceService default/chat")


@pytest.mark.parametrize(
    ("text", "field", "why"),
    [
        (isvc("predictor: {modle: {}}"), "spec.predictor.modle", "unknown field"),
        (isvc("predictor: {minReplicas: -1, sklearn: {}}"), "spec.predictor.minReplicas", "less"),
        (isvc("predictor: {}"), "spec.predictor", "exactly one"),
        (isvc("transformer: {}, predictor: {sklearn: {}}"), "spec.transformer.containers", ""),
        (
            trigger(filters := "filters: [{exact: {type: a}, prefix: {type: b}}]"),
            "spec.filters[0]",
            "",
        ),
        (
            "{apiVersion: v1, kind: Pod, metadata: {generateName: p-}}",
            "metadata.generateName",
            "name",
        ),
        ("{apiVersion: v1, kind: Pod}", "metadata", "metadata.name"),
        ("{kind: Pod, metadata: {name: p}}", "apiVersion", "version"),
    ],
)
def test_what_no_cluster_takes_is_refused_at_its_field(
    text: str, field: str, why: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidManifest) as error:
        render_text(tmp_path, text)
    assert error.value.field == field and why in str(error.value)
    assert "this machine" not in str(error.value)


def test_a_document_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    one = "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}}\n"
    with pytest.raises(InvalidManifest, match="ConfigMap default/c is already defined at"):
        render_text(tmp_path, one, one)
    render_text(tmp_path, one, one.replace("ConfigMap", "Secret"))


def test_a_field_behind_a_flag_passes_with_a_note(tmp_path: Path) -> None:
    elsewhere = "{apiVersion: eventing.knative.dev/v1, kind: Trigger, metadata: {name: t}, spec: "
    elsewhere += "{brokerRef: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: b, "
    elsewhere += "namespace: other}, subscriber: {uri: 'http://a.example'}}}\n"
    rendering = render_text(tmp_path, elsewhere)
    assert json.dumps(find(rendering, "Trigger")["spec"]["brokerRef"]["namespace"]) == '"other"'
    assert any("cross-namespace-event-links" in note.message for note in rendering.notes)
