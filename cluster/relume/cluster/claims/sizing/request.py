"""From what the user says about a model to its Sizing: options, or an InferenceService's arguments.

Flags have the names of the options of `relume claims size`, whoever gives them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from relume.base.errors import InvalidInput
from relume.cluster.claims import documents
from relume.cluster.claims.documents import Document, Field
from relume.cluster.claims.sizing.account import UTILIZATION, Demand, Sizing, size
from relume.cluster.claims.sizing.architecture import DTYPE_BYTES, Architecture, architecture
from relume.cluster.claims.sizing.kv_cache import BLOCK
from relume.cluster.claims.sizing.weights import Quantization, Weights, from_files, from_shape
from relume.config.arguments import flags_in

_CONCURRENCY = 8  # sequences of full context when nobody says how many
_BATCHED = 2048  # vLLM's default for max_num_batched_tokens
_LORA_RANK = 16  # vLLM's default for max_lora_rank

# vLLM's flags and their short forms, by the name that they have here.
_FLAGS: Mapping[str, str] = {
    "--max-model-len": "context",
    "--max-num-seqs": "concurrency",
    "--dtype": "dtype",
    "--kv-cache-dtype": "kv_dtype",
    "--tensor-parallel-size": "tensor_parallel",
    "-tp": "tensor_parallel",
    "--quantization": "quantization",
    "-q": "quantization",
    "--gpu-memory-utilization": "utilization",
    "--max-num-batched-tokens": "batched",
    "--block-size": "block",
    "--max-lora-rank": "lora_rank",
    "--max-loras": "loras",
}
# SGLang's flags of the same meaning (python/sglang/srt/server_args.py).
_SGLANG_FLAGS: Mapping[str, str] = {
    "--context-length": "context",
    "--max-running-requests": "concurrency",
    "--dtype": "dtype",
    "--kv-cache-dtype": "kv_dtype",
    "--tensor-parallel-size": "tensor_parallel",
    "--tp-size": "tensor_parallel",
    "--tp": "tensor_parallel",
    "--quantization": "quantization",
    "--mem-fraction-static": "utilization",
    "--chunked-prefill-size": "batched",
    "--page-size": "block",
}
_OF_VLLM = ("", "vLLM", "huggingface")
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)([kKmMgG]?)")
_SCALE = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}


@dataclass(frozen=True, slots=True)
class Served:
    """One service: where its model is, its flags, and the engine where that is not vLLM."""

    storage_uri: str
    flags: Mapping[str, str]
    engine: str = ""

    @property
    def note(self) -> str:
        """What to know of an account of vLLM's memory for another engine; empty for vLLM."""
        if not self.engine:
            return ""
        read = "were read" if self.engine == "sglang" else "are not known"
        return (
            f"the account is of vLLM's memory: {self.engine}, whose flags {read}, needs the same "
            "for weights and KV cache, and its own for the rest"
        )


def served(given: Iterable[Document]) -> Served | None:
    """The first InferenceService or LLMInferenceService among the documents; None without one.

    Raises InvalidManifest when it names no model.
    """
    for document in given:
        if document.kind == "InferenceService":
            return _service(Field.root(document).get("spec", "predictor"))
        if document.kind == "LLMInferenceService":
            return _llm_service(Field.root(document).get("spec"))
    return None


def _service(predictor: Field) -> Served:
    model = predictor.get("model")
    containers = predictor.get("containers").items()
    holder = model if model.there or not containers else containers[0]
    name = model.get("modelFormat", "name").text()
    engine = "" if name in _OF_VLLM else name
    words = [argument.text() for argument in holder.get("args").items()]
    found = flags(words, engine)
    limit = predictor.get("containerConcurrency").integer()
    if limit:
        found.setdefault("concurrency", str(limit))
    return Served(model.need("storageUri").text(), found, engine)


def _llm_service(spec: Field) -> Served:
    """KServe starts vLLM with `parallelism.tensor`; the containers may have more arguments."""
    words = [
        argument.text()
        for container in spec.get("template", "containers").items()
        for argument in container.get("args").items()
    ]
    found = flags(words)
    tensor = spec.get("parallelism", "tensor").integer()
    if tensor:
        found.setdefault("tensor_parallel", str(tensor))
    return Served(spec.need("model").need("uri").text(), found)


