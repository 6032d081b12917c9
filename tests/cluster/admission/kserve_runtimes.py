"""The runtimes that KServe ships, as facts: what counts where others stand beside them.

Source: kserve/kserve config/runtimes/*.yaml at each release from 0.12.0 to 0.20.0 and at aaac4e2
(2026-08-21). `since` and `until` are the first and the last of these releases that have the
runtime as it is here; `HEAD` is aaac4e2.
"""

from dataclasses import dataclass

from relume.cluster.admission.runtime_choice import RuntimeFacts, RuntimeFormat

RELEASES = (
    *("0.12.0", "0.12.1", "0.13.0", "0.13.1", "0.14.0", "0.14.1", "0.15.0", "0.15.1", "0.15.2"),
    *("0.16.0", "0.17.0", "0.17.1", "0.18.0", "0.18.1", "0.19.0", "0.20.0", "HEAD"),
)
FIRST, LAST = RELEASES[0], RELEASES[-1]
REST, REST_GRPC = ("v1", "v2"), ("v1", "v2", "grpc-v2")
Shown = tuple[str, str | None, int | None]


@dataclass(frozen=True, slots=True)
class Shipped:
    """A runtime of KServe's, and the releases that ship it so."""

    facts: RuntimeFacts
    since: str
    until: str = LAST

    def is_in(self, release: str) -> bool:
        first, here, last = map(RELEASES.index, (self.since, release, self.until))
        return first <= here <= last


def _ship(
    name: str,
    since: str,
    until: str,
    protocols: tuple[str, ...],
    *formats: Shown,
    multi_node: bool = False,
    auto: bool = True,
) -> Shipped:
    listed = tuple(RuntimeFormat(f, version, auto, priority) for f, version, priority in formats)
    facts = RuntimeFacts(f"kserve-{name}", listed, protocols, multi_node=multi_node)
    return Shipped(facts, since, until)


SHIPPED = (
    _ship("autogluonserver", "0.20.0", LAST, REST, ("autogluon", "1", 1)),
    _ship("huggingfaceserver", FIRST, LAST, REST, ("huggingface", "1", 1)),
    _ship(
        "huggingfaceserver-multinode",
        "0.15.0",
        LAST,
        REST,
        ("huggingface", "1", 2),
        multi_node=True,
    ),
    _ship("lgbserver", FIRST, "0.16.0", REST, ("lightgbm", "3", 1)),
    _ship("lgbserver", "0.17.0", LAST, REST, ("lightgbm", "4", 1)),
    _ship(
        "mlserver",
        FIRST,
        "0.13.1",
        ("v2",),
        *(("sklearn", "0", 2), ("sklearn", "1", 2), ("xgboost", "1", 2), ("lightgbm", "3", 2)),
        ("mlflow", "1", 1),
    ),
    _ship(
        "mlserver",
        "0.14.0",
        LAST,
        ("v2",),
        *(("sklearn", "0", 2), ("sklearn", "1", 2), ("xgboost", "1", 2), ("xgboost", "2", 2)),
        *(("lightgbm", "3", 2), ("lightgbm", "4", 2), ("mlflow", "1", 1), ("mlflow", "2", 1)),
    ),
    _ship(
        "openvino",
        "0.17.0",
        LAST,
        REST_GRPC,
        *(("openvino", "10", 1), ("onnx", "1", 2), ("tensorflow", "1", 3)),
        ("huggingface", None, None),
    ),
    _ship("paddleserver", FIRST, LAST, REST, ("paddle", "2", 1)),
    _ship("pmmlserver", FIRST, LAST, REST, ("pmml", "3", 1), ("pmml", "4", 1)),
    _ship(
        "predictiveserver",
        "0.17.0",
        LAST,
        REST,
        *(("sklearn", "1", 3), ("xgboost", "2", 3), ("lightgbm", "4", 3)),
        auto=False,
    ),
    _ship("sklearnserver", FIRST, LAST, REST, ("sklearn", "1", 1)),
    _ship(
        "tensorflow-serving",
        FIRST,
        LAST,
        ("v1", "grpc-v1"),
        ("tensorflow", "1", 2),
        ("tensorflow", "2", 2),
    ),
    _ship("torchserve", FIRST, LAST, REST_GRPC, ("pytorch", "1", 2)),
    _ship(
        "tritonserver",  # its format pytorch is not chosen automatically
        FIRST,
        LAST,
        ("v2", "grpc-v2"),
        *(("tensorrt", "8", 1), ("tensorflow", "1", 1), ("tensorflow", "2", 1)),
        *(("onnx", "1", 1), ("triton", "2", 1)),
    ),
    _ship("vllmserver", "0.20.0", LAST, (), ("vLLM", "1", 1)),
    _ship("xgbserver", FIRST, "0.16.0", REST, ("xgboost", "1", 1)),
    _ship("xgbserver", "0.17.0", LAST, REST, ("xgboost", "2", 1)),
)


def shipped_in(release: str) -> list[RuntimeFacts]:
    """What a cluster with this release of KServe has."""
    return [one.facts for one in SHIPPED if one.is_in(release)]
