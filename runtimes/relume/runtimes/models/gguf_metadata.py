"""What a GGUF file says about its model, read with types."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from relume.runtimes.models.errors import UnusableModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Tensor(Protocol):
    """One tensor of a GGUF file, as the gguf package hands it out."""

    name: str
    shape: "NDArray[np.uint32]"  # innermost dimension first
    data: "NDArray[np.generic]"  # quantised blocks, or the plain values
    tensor_type: object


class GgufFile:
    """A GGUF file opened for reading; nothing of its tensors is loaded until asked for."""

    def __init__(self, path: Path) -> None:
        """Raises UnusableModel when the file is not a GGUF file that the gguf package reads."""
        from gguf import GGUFReader

        self.path = path
        try:
            self._reader = GGUFReader(path)
        except (ValueError, KeyError, IndexError, OSError) as error:
            raise UnusableModel(f"{path.name} is not a readable GGUF file: {error}") from error
        self.tensors: tuple[Tensor, ...] = tuple(self._reader.tensors)
        self._values: dict[str, object] = {}  # decoding a vocabulary takes half a second

    def _value(self, key: str) -> object:
        if key not in self._values:
            field = self._reader.get_field(key)
            if field is None:
                raise UnusableModel(f"{self.path.name} has no {key}")
            self._values[key] = field.contents()
        return self._values[key]

    def has(self, key: str) -> bool:
        """Whether the file has this metadata key."""
        return self._reader.get_field(key) is not None

    def text(self, key: str) -> str:
        """A string."""
        value = self._value(key)
        if not isinstance(value, str):
            raise UnusableModel(f"{self.path.name}: {key} is not a string")
        return value

    def integer(self, key: str) -> int:
        """A whole number."""
        value = self._value(key)
        if not isinstance(value, int):
            raise UnusableModel(f"{self.path.name}: {key} is not a whole number")
        return value

    def real(self, key: str) -> float:
        """A float32, as the shortest decimal that reads back as it (1e-05, not 9.99999974e-06)."""
        import numpy as np

        value = self._value(key)
        if not isinstance(value, int | float):
            raise UnusableModel(f"{self.path.name}: {key} is not a number")
        return float(str(np.float32(value)))

    def texts(self, key: str) -> list[str]:
        """An array of strings."""
        value = self._value(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise UnusableModel(f"{self.path.name}: {key} is not an array of strings")
        return value

    def integers(self, key: str) -> list[int]:
        """An array of whole numbers."""
        value = self._value(key)
        if not isinstance(value, list) or not all(isinstance(item, int) for item in value):
            raise UnusableModel(f"{self.path.name}: {key} is not an array of whole numbers")
        return value
