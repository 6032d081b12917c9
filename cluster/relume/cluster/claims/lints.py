"""What is likely a mistake in claims, classes and inventories, whatever an allocation says.

lint(documents)        documents of `relume.cluster.claims.documents.read`
lint_nodes(nodes)      the same for `relume.config.yaml_source.documents`
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from relume.cluster.claims import documents as sources
from relume.cluster.claims.claim_fields import Ask, DeviceClass, Selector, device_class
from relume.cluster.claims.classes import Classes
from relume.cluster.claims.documents import Document
from relume.cluster.claims.expression_lints import Guards, Mistake, mistakes, unknown_attribute
from relume.cluster.claims.findings import Finding
from relume.cluster.claims.inventory_lints import published_names, served_twice
from relume.cluster.claims.presets import IMPLICIT_PREFIX, LONGEST_NAME
from relume.cluster.claims.workloads import claim_of
from relume.config.nodes import Node
from relume.cluster.claims.fields import Field


_CLAIMS = ("ResourceClaim", "ResourceClaimTemplate")


def lint(documents: Iterable[Document]) -> list[Finding]:
    """Every finding. Raises InvalidManifest for a claim, class or slice that is wrong."""
    read = list(documents)
    own = [(d, device_class(d)) for d in read if d.kind == "DeviceClass"]
    classes = Classes.of(found for _, found in own)
    names = published_names(read)
    found: list[Finding] = []
    for document, one in own:
        found += _class(document, one, names)
    found += _one_resource_twice([found_class for _, found_class in own], [d for d, _ in own])
    for document in read:
        if document.kind in _CLAIMS:
            found += _claim(document, classes, names)
        found += _long_resource(document)
    found += served_twice(read)
    return found


def lint_nodes(nodes: Iterable[Node]) -> list[Finding]:
    """`lint` for documents that were read with their places."""
    return lint(sources.of_nodes(nodes))


def _class(
    document: Document, one: DeviceClass, names: Mapping[str, frozenset[str]]
) -> Iterator[Finding]:
    yield from _selectors(document, one.selectors, Guards(), names)
    if len(one.name) > LONGEST_NAME:
        yield Finding(
            "warning",
            "class-name-too-long",
            document,
            ("metadata", "name"),
            f"{len(one.name)} characters, so that {IMPLICIT_PREFIX}NAME is no resource name",
            f"use at most {LONGEST_NAME}, or set spec.extendedResourceName",
        )


def _claim(
    document: Document, classes: Classes, names: Mapping[str, frozenset[str]]
) -> Iterator[Finding]:
    found = claim_of(document)
    for request in found.requests:
        for ask in request.asks:
            yield from _selectors(document, ask.selectors, _guards_of(ask, classes), names)
    inside = ("spec", "spec") if document.kind == "ResourceClaimTemplate" else ("spec",)
    for number, constraint in enumerate(found.constraints):
        wrong = unknown_attribute(constraint.attribute, names)
        if wrong is not None:
            kind = "distinctAttribute" if constraint.distinct else "matchAttribute"
            path = (*inside, "devices", "constraints", number, kind)
            yield _finding(wrong, document, path)


def _guards_of(ask: Ask, classes: Classes) -> Guards:
    """What the class of an ask has tested before the ask's own selectors come."""
    guards = Guards()
    known = classes.by_name.get(ask.class_name)
    for selector in known.selectors if known else ():
        guards.add(selector.expression)
    return guards


def _selectors(
    document: Document,
    selectors: Iterable[Selector],
    guards: Guards,
    names: Mapping[str, frozenset[str]],
) -> Iterator[Finding]:
    for selector in selectors:
        assert selector.field is not None
        for mistake in mistakes(selector.expression, guards, names):
            yield _finding(mistake, document, selector.field.path)


def _finding(mistake: Mistake, document: Document, path: sources.Steps) -> Finding:
    severity = "error" if mistake.fatal else "warning"
    return Finding(
        "error" if severity == "error" else "warning",
        mistake.reason,
        document,
        path,
        mistake.message,
        mistake.fix,
    )


