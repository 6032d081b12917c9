"""DeviceClasses and where they come from: documents, the shipped presets, the drivers' charts."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from relume.cluster.claims.documents import Document, Field
from relume.cluster.claims.drivers import DRIVERS
from relume.cluster.claims.presets import IMPLICIT_PREFIX, PRESETS


@dataclass(frozen=True, slots=True)
class Selector:
    """One CEL expression and where it was written, in words and as a place."""

    expression: str
    source: str
    field: Field | None = field(default=None, compare=False, hash=False)


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """One DeviceClass; `created` is its creationTimestamp."""

    name: str
    selectors: tuple[Selector, ...]
    extended_resource: str | None = None
    created: str = ""


def device_class(document: Document) -> DeviceClass:
    """Read a DeviceClass."""
    root = Field.root(document)
    spec = root.get("spec")
    return DeviceClass(
        document.name,
        selectors(spec, f"class {document.name}"),
        spec.get("extendedResourceName").text() or None,
        str(root.get("metadata", "creationTimestamp").value or ""),
    )


def selectors(owner: Field, source: str) -> tuple[Selector, ...]:
    """The CEL selectors of a class or a request."""
    expressions = (item.need("cel").need("expression") for item in owner.get("selectors").items())
    return tuple(
        Selector(expression.text(), f"{source} selector {number}", expression)
        for number, expression in enumerate(expressions)
    )


@dataclass(frozen=True, slots=True)
class Classes:
    """All classes by name, and by the extended resource that they serve."""

    by_name: dict[str, DeviceClass]
    by_resource: dict[str, DeviceClass]

    @classmethod
    def of(cls, read: Iterable[DeviceClass]) -> "Classes":
        """The known classes and those that were read, which replace known ones of the same name.

        Of several read under one name the last counts.
        """
        known = list(_known())
        own = list({found.name: found for found in read}.values())
        replaced = {found.name for found in own}
        # KEP-5004: the newest class serves a resource, the first by name among equally new ones.
        oldest_first = sorted(
            sorted(own, key=lambda one: one.name, reverse=True), key=lambda one: one.created
        )
        return cls(
            {found.name: found for found in (*known, *own)},
            {
                found.extended_resource: found
                for found in (*(k for k in known if k.name not in replaced), *oldest_first)
                if found.extended_resource
            },
        )

    def serving(self, resource: str) -> DeviceClass | None:
        """The class behind a resource of `limits`, implicit names included."""
        if resource.startswith(IMPLICIT_PREFIX):
            return self.by_name.get(resource.removeprefix(IMPLICIT_PREFIX))
        return self.by_resource.get(resource)


def _known() -> Iterator[DeviceClass]:
    for preset in PRESETS.values():
        yield _class(preset.name, preset.selectors, None)
    for name, driver in DRIVERS.items():
        classes = driver.classes or {name: (f"device.driver == '{name}'", None)}
        for class_name, (expression, resource) in classes.items():
            yield _class(class_name, (expression,), resource)


def _class(name: str, expressions: Iterable[str], resource: str | None) -> DeviceClass:
    texts = enumerate(expressions)
    made = tuple(Selector(text, f"class {name} selector {i}") for i, text in texts)
    return DeviceClass(name, made, resource)
