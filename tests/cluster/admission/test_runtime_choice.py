"""Runtimes beside each other: which KServe refuses, and which it chooses."""

from dataclasses import replace
from itertools import permutations

import pytest

from relume.cluster.admission.runtime_choice import (
    ModelNeed,
    RuntimeFacts,
    RuntimeFormat,
    chosen,
    clash,
    facts_of,
    need_of,
)
from relume.cluster.render.runtimes import RUNTIMES
from tests.cluster.admission.kserve_runtimes import RELEASES, REST, SHIPPED, shipped_in

OURS = [replace(facts_of(one.manifest()), created="2026-01-02T00:00:00Z") for one in RUNTIMES]
NAMES = [one.name for one in OURS]


def runtime(
    name: str = "there", priority: int | None = 2, version: str | None = "1", **more: object
) -> RuntimeFacts:
    formats = (RuntimeFormat(str(more.pop("format", "huggingface")), version, True, priority),)
    return replace(RuntimeFacts(name, formats, REST), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("release", RELEASES)
def test_kserve_takes_its_own_runtimes_beside_each_other(release: str) -> None:
    """A check of the table itself: each release's own runtimes were applied together."""
    assert [clash(a, b) for a, b in permutations(shipped_in(release), 2) if clash(a, b)] == []


@pytest.mark.parametrize("ours", OURS, ids=NAMES)
@pytest.mark.parametrize(
    "shipped", SHIPPED, ids=[f"{one.facts.name}-{one.since}" for one in SHIPPED]
)
def test_each_runtime_of_ours_is_taken_beside_each_of_kserves(
    ours: RuntimeFacts, shipped: object
) -> None:
    there = shipped.facts  # type: ignore[attr-defined]
    assert clash(ours, there) is None
    assert clash(there, ours) is None, "nor is KServe's next release refused beside ours"


def test_our_runtimes_are_taken_beside_each_other_and_beside_those_of_earlier_releases() -> None:
    """The first releases of ours had the priorities 2 to 5."""
    earlier = [
        runtime(name, number, format=kind)
        for name, number in zip(NAMES, (5, 4, 3, 2), strict=True)
        for kind in ("vLLM", "huggingface")
    ]
    assert [c for a in OURS for b in (*OURS, *earlier) if (c := clash(a, b))] == []


def test_the_priority_that_ours_once_had_is_refused() -> None:
    """What a cluster with KServe aaac4e2 said of relume-vllm-cpu."""
    (multinode,) = (one.facts for one in SHIPPED if one.facts.multi_node)
    assert clash(runtime("relume-vllm-cpu"), multinode) == (
        "same priority assigned for the model format huggingface in the clusterservingruntimes "
        "kserve-huggingfaceserver-multinode and relume-vllm-cpu"
    )


@pytest.mark.parametrize(
    ("new", "refused"),
    [
        (runtime("new"), True),
        (runtime("new", format="HuggingFace"), True),
        (runtime("new", multi_node=True), True),
        (runtime("new", protocols=("grpc-v2", "v2")), True),
        (runtime("new", priority=3), False),
        (runtime("new", priority=None), False),
        (runtime("new", version="2"), False),
        (runtime("new", version=None), False),
        (runtime("new", format="vLLM"), False),
        (runtime("new", protocols=("grpc-v2",)), False),
        (runtime("new", protocols=()), False),
        (runtime("new", multi_model=True), False),
        (runtime("new", disabled=True), False),
        (runtime("new", namespace="models"), False),
        (runtime("there"), False),
        (runtime("new", formats=(RuntimeFormat("huggingface", "1", False, 2),)), False),
    ],
)
def test_the_webhook_compares_what_is_chosen_automatically(
    new: RuntimeFacts, refused: bool
) -> None:
    assert (clash(new, runtime()) is not None) == refused
    assert (clash(runtime(), new) is not None) == refused


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("model_format", ["huggingface", "vLLM"])
@pytest.mark.parametrize("version", [None, "1"])
@pytest.mark.parametrize("multi_node", [False, True])
def test_a_service_that_names_no_runtime_keeps_kserves_beside_ours(
    release: str, model_format: str, version: str | None, multi_node: bool
) -> None:
    """Ours are newer, and are taken only where KServe ships nothing for the format."""
    need = ModelNeed("default", model_format, version, multi_node=multi_node)
    before = chosen(need, shipped_in(release))
    after = chosen(need, [*shipped_in(release), *OURS])
    if before is not None:
        assert after == before
    else:
        assert (after is None) == multi_node, "no runtime of ours is several pods"
        assert after is None or after.name in NAMES


def test_before_0_20_a_vllm_model_that_names_no_runtime_gets_ours() -> None:
    taken = [chosen(ModelNeed("default", "vLLM"), [*shipped_in(r), *OURS]) for r in RELEASES]
    names = [one.name if one else "" for one in taken]
    assert names == ["relume-vllm"] * (len(RELEASES) - 2) + ["kserve-vllmserver"] * 2


@pytest.mark.parametrize("ours", OURS, ids=NAMES)
@pytest.mark.parametrize("model_format", ["huggingface", "vLLM"])
def test_where_no_other_runtime_is_any_of_ours_is_chosen(
    ours: RuntimeFacts, model_format: str
) -> None:
    for protocol in (None, "v1", "v2"):
        assert chosen(ModelNeed("default", model_format, "1", protocol), [ours]) == ours
    assert chosen(ModelNeed("default", model_format, "1", "grpc-v2"), [ours]) is None


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (runtime("b", 1), runtime("a", None)),
        (runtime("b", 3), runtime("a", 2)),
        (runtime("b", 1, namespace="models"), runtime("a", 9)),
        (runtime("b"), runtime("a", protocols=())),
        (
            runtime("b", created="2026-02-01T00:00:00Z"),
            runtime("a", created="2026-01-01T00:00:00Z"),
        ),
        (runtime("a"), runtime("b")),
    ],
)
def test_the_order_of_choice(better: RuntimeFacts, worse: RuntimeFacts) -> None:
    for both in ([better, worse], [worse, better]):
        assert chosen(ModelNeed("models", "huggingface"), both) == better


def test_what_a_service_asks_for_is_read_from_its_model() -> None:
    model = {"modelFormat": {"name": "vLLM", "version": "1"}, "protocolVersion": "v2"}
    body = {"metadata": {"namespace": "m"}, "spec": {"predictor": {"model": model}}}
    assert need_of(body) == ModelNeed("m", "vLLM", "1", "v2")
    named = {"spec": {"predictor": {"model": {**model, "runtime": "r"}}}}
    assert need_of(named) is None
    assert need_of({"spec": {"predictor": {"containers": []}}}) is None
