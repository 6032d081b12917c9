"""Runtimes, resources, routes and Broker classes: what follows from what the user wrote."""

import json
from pathlib import Path
from typing import Any

import pytest

from relume.base.errors import InvalidInput, InvalidManifest
from relume.cluster.render import Images, Options
from relume.cluster.render.runtimes import RUNTIMES, read_images
from relume.config import load
from relume.config.model import RUNTIMES as MODEL_RUNTIMES
from tests.cluster.render.cases import GPU_SAMPLES
from tests.cluster.render.rendering import GPU, broker, find, limits, render_text, service, trigger

CLASS = "deviceclass.resource.kubernetes.io/"
DIGEST = "sha256:" + 64 * "a"


def model(tmp_path: Path, **parts: str) -> dict[str, Any]:
    rendering = render_text(tmp_path, service(**parts))
    return dict(find(rendering, "InferenceService")["spec"]["predictor"]["model"])


@pytest.mark.parametrize(
    ("resource", "runtime"),
    [
        ("nvidia.com/gpu", "relume-vllm"),
        ("nvidia.com/mig-1g.10gb", "relume-vllm"),
        (CLASS + "llm-gpu-80g", "relume-vllm"),
        (CLASS + "llm-mig-1g-10gb", "relume-vllm"),
        ("amd.com/gpu", "relume-vllm-amd"),
        (CLASS + "llm-amd-192g", "relume-vllm-amd"),
        ("gpu.intel.com/xe", "relume-vllm-intel"),
        (CLASS + "llm-intel-48g", "relume-vllm-intel"),
        ("example.com/fpga", "relume-vllm-cpu"),
        ("memory", "relume-vllm-cpu"),
    ],
)
def test_the_device_chooses_the_runtime(resource: str, runtime: str, tmp_path: Path) -> None:
    assert model(tmp_path, model=limits(resource, "'1'"))["runtime"] == runtime


def test_a_runtime_of_the_users_own_is_left_to_them(tmp_path: Path) -> None:
    text = service(model=f"{limits(CLASS + 'mine', '2')}, runtime: theirs")
    rendering = render_text(tmp_path, text)
    assert "base/runtimes.yaml" not in rendering.files
    made = find(rendering, "InferenceService")["spec"]["predictor"]["model"]
    assert made["resources"] == {"limits": {CLASS + "mine": 2}}
    assert {"name": "RELUME_EXPECT_DEVICES", "value": "2"} in made["env"]
    assert any("DeviceClass mine" in note.message for note in rendering.notes)


@pytest.mark.parametrize(
    ("given", "requests", "most"),
    [
        ("", {"cpu": "2", "memory": "4Gi"}, {"cpu": "2", "memory": "4Gi"}),
        (
            "resources: {requests: {memory: 32Gi}}",
            {"memory": "32Gi", "cpu": "2"},
            {"memory": "32Gi", "cpu": "2"},
        ),
        (
            "resources: {limits: {cpu: 500m}}",
            {"cpu": "500m", "memory": "4Gi"},
            {"cpu": "500m", "memory": "4Gi"},
        ),
    ],
)
def test_cpu_and_memory_are_said_before_kserve_says_one_cpu_and_two_gibibytes(
    given: str, requests: dict[str, str], most: dict[str, str], tmp_path: Path
) -> None:
    """kserve inferenceservice-config `resource`: fills each of the four that is missing."""
    made = model(tmp_path, model=given)["resources"]
    assert made == {"requests": requests, "limits": most}