def _one_resource_twice(
    classes: Sequence[DeviceClass], documents: Sequence[Document]
) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for one, document in zip(classes, documents, strict=True):
        resource = one.extended_resource
        if resource is None:
            continue
        other = first.setdefault(resource, one.name)
        if other != one.name:
            yield Finding(
                "error",
                "extended-resource-twice",
                document,
                ("spec", "extendedResourceName"),
                f"DeviceClass {other} serves {resource} too, and only the newer of both counts",
                "give one of them another name",
            )


def _long_resource(document: Document) -> Iterator[Finding]:
    """Implicit resource names in `limits` that no API server accepts."""
    for path, name in _keys(document.data, ()):
        if not name.startswith(IMPLICIT_PREFIX):
            continue
        part = name.removeprefix(IMPLICIT_PREFIX)
        if len(part) > LONGEST_NAME:
            yield Finding(
                "error",
                "class-name-too-long",
                document,
                path,
                f"{part} has {len(part)} characters, and a resource name at most {LONGEST_NAME}",
                "rename the class, or give it an extendedResourceName",
            )


def _keys(value: object, path: sources.Steps) -> Iterator[tuple[sources.Steps, str]]:
    """The names under every `limits` and `requests` of a workload."""
    if isinstance(value, Mapping):
        for name, below in value.items():
            here = (*path, str(name))
            if name in ("limits", "requests") and isinstance(below, Mapping):
                yield from (((*here, str(key)), str(key)) for key in below)
            elif name != "devices":
                yield from _keys(below, here)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for i, below in enumerate(value):
            yield from _keys(below, (*path, i))


# Resources that device plugins offer, and the DRA driver of the same hardware.
_PLUGINS: Mapping[str, str] = {
    "nvidia.com/": "gpu.nvidia.com",
    "amd.com/": "gpu.amd.com",
    "gpu.intel.com/": "gpu.intel.com",
    "google.com/tpu": "tpu.google.com",
}


def served_twice(documents: Sequence[Document]) -> Iterator[Finding]:
    """Nodes on which a device plugin and a DRA driver both hand out the same hardware."""
    drivers = _drivers_by_node(documents)
    for document in documents:
        if document.kind != "Node":
            continue
        allocatable = Field.root(document).get("status", "allocatable")
        for resource, amount in allocatable.entries():
            driver = next((d for p, d in _PLUGINS.items() if resource.startswith(p)), None)
            if driver not in drivers.get(document.name, ()) or not amount.quantity():
                continue
            yield Finding(
                "error",
                "served-twice",
                document,
                ("status", "allocatable", resource),
                f"a device plugin offers {amount.value} {resource} of node {document.name}, and "
                f"{driver} publishes its devices there too: a device can be given out twice",
                "turn the device plugin off on this node, or the DRA driver",
            )


def published_names(documents: Iterable[Document]) -> dict[str, frozenset[str]]:
    """The attributes and capacities that the slices' devices have, by domain."""
    found: dict[str, set[str]] = {}
    for document in documents:
        spec = document.data.get("spec")
        if document.kind != "ResourceSlice" or not isinstance(spec, Mapping):
            continue
        driver = str(spec.get("driver", ""))
        for name in _names(spec.get("devices")):
            domain, slash, ident = name.rpartition("/")
            found.setdefault(domain if slash else driver, set()).add(ident)
    return {domain: frozenset(names) for domain, names in found.items()}


def _names(devices: object) -> set[str]:
    names: set[str] = set()
    for device in devices if isinstance(devices, list) else ():
        if not isinstance(device, Mapping):
            continue
        body = device.get("basic", device)
        for section in ("attributes", "capacity"):
            held = body.get(section) if isinstance(body, Mapping) else None
            if isinstance(held, Mapping):
                names.update(held)
    return names


def _drivers_by_node(documents: Iterable[Document]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for document in documents:
        spec = document.data.get("spec")
        if document.kind == "ResourceSlice" and isinstance(spec, Mapping):
            node = spec.get("nodeName")
            if isinstance(node, str) and spec.get("devices"):
                found.setdefault(node, set()).add(str(spec.get("driver", "")))
    return found
