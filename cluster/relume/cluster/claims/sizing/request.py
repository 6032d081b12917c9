"""From what the user says about a model to its Sizing."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from relume.base.errors import InvalidInput
from relume.cluster.claims.documents import Document
from relume.cluster.claims.fields import Field
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from relume.cluster.claims import documents
from relume.cluster.claims.architecture import architecture
from relume.cluster.claims.kv_cache import BLOCK
from relume.cluster.claims.model_shape import DTYPE_BYTES, Architecture
from relume.cluster.claims.serving_flags import whole
from relume.cluster.claims.sizing import UTILIZATION, Demand, Sizing, size
from relume.cluster.claims.weights import Quantization, Weights, from_files, from_shape


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
    "--enable-lora": "lora",
}
_VALUELESS = ("--enable-lora",)
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)([kKmMgG]?)")
_SCALE = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}


@dataclass(frozen=True, slots=True)
class Served:
    """One InferenceService: its model and its flags, by the names of `relume claims size`."""

    name: str
    storage_uri: str
    flags: Mapping[str, str]


def served(documents: Iterable[Document]) -> Served | None:
    """The first InferenceService among the documents; None when there is none.

    Raises InvalidManifest when it names no model.
    """
    for document in documents:
        if document.kind != "InferenceService":
            continue
        predictor = Field.root(document).get("spec", "predictor")
        model = predictor.get("model")
        containers = predictor.get("containers").items()
        holder = model if model.there or not containers else containers[0]
        arguments = [arg.text() for arg in holder.get("args").items()]
        found = flags(arguments)
        limit = predictor.get("containerConcurrency").integer()
        if limit:
            found.setdefault("concurrency", str(limit))
        return Served(document.name, model.need("storageUri").text(), found)
    return None


def flags(arguments: Sequence[str]) -> dict[str, str]:
    """The flags that matter here, as `--name value` or `--name=value`; `_` in a name is `-`."""
    found: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        name = name.replace("_", "-")
        if name in _FLAGS:
            if not equals:
                value = "1" if name in _VALUELESS else next(rest, "")
            found[_FLAGS[name]] = value
    if found.pop("lora", None):
        found.setdefault("loras", "1")
        found.setdefault("lora_rank", "16")
    return found


def whole(text: str, name: str) -> int:
    """A whole number as vLLM reads it: `8192`, `8k` (thousand) or `8K` (1,024)."""
    found = _NUMBER.fullmatch(text.strip())
    if found is None:
        raise InvalidInput(f"{name}: {text!r} is not a whole number (write for example 8192 or 8K)")
    value = float(found[1]) * _SCALE[found[2]]
    if value != int(value) or value < 1:
        raise InvalidInput(f"{name}: {text!r} is not a whole number above 0")
    return int(value)


CONCURRENCY = 8
"""Sequences of full context when nobody says how many."""


@dataclass(frozen=True, slots=True)
class SizeRequest:
    """A model folder or config.json, and flags by name (those of `serving_flags`)."""

    model: Path
    flags: Mapping[str, str] = field(default_factory=dict)
    vendor: str = "NVIDIA"
    class_name: str | None = None

    def size(self) -> Sizing:
        """Size it. Raises InvalidInput for what cannot be."""
        file = self.model / "config.json" if self.model.is_dir() else self.model
        found = documents.read(file)
        if not found:
            raise InvalidInput(f"{file}: empty")
        model = architecture(found[0])
        dtype = _dtype(self.flags.get("dtype", "auto"), "--dtype", model.dtype)
        weights = self._weights(model, dtype, Field.root(found[0]), file.parent)
        parallel = self._number("tensor_parallel")
        return size(
            model,
            weights,
            self._demand(model, dtype),
            vendor=self.vendor,
            devices=parallel,
            class_name=self.class_name,
        )

    def _weights(self, model: Architecture, dtype: str, config: Field, folder: Path) -> Weights:
        quantized = Quantization.of(config)
        asked = self.flags.get("quantization")
        counted = from_files(folder, model, dtype) if self.model.is_dir() else None
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
            context,
            self._number("concurrency") or CONCURRENCY,
            dtype,
            _dtype(self.flags.get("kv_dtype", "auto"), "--kv-dtype", dtype),
            self._number("batched") or 2048,
            self._number("block") or BLOCK,
            self._utilization(),
            self._number("lora_rank") or (16 if "loras" in self.flags else 0),
            self._number("loras") or (1 if "lora_rank" in self.flags else 0),
        )

    def _number(self, name: str) -> int | None:
        return whole(self.flags[name], name) if name in self.flags else None

    def _utilization(self) -> float:
        text = self.flags.get("utilization")
        try:
            value = float(text) if text is not None else UTILIZATION
        except ValueError:
            value = 0.0
        if not 0 < value <= 1:
            raise InvalidInput(f"--gpu-memory-utilization {text}: must be above 0 and at most 1")
        return value


def _dtype(asked: str, name: str, default: str) -> str:
    """The dtype asked for; vLLM's auto makes float32 models half as wide."""
    chosen = default if asked == "auto" else asked.lower()
    if asked == "auto" and chosen in ("float32", "float64"):
        chosen = "bfloat16"
    if chosen not in DTYPE_BYTES:
        raise InvalidInput(f"{name} {asked}: known are {', '.join(sorted(DTYPE_BYTES))}")
    return chosen