def test_no_runtime_has_a_priority_that_another_one_could_share() -> None:
    """kserve's ServingRuntime webhook refuses two of one priority; it compares set ones only."""
    formats = [
        one for runtime in RUNTIMES for one in runtime.manifest()["spec"]["supportedModelFormats"]
    ]
    assert len(formats) == 2 * len(RUNTIMES)
    assert all("priority" not in one for one in formats)


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda runtime: runtime.name)
def test_a_runtime_is_hardened_probes_every_second_or_two_and_counts_its_device(
    runtime: Any,
) -> None:
    spec = runtime.manifest()["spec"]
    assert spec["protocolVersions"] == ["v1", "v2"]
    assert {f["name"] for f in spec["supportedModelFormats"] if f["autoSelect"]} == {
        "vLLM",
        "huggingface",
    }
    (container,) = spec["containers"]
    assert container["startupProbe"]["periodSeconds"] in (1, 2)
    assert container["readinessProbe"]["periodSeconds"] in (1, 2)
    assert [port["containerPort"] for port in container["ports"]] == [8080]
    context = container["securityContext"]
    assert context["runAsNonRoot"] and context["readOnlyRootFilesystem"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not context["allowPrivilegeEscalation"]
    (shm,) = (v for v in spec["volumes"] if v["emptyDir"].get("medium") == "Memory")
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts[shm["name"]] == "/dev/shm"
    names = {variable["name"] for variable in container["env"]}
    assert ("RELUME_EXPECT_DEVICES" in names) == (runtime.vendor is not None)


def test_fallbacks_are_alternatives_of_one_request(tmp_path: Path) -> None:
    text = service(
        model=limits(CLASS + "llm-gpu-80g", "1"),
        annotations="relume.dev/fallbacks: 'llm-gpu-40g=2, llm-gpu-24g=4'",
    )
    rendering = render_text(tmp_path, text, options=Options("admission"))
    (request,) = find(rendering, "ResourceClaimTemplate")["spec"]["spec"]["devices"]["requests"]
    assert [(c["deviceClassName"], c.get("count", 1)) for c in request["firstAvailable"]] == [
        ("llm-gpu-80g", 1),
        ("llm-gpu-40g", 2),
        ("llm-gpu-24g", 4),
    ]
    env = find(rendering, "InferenceService")["spec"]["predictor"]["model"]["env"]
    assert {"name": "RELUME_EXPECT_DEVICES", "value": "1"} in env, "the fewest that it may get"


def test_several_devices_are_several_requests_of_one_claim(tmp_path: Path) -> None:
    both = f"resources: {{limits: {{nvidia.com/gpu: 2, {CLASS}llm-gpu-24g: 1}}}}"
    rendering = render_text(tmp_path, service(model=both), options=Options("standard"))
    requests = find(rendering, "ResourceClaimTemplate")["spec"]["spec"]["devices"]["requests"]
    assert requests == [
        {"name": "device", "exactly": {"deviceClassName": "gpu.nvidia.com", "count": 2}},
        {"name": "device-1", "exactly": {"deviceClassName": "llm-gpu-24g"}},
    ]
    made = find(rendering, "InferenceService")["spec"]["predictor"]
    assert made["resourceClaims"][0]["resourceClaimTemplateName"] == "chat-devices"
    assert made["model"]["resources"]["claims"] == [{"name": "device"}]
    assert set(made["model"]["resources"]["limits"]) == {"cpu", "memory"}


def test_the_policy_is_there_once_for_all_services(tmp_path: Path) -> None:
    other = service(model=GPU).replace("name: chat", "name: other")
    rendering = render_text(tmp_path, service(model=GPU), other, options=Options("admission"))
    policy = find(rendering, "MutatingAdmissionPolicy")
    (mutation,) = policy["spec"]["mutations"]
    made = find(rendering, "InferenceService", "other")
    key = "relume.dev/claim-template"
    assert made["metadata"]["annotations"][key] == "other-devices"
    assert key in mutation["applyConfiguration"]["expression"]
    assert find(rendering, "DeviceClass")["metadata"]["name"] == "llm-gpu-24g"


def test_no_namespace_is_invented(tmp_path: Path) -> None:
    rendering = render_text(tmp_path, service(model=GPU), options=Options("admission"))
    for documents in rendering.documents.values():
        for document in documents:
            assert "namespace" not in document.get("metadata", {})  # type: ignore[operator]


@pytest.mark.parametrize(
    ("chosen", "annotation", "made"),
    [
        (None, "", {}),
        (None, "Kafka", {"eventing.knative.dev/broker.class": "Kafka"}),
        ("mt", "Kafka", {"eventing.knative.dev/broker.class": "MTChannelBasedBroker"}),
        ("kafka", "", {"eventing.knative.dev/broker.class": "Kafka"}),
    ],
)
def test_the_class_is_what_was_chosen_else_what_the_broker_names(
    chosen: Any, annotation: str, made: dict[str, str], tmp_path: Path
) -> None:
    notes = f"eventing.knative.dev/broker.class: {annotation}" if annotation else ""
    documents = (service(), broker(annotations=notes), trigger())
    rendering = render_text(tmp_path, *documents, options=Options(broker=chosen))
    assert find(rendering, "Broker")["metadata"].get("annotations", {}) == made


def test_the_users_own_config_and_order_stay(tmp_path: Path) -> None:
    config = "config: {apiVersion: v1, kind: ConfigMap, name: mine}"
    order = "kafka.eventing.knative.dev/delivery.order: ordered"
    documents = (service(), broker(config), trigger(annotations=order))
    rendering = render_text(tmp_path, *documents, options=Options(broker="kafka"))
    assert find(rendering, "Broker")["spec"]["config"]["name"] == "mine"
    notes = find(rendering, "Trigger")["metadata"]["annotations"]
    assert notes == {"kafka.eventing.knative.dev/delivery.order": "ordered"}


@pytest.mark.parametrize(
    ("predictor", "parallelism"),
    [
        ("", "50"),
        ("containerConcurrency: 16, maxReplicas: 3", "48"),
        ("containerConcurrency: 16", "16"),
        ("containerConcurrency: 500, maxReplicas: 9", "1000"),
    ],
)
def test_rabbitmq_has_as_many_events_on_their_way_as_the_replicas_take(
    predictor: str, parallelism: str, tmp_path: Path
) -> None:
    documents = (service(predictor), broker(), trigger())
    rendering = render_text(tmp_path, *documents, options=Options(broker="rabbitmq"))
    notes = find(rendering, "Trigger")["metadata"]["annotations"]
    assert notes == {"rabbitmq.eventing.knative.dev/parallelism": parallelism}


def test_nats_fetches_one_event_at_a_time(tmp_path: Path) -> None:
    documents = (service(), broker(), trigger())
    rendering = render_text(tmp_path, *documents, options=Options(broker="nats"))
    notes = find(rendering, "Broker")["metadata"]["annotations"]
    config = json.loads(notes["natsjetstream.eventing.knative.dev/config"])
    assert config["filter"]["env"] == [{"name": "CONSUMER_FETCH_BATCH_SIZE", "value": "1"}]


def test_a_retry_after_needs_its_feature(tmp_path: Path) -> None:
    documents = (service(), broker(), trigger("delivery: {retryAfterMax: PT1M}"))
    rendering = render_text(tmp_path, *documents)
    assert "delivery-retryafter" in rendering.files["cluster/eventing-config-features.yaml"]


def test_images_are_read_from_a_file_and_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "images.yaml"
    file.write_text(f"relume-vllm: a/b@{DIGEST}\nrelume-vllm-cpu: a/c@{DIGEST}\n")
    chosen = (f"relume-vllm-cpu=d/e@{DIGEST}", f"f/g@{DIGEST}")
    images = read_images(file, chosen, allow_tags=False)
    assert images.image_of("relume-vllm") == f"a/b@{DIGEST}"
    assert images.image_of("relume-vllm-cpu") == f"d/e@{DIGEST}"
    assert images.image_of("relume-vllm-amd") == f"f/g@{DIGEST}"
    assert Images().image_of("relume-vllm") is None


@pytest.mark.parametrize(
    "image", ["a/b", "a/b:latest", "a/b@sha256:12", f"@{DIGEST}", f"a b@{DIGEST}", "relume=a"]
)
def test_an_image_that_can_change_is_refused(image: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        read_images(None, (image,), allow_tags=False)
    file = tmp_path / "images.yaml"
    file.write_text(json.dumps({"relume-vllm": image}))
    with pytest.raises(InvalidManifest, match=r"images\.yaml:1: relume-vllm: "):
        read_images(file, (), allow_tags=False)


def test_one_image_for_two_kinds_of_device_is_refused(tmp_path: Path) -> None:
    other = service(model=GPU).replace("name: chat", "name: other")
    image = f"a/b@{DIGEST}"
    with pytest.raises(InvalidInput, match="for which runtime"):
        render_text(tmp_path, service(), other, options=Options(images=Images(every=image)))
    images = Images({"relume-vllm": f"c/d@{DIGEST}"}, image)
    render_text(tmp_path, service(), other, options=Options(images=images))


def test_a_tag_is_taken_where_tags_are_allowed() -> None:
    assert read_images(None, ("a/b:1.2",), allow_tags=True).every == "a/b:1.2"
    with pytest.raises(InvalidInput):
        read_images(None, ("a/b",), allow_tags=True)


def test_an_image_for_no_runtime_of_ours_names_the_right_one() -> None:
    with pytest.raises(InvalidInput, match="did you mean relume-vllm-cpu"):
        read_images(None, (f"relume-vlm-cpu=a/b@{DIGEST}",), allow_tags=False)


def test_the_plane_of_one_machine_knows_the_runtimes_by_name() -> None:
    assert set(MODEL_RUNTIMES) == {runtime.name for runtime in RUNTIMES}


def test_the_gpu_sample_runs_on_one_machine_without_its_gpu() -> None:
    plan = load([GPU_SAMPLES])
    fields = [note.field for note in plan.not_honoured]
    assert f"spec.predictor.model.resources.limits.{CLASS}llm-gpu-24g" in fields
    assert [service.min_replicas for service in plan.services] == [0]
