"""What `relume doctor` says of devices and of the parallel sizes that are to use them."""

from pathlib import Path

import pytest

from tests.config.manifests import service

from .test_doctor import found

CLASS = "deviceclass.resource.kubernetes.io"
ARGUMENTS = "spec.predictor.model.args"


@pytest.mark.parametrize(
    ("arguments", "count", "reason"),
    [
        ("[--tensor-parallel-size=4]", 1, "too-few-devices"),
        ("[--tensor-parallel-size, '4']", 4, None),
        ("[--tensor_parallel_size=2, -pp, '2']", 3, "too-few-devices"),
        ("[-tp=2, --data-parallel-size=2]", 4, None),
        ("[--tensor-parallel-size=1]", 2, "idle-devices"),
        ("[--tensor-parallel-size=$(SIZE)]", 1, None),
        ("[--tensor-parallel-size]", 1, None),
        ("[--max-num-seqs=4]", 2, None),
    ],
)
def test_the_parallel_sizes_go_with_the_devices(
    tmp_path: Path, arguments: str, count: int, reason: str | None
) -> None:
    model = f"args: {arguments}\nresources: {{limits: {{nvidia.com/gpu: '{count}'}}}}"
    seen = found(tmp_path, service("maxReplicas: 1", model))
    said = {(name, field) for name, field in seen if name != "second-device"}
    assert said == ({(reason, ARGUMENTS)} if reason else set())


@pytest.mark.parametrize(
    ("name", "count", "said"),
    [
        (f"{CLASS}/llm-mig-1g-5gb", 2, True),
        (f"{CLASS}/llm-mig-1g-5gb", 1, False),
        ("nvidia.com/mig-1g.10gb", 2, True),
        (f"{CLASS}/llm-gpu-24g", 2, False),
        (f"{CLASS}/mine", 2, False),
    ],
)
def test_a_model_is_not_split_over_partitions(
    tmp_path: Path, name: str, count: int, said: bool
) -> None:
    limit = f"resources: {{limits: {{{name}: {count}}}}}"
    seen = found(tmp_path, service("maxReplicas: 1", limit))
    field = f"spec.predictor.model.resources.limits.{name}"
    assert (("several-partitions", field) in seen) == said
