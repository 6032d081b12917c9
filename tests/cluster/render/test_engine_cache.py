"""What vLLM found out at a start outlives the pod: `relume.dev/engine-cache`."""

import re
from pathlib import Path
from typing import Any

import pytest

from relume.base.errors import InvalidManifest
from relume.cluster.render import Options
from tests.cluster.render.rendering import GPU, find, render_text, service

CACHE = "relume.dev/engine-cache: vllm-cache"


@pytest.mark.parametrize("route", ["extended-resource", "standard"])
def test_the_claim_is_mounted_where_vllm_keeps_its_cache(route: Any, tmp_path: Path) -> None:
    text = service(model=GPU, annotations=CACHE)
    rendering = render_text(tmp_path, text, options=Options(route))
    predictor = find(rendering, "InferenceService")["spec"]["predictor"]
    [volume] = predictor["volumes"]
    assert volume["persistentVolumeClaim"] == {"claimName": "vllm-cache"}
    [mount] = predictor["model"]["volumeMounts"]
    assert mount == {"name": volume["name"], "mountPath": "/var/cache/vllm"}
    environment = {one["name"]: one["value"] for one in predictor["model"]["env"]}
    assert environment["VLLM_CACHE_ROOT"] == mount["mountPath"]
    assert environment["VLLM_ENABLE_STARTUP_PLAN"] == "1"


def test_knative_is_asked_for_the_flags_of_a_claim_that_is_written_to(tmp_path: Path) -> None:
    def features(route: Any) -> Any:
        rendering = render_text(
            tmp_path, service(model=GPU, annotations=CACHE), options=Options(route)
        )
        text = "\n".join(rendering.files.values())
        return sorted({*re.findall(r"podspec-persistent-volume-\w+: \S+", text)})

    assert features("extended-resource") == [
        'podspec-persistent-volume-claim: "enabled"',
        'podspec-persistent-volume-write: "enabled"',
    ]
    assert features("standard") == []


def test_the_claim_is_mounted_at_the_users_own_folder(tmp_path: Path) -> None:
    own = f"{GPU}, env: [{{name: VLLM_CACHE_ROOT, value: /elsewhere}}]"
    rendering = render_text(tmp_path, service(model=own, annotations=CACHE))
    model = find(rendering, "InferenceService")["spec"]["predictor"]["model"]
    assert {"name": "VLLM_CACHE_ROOT", "value": "/elsewhere"} in model["env"]
    assert [mount["mountPath"] for mount in model["volumeMounts"]] == ["/elsewhere"]


def test_what_is_no_name_of_a_claim_is_refused_at_its_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidManifest, match=r"engine-cache.*invalid value: Not_A_Name"):
        render_text(tmp_path, service(model=GPU, annotations="relume.dev/engine-cache: Not_A_Name"))


@pytest.mark.parametrize("flags", ["--load-format=ipc_cache", "--load-format, ipc_cache"])
@pytest.mark.parametrize(
    ("share", "told"), [("memory=6Gi", True), ("'claim=a,memory=6Gi'", False), ("", True)]
)
def test_weights_of_a_preload_daemon_need_the_device_that_it_has(
    flags: str, share: str, told: bool, tmp_path: Path
) -> None:
    annotations = f"relume.dev/share: {share}" if share else ""
    rendering = render_text(
        tmp_path, service(model=f"{GPU}, args: [{flags}]", annotations=annotations)
    )
    notes = [note for note in rendering.notes if "vllm preload" in note.message]
    assert [note.line for note in notes] == ([4] if told else [])
