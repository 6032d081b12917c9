"""What an InferenceService's arguments to vLLM say about memory."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from relume.base.errors import InvalidInput
from relume.cluster.claims.documents import Document
from relume.cluster.claims.fields import Field

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
