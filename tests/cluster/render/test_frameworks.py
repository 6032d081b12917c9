"""Engines other than vLLM, and LLMInferenceService: what passes, and what is said of it."""

from pathlib import Path
from typing import Any

import pytest

from relume.cluster.claims import documents
from relume.cluster.claims.explain import explain
from relume.cluster.claims.sizing.request import flags, served
from relume.cluster.doctor import examine
from relume.cluster.render import Images, Options, Rendering
from tests.cluster.claims.building import INVENTORIES
from tests.cluster.render.cases import DIGEST
from tests.cluster.render.rendering import find, render_text
from tests.cluster.render.rendering import service as plain_service

IMAGE = f"images.example/relume/vllm@{DIGEST}"
GIVEN = Options(images=Images({"relume-vllm": IMAGE}))
CLASS = "deviceclass.resource.kubernetes.io/llm-gpu-24g"


def service(engine: str, args: str, count: int = 2) -> str:
    return (
        "{apiVersion: serving.kserve.io/v1beta1, kind: InferenceService, metadata: {name: m},\n"
        " spec: {predictor: {maxReplicas: 1, containerConcurrency: 8,\n"
        f"  model: {{modelFormat: {{name: {engine}}}, storageUri: 'hf://a/b', args: [{args}],\n"
        f"   resources: {{limits: {{nvidia.com/gpu: {count}}}}}}}}}}}}}\n"
    )


def llm(template: str = "", annotations: str = "", more: str = "") -> str:
    held = f", template: {{{template}}}" if template else ""
    return (
        "{apiVersion: serving.kserve.io/v1alpha2, kind: LLMInferenceService,\n"
        f" metadata: {{name: q, annotations: {{{annotations}}}}},\n"
        f" spec: {{model: {{uri: 'hf://a/b'}}{held}{more}}}}}\n"
    )


def reasons(tmp_path: Path, text: str) -> set[str]:
    (tmp_path / "m.yaml").write_text(text)
    return {f.reason for one in examine([tmp_path / "m.yaml"]) for f in one.findings}


@pytest.mark.parametrize(
    ("engine", "args", "count", "reason"),
    [
        ("sglang", "--tp-size=4", 2, "too-few-devices"),
        ("sglang", "--tp, '1', --pp-size, '1'", 2, "idle-devices"),
        ("sglang", "--tp-size=2, --dp-size=2", 2, "too-few-devices"),
        ("sglang", "--tp-size=2, --dp-size=2, --enable-dp-attention", 2, None),
        ("sglang", "--tp-size=2, -tp=8", 2, None),  # vLLM's short form is none of SGLang's
        ("triton", "--tensor-parallel-size=8", 2, None),  # whatever it is, it is not vLLM's
        ("huggingface", "--tensor-parallel-size=4", 2, "too-few-devices"),
        ("vLLM", "--tp-size=4", 2, None),
    ],
)
def test_each_engine_has_its_own_names_for_its_sizes(
    engine: str, args: str, count: int, reason: str | None, tmp_path: Path
) -> None:
    found = reasons(tmp_path, service(engine, args, count))
    assert found & {"too-few-devices", "idle-devices"} == ({reason} if reason else set())
    assert ("cluster-only" in found) == (engine in ("sglang", "triton"))


@pytest.mark.parametrize("engine", ["sglang", "triton"])
def test_another_engine_passes_as_it_is(engine: str, tmp_path: Path) -> None:
    rendering = render_text(tmp_path, service(engine, "--tp-size=2"))
    model = find(rendering, "InferenceService")["spec"]["predictor"]["model"]
    assert model["args"] == ["--tp-size=2"] and "runtime" not in model
    assert "Relume's runtimes serve vLLM and huggingface" in " ".join(map(str, rendering.notes))


