"""Where a DeviceClass comes from: the documents read, the shipped presets, the drivers' charts."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from relume.cluster.claims import presets
from relume.cluster.claims.claim_fields import DeviceClass, Selector
from relume.cluster.claims.drivers import DRIVERS


@dataclass(frozen=True, slots=True)
class Classes:
    """All classes by name, and by the extended resource that they serve."""

    by_name: dict[str, DeviceClass]
    by_resource: dict[str, DeviceClass] = field(default_factory=dict)

    @classmethod
    def of(cls, read: Iterable[DeviceClass]) -> "Classes":
        """Classes that were read come before known ones of the same name or resource."""
        own = list(read)
        by_name = {found.name: found for found in (*_known(), *own)}
        # KEP-5004: the newest class serves a resource, the first by name among equally new ones.
        oldest_first = sorted(sorted(own, key=_name, reverse=True), key=_created)
        by_resource = {
            found.extended_resource: found
            for found in (*_known(), *oldest_first)
            if found.extended_resource
        }
        return cls(by_name, by_resource)

    def serving(self, resource: str) -> DeviceClass | None:
        """The class behind a resource of `limits`, implicit names included."""
        if resource.startswith(presets.IMPLICIT_PREFIX):
            return self.by_name.get(resource.removeprefix(presets.IMPLICIT_PREFIX))
        return self.by_resource.get(resource)


def _name(found: DeviceClass) -> str:
    return found.name


def _created(found: DeviceClass) -> str:
    return found.created


def _known() -> Iterator[DeviceClass]:
    for preset in presets.presets():
        selectors = tuple(
            Selector(text, f"class {preset.name} selector {i}")
            for i, text in enumerate(preset.selectors)
        )
        yield DeviceClass(preset.name, selectors, shipped=True)
    for driver in DRIVERS.values():
        for name, (text, resource) in driver.classes.items():
            selector = Selector(text, f"class {name} selector 0")
            yield DeviceClass(name, (selector,), resource, shipped=True)
