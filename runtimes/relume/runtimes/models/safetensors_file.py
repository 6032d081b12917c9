"""Write bfloat16 tensors to a safetensors file one at a time.

The safetensors package writes bfloat16 only through torch, or from memory that holds every tensor
at once. Its format is one page (an 8-byte length, a JSON header, the data), so this writes it
straight from numpy; the package then reads the result back when the folder is checked.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ALIGNMENT = 8  # the data starts on this boundary; the header is padded with spaces to reach it


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """A tensor to write: `values()` makes its float32 array of `shape` when its turn comes."""

    name: str
    shape: tuple[int, ...]
    values: "Callable[[], NDArray[np.float32]]"

    @property
    def bytes(self) -> int:
        """Size in the file: two bytes an element."""
        return 2 * prod(self.shape)


def write_bfloat16(
    path: Path, tensors: Iterable[PlannedTensor], written: Callable[[int], None]
) -> None:
    """Write `tensors` in this order; `written` is told the bytes of each.

    Raises ValueError when an array has another shape than planned or a value that is not finite.
    """
    planned = list(tensors)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in planned:
        end = offset + tensor.bytes
        header[tensor.name] = {
            "dtype": "BF16",
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for tensor in planned:
            file.write(_bfloat16(tensor).tobytes())
            written(tensor.bytes)


def _bfloat16(tensor: PlannedTensor) -> "NDArray[np.uint16]":
    """Round float32 to the nearest bfloat16, ties to even, as the bits of its upper half."""
    import numpy as np

    values = np.ascontiguousarray(tensor.values(), dtype="<f4")
    if values.shape != tensor.shape:
        raise ValueError(f"{tensor.name} has shape {values.shape}, expected {tensor.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{tensor.name} holds a value that is not finite")
    bits = values.view("<u4")  # no finite value overflows 32 bits when rounded up
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
    return rounded.astype("<u2")