def test_the_flags_of_sglang_are_read_for_a_sizing(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(
        service("sglang", "--context-length=8192, --tp, '2', --mem-fraction-static=0.8")
    )
    found = served(documents.read(file))
    assert found is not None and "account is of vLLM" in found.note
    assert {**found.flags} == {
        "context": "8192",
        "tensor_parallel": "2",
        "utilization": "0.8",
        "concurrency": "8",
    }
    assert flags(["--max-model-len=1"], "triton") == {}


@pytest.mark.parametrize(("architecture", "told"), [("arm64", True), ("amd64", False)])
def test_an_image_for_arm_is_asked_for(architecture: str, told: bool, tmp_path: Path) -> None:
    predictor = f"nodeSelector: {{kubernetes.io/arch: {architecture}}}"
    rendering = render_text(tmp_path, plain_service(predictor))
    notes = " ".join(map(str, rendering.notes))
    assert ("the image of relume-vllm-cpu must be for arm64" in notes) == told
    assert find(rendering, "ClusterServingRuntime", "relume-vllm-cpu")


class TestLlmInferenceService:
    template = f"containers: [{{name: main, resources: {{limits: {{{CLASS}: 1}}}}}}]"
    managed = "serving.kserve.io/exp-dra-device-class: llm-gpu-24g"

    def made(self, rendering: Rendering) -> Any:
        return find(rendering, "LLMInferenceService")["spec"].get("template")

    def test_its_engine_gets_our_image_and_keeps_the_rest(self, tmp_path: Path) -> None:
        rendering = render_text(tmp_path, llm(self.template), options=GIVEN)
        [main] = self.made(rendering)["containers"]
        assert main == {"name": "main", "resources": {"limits": {CLASS: 1}}, "image": IMAGE}
        assert "no events" in " ".join(map(str, rendering.notes))

    def test_without_a_template_the_container_of_kserves_is_named(self, tmp_path: Path) -> None:
        rendering = render_text(tmp_path, llm(annotations=self.managed), options=GIVEN)
        assert self.made(rendering) == {"containers": [{"name": "main", "image": IMAGE}]}

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            (llm("containers: [{name: main, image: mine}]"), "an image or a command of its own"),
            (llm("containers: [{name: main, args: [x]}]"), "an image or a command of its own"),
            (
                llm(more=", worker: {containers: [{name: main}]}, parallelism: {pipeline: 2}"),
                "several pods",
            ),
            (llm(more=", baseRefs: [{name: mine}]"), "may name the image"),
        ],
    )
    def test_a_template_of_its_own_stays(self, text: str, why: str, tmp_path: Path) -> None:
        rendering = render_text(tmp_path, text, options=GIVEN)
        assert why in " ".join(map(str, rendering.notes))
        assert IMAGE not in str(self.made(rendering))

    def test_without_an_image_of_ours_it_passes(self, tmp_path: Path) -> None:
        rendering = render_text(tmp_path, llm(self.template))
        assert "image" not in self.made(rendering)["containers"][0]
        assert "--image relume-vllm=" in " ".join(map(str, rendering.notes))

    def test_the_doctor_says_where_it_runs_and_which_class_is_missing(self, tmp_path: Path) -> None:
        for text in (llm(self.template), llm(annotations=self.managed)):
            assert reasons(tmp_path, text) == {"cluster-only", "no-device-class"}

    @pytest.mark.parametrize(
        ("annotations", "fits"),
        [("", True), (", serving.kserve.io/exp-dra-device-count: '5'", False)],
        ids=["one", "five"],
    )
    def test_its_claims_are_explained(self, annotations: str, fits: bool, tmp_path: Path) -> None:
        file = tmp_path / "m.yaml"
        there = documents.read(INVENTORIES / "l4.yaml")
        file.write_text(llm(annotations=self.managed + annotations))
        [report] = explain(documents.read(file), there)
        assert (report.answer == "satisfiable") == fits
        if fits:
            file.write_text(llm(self.template))
            [report] = explain(documents.read(file), there)
            assert report.answer == "satisfiable"

    def test_its_model_and_parallelism_are_read_for_a_sizing(self, tmp_path: Path) -> None:
        file = tmp_path / "m.yaml"
        file.write_text(llm(more=", parallelism: {tensor: 2}"))
        found = served(documents.read(file))
        assert found is not None
        assert (found.storage_uri, {**found.flags}) == ("hf://a/b", {"tensor_parallel": "2"})