def flags(arguments: Sequence[str], engine: str = "") -> dict[str, str]:
    """The flags that matter here, as `--name value` or `--name=value`; `_` in a name is `-`.

    Of an engine other than vLLM and SGLang none is known.
    """
    names = {"": _FLAGS, "sglang": _SGLANG_FLAGS}.get(engine, {})
    found: dict[str, str] = {}
    lora = False
    for name, value in flags_in(arguments, names):
        if name in names:
            found[names[name]] = value or ""
        elif name == "--enable-lora" and names:
            lora = value != ""
    return {"loras": "1", "lora_rank": str(_LORA_RANK), **found} if lora else found


def whole(text: str, name: str) -> int:
    """A whole number as vLLM reads it: `8192`, `8k` (thousand) or `8K` (1,024)."""
    found = _NUMBER.fullmatch(text.strip())
    if found is None:
        raise InvalidInput(f"{name}: {text!r} is not a whole number (write for example 8192 or 8K)")
    value = float(found[1]) * _SCALE[found[2]]
    if value != int(value) or value < 1:
        raise InvalidInput(f"{name}: {text!r} is not a whole number above 0")
    return int(value)


@dataclass(frozen=True, slots=True)
class SizeRequest:
    """A model folder or config.json, and flags by name."""

    model: Path
    flags: Mapping[str, str] = field(default_factory=dict)
    vendor: str = "NVIDIA"
    class_name: str | None = None

    def size(self) -> Sizing:
        """Size the model. Raises InvalidInput for a model or a flag that is wrong."""
        file = self.model / "config.json" if self.model.is_dir() else self.model
        found = documents.read(file)
        if not found:
            raise InvalidInput(f"{file}: empty")
        model = architecture(found[0])
        dtype = _dtype(self.flags.get("dtype", "auto"), "--dtype", model.dtype)
        return size(
            model,
            self._weights(model, dtype, Field.root(found[0])),
            self._demand(model, dtype),
            vendor=self.vendor,
            devices=self._number("tensor_parallel"),
            class_name=self.class_name,
        )

    def _weights(self, model: Architecture, dtype: str, config: Field) -> Weights:
        quantized = Quantization.of(config)
        asked = self.flags.get("quantization")
        counted = from_files(self.model, model, dtype) if self.model.is_dir() else None
        if counted is not None and (quantized is not None or asked is None):
            return counted
        if quantized is None and asked is not None:
            quantized = Quantization.named(asked)
        return from_shape(model, dtype, quantized)

    def _demand(self, model: Architecture, dtype: str) -> Demand:
        context = self._number("context") or model.positions
        if context > model.positions:
            raise InvalidInput(
                f"--context {context}: the model was made for at most {model.positions} tokens"
            )
        return Demand(
            context=context,
            concurrency=self._number("concurrency") or _CONCURRENCY,
            dtype=dtype,
            kv_dtype=_dtype(self.flags.get("kv_dtype", "auto"), "--kv-dtype", dtype),
            batched=self._number("batched") or _BATCHED,
            block=self._number("block") or BLOCK,
            utilization=self._utilization(),
            lora_rank=self._number("lora_rank") or (_LORA_RANK if "loras" in self.flags else 0),
            loras=self._number("loras") or (1 if "lora_rank" in self.flags else 0),
        )

    def _number(self, name: str) -> int | None:
        return whole(self.flags[name], name) if name in self.flags else None

    def _utilization(self) -> float:
        text = self.flags.get("utilization", str(UTILIZATION))
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not 0 < value <= 1:
            raise InvalidInput(f"--gpu-memory-utilization {text}: must be above 0 and at most 1")
        return value


def _dtype(asked: str, name: str, default: str) -> str:
    """The dtype that vLLM serves in; its `auto` makes float32 models half as wide."""
    chosen = default if asked == "auto" else asked.lower()
    if asked == "auto" and chosen in ("float32", "float64"):
        chosen = "bfloat16"
    if chosen not in DTYPE_BYTES:
        raise InvalidInput(f"{name} {asked}: known are {', '.join(sorted(DTYPE_BYTES))}")
    return chosen
