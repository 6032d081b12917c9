"""Small documents for the tests: slices, claims, classes, as dictionaries."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from relume.cluster.claims.documents import Document
from relume.cluster.claims.explain import ClaimReport, explain

INVENTORIES = Path(__file__).parent / "inventories"
EXAMPLES = Path(__file__).parent / "examples"
DRIVER = "gpu.example.com"
Json = dict[str, object]


def document(data: Mapping[str, object]) -> Document:
    """A document that came from no real file."""
    return Document(Path("test.yaml"), 0, data)


def device(name: str, attributes: Mapping[str, object] | None = None, **fields: object) -> Json:
    """A device; attribute values become string, int or bool by their Python type."""
    kinds = {str: "string", int: "int", bool: "bool"}
    typed = {key: {kinds[type(value)]: value} for key, value in (attributes or {}).items()}
    return {"name": name, "attributes": typed, **fields}


def resource_slice(node: str, devices: Iterable[Json], **spec: object) -> Json:
    """A slice that is its whole pool, on one node; `spec` overrides and adds fields."""
    fields: Json = {
        "driver": DRIVER,
        "nodeName": node,
        "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
        "devices": list(devices),
        **spec,
    }
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": f"{node}-slice"},
        "spec": {key: value for key, value in fields.items() if value is not None},
    }


def request(name: str = "gpu", *expressions: str, **exactly: object) -> Json:
    """A request for devices of the class `any`."""
    selectors = [{"cel": {"expression": text}} for text in expressions]
    return {
        "name": name,
        "exactly": {"deviceClassName": "any", "selectors": selectors, **exactly},
    }


def claim(*requests: Json, constraints: Iterable[Json] = (), name: str = "claim") -> Json:
    """A ResourceClaim."""
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name},
        "spec": {"devices": {"requests": list(requests), "constraints": list(constraints)}},
    }


def device_class(name: str = "any", *expressions: str, **spec: object) -> Json:
    """A DeviceClass; without expressions it selects every device."""
    selectors = [{"cel": {"expression": text}} for text in expressions]
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": name},
        "spec": {"selectors": selectors, **spec},
    }


def explained(asked: Json, *inventory: Json) -> ClaimReport:
    """The report on the only unit of `asked`."""
    [report] = explain([document(asked)], [document(d) for d in (*inventory, device_class())])
    return report


def held(report: ClaimReport) -> list[str]:
    """The names of the devices of the witness, in the order of the requests."""
    assert report.witness is not None, report.sentence
    return [device.name for _, _, device in report.witness.devices]


def used_by_another() -> Json:
    """A claim that holds device a of the node."""
    used = claim(request(), name="other")
    result = {"request": "gpu", "driver": DRIVER, "pool": "node", "device": "a"}
    used["status"] = {"allocation": {"devices": {"results": [result]}}}
    return used


def unsatisfiable(report: ClaimReport, words: str) -> None:
    """Check the answer, and that its sentence has the words."""
    assert report.answer == "unsatisfiable"
    assert words in report.sentence
