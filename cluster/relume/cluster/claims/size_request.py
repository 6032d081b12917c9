"""From what the user says about a model to its Sizing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from relume.base.errors import InvalidInput
from relume.cluster.claims import documents
from relume.cluster.claims.architecture import architecture
from relume.cluster.claims.fields import Field
from relume.cluster.claims.kv_cache import BLOCK
from relume.cluster.claims.model_shape import DTYPE_BYTES, Architecture
from relume.cluster.claims.serving_flags import whole
from relume.cluster.claims.sizing import UTILIZATION, Demand, Sizing, size
from relume.cluster.claims.weights import Quantization, Weights, from_files, from_shape

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
