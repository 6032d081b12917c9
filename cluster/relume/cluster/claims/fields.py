"""Reading one value of a document, or saying where and why it is wrong."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from relume.base.errors import InvalidManifest
from relume.cluster.claims import quantity
from relume.cluster.claims.documents import Document, Step, Steps
from relume.cluster.claims.quantity import Quantity


@dataclass(frozen=True, slots=True)
class Field:
    """A value with its path in the document. Absent and null are both `value is None`."""

    document: Document
    path: Steps
    value: object

    @classmethod
    def root(cls, document: Document) -> "Field":
        return cls(document, (), document.data)

    def wrong(self, message: str) -> InvalidManifest:
        """The error that this value is wrong."""
        return self.document.wrong(self.path, message)

    def get(self, *steps: Step) -> "Field":
        """The value below; absent where any step is."""
        field = self
        for step in steps:
            value = field._table().get(step) if field.value is not None else None
            field = Field(self.document, (*field.path, step), value)
        return field

    def need(self, *steps: Step) -> "Field":
        """The value below, which must be there."""
        field = self.get(*steps)
        if field.value is None:
            raise field.wrong("is missing")
        return field

    @property
    def there(self) -> bool:
        return self.value is not None

    def _table(self) -> Mapping[Step, object]:
        if not isinstance(self.value, Mapping):
            raise self.wrong(f"must be a table of fields, not {_what(self.value)}")
        return self.value

    def entries(self) -> "Iterator[tuple[str, Field]]":
        """The fields of a table by name; nothing where it is absent."""
        if self.value is None:
            return
        for name, value in self._table().items():
            yield str(name), Field(self.document, (*self.path, str(name)), value)

    def raw_entries(self) -> Iterable[tuple[str, object]]:
        """The fields of a table as they were read, for what is too many to make Fields of."""
        if self.value is None:
            return ()
        return [(str(name), value) for name, value in self._table().items()]

    def below(self, name: str, value: object) -> "Field":
        """The field of a raw entry."""
        return Field(self.document, (*self.path, name), value)

    def items(self) -> "list[Field]":
        """The items of a list; empty where it is absent."""
        if self.value is None:
            return []
        if not isinstance(self.value, Sequence) or isinstance(self.value, str):
            raise self.wrong(f"must be a list, not {_what(self.value)}")
        return [Field(self.document, (*self.path, i), v) for i, v in enumerate(self.value)]

    def text(self, default: str = "") -> str:
        """A string, `default` where it is absent."""
        if self.value is None:
            return default
        if not isinstance(self.value, str):
            raise self.wrong(f"must be a string, not {_what(self.value)}")
        return self.value

    def integer(self, default: int = 0, least: int = 0) -> int:
        """A whole number, `default` where it is absent."""
        if self.value is None:
            return default
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            raise self.wrong(f"must be a whole number, not {_what(self.value)}")
        if self.value < least:
            raise self.wrong(f"must be at least {least}, not {self.value}")
        return self.value

    def boolean(self) -> bool:
        """True or false; false where it is absent."""
        if self.value is None:
            return False
        if not isinstance(self.value, bool):
            raise self.wrong(f"must be true or false, not {_what(self.value)}")
        return self.value

    def one_of(self, *choices: str) -> str:
        """One of `choices`, the first where it is absent."""
        text = self.text(choices[0])
        if text not in choices:
            raise self.wrong(f"invalid value: {text}: must be {' or '.join(choices)}")
        return text

    def quantity(self) -> Quantity:
        """A Kubernetes quantity, as a string or a number."""
        if isinstance(self.value, bool) or not isinstance(self.value, str | int | float):
            raise self.wrong(f"must be a quantity, not {_what(self.value)}")
        try:
            return quantity.parse(str(self.value))
        except ValueError as error:
            raise self.wrong(str(error)) from error


def _what(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the string {value!r}"
    return "a list" if isinstance(value, Sequence) else "a table of fields"
