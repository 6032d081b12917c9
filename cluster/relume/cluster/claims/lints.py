"""What is likely a mistake in claims, classes and inventories, whatever an allocation says.

lint(documents)        documents of `relume.cluster.claims.documents.read`
lint_nodes(nodes)      the same for `relume.config.yaml_source.documents`
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from relume.cluster.claims.claim import Ask, claim_of
from relume.cluster.claims.classes import Classes, DeviceClass, Selector, device_class
from relume.cluster.claims.documents import Document, Field, of_nodes
from relume.cluster.claims.driver_lints import driver_lints
from relume.cluster.claims.expression_lints import (
    Guards,
    Mistake,
    Published,
    mistakes,
    unknown_attribute,
)
from relume.cluster.claims.findings import Found, found
from relume.cluster.claims.memory_lints import memory_lints
from relume.cluster.claims.presets import IMPLICIT_PREFIX, LONGEST_NAME
from relume.cluster.claims.workloads import CLAIM_KINDS
from relume.cluster.claims.yaml_files import FieldPath
from relume.cluster.reasons import Severity
from relume.config.nodes import Node

# Resources that device plugins offer, and the DRA driver of the same hardware.
_PLUGINS: Mapping[str, str] = {
    "nvidia.com/": "gpu.nvidia.com",
    "amd.com/": "gpu.amd.com",
    "gpu.intel.com/": "gpu.intel.com",
    "google.com/tpu": "tpu.google.com",
}


def lint(documents: Iterable[Document]) -> list[Found]:
    """Every finding, with its document.

    Raises InvalidManifest for a claim, class or slice that is wrong.
    """
    read = list(documents)
    own = [(d, device_class(d)) for d in read if d.kind == "DeviceClass"]
    classes = Classes.of(one for _, one in own)
    names = _published_names(read)
    findings = [finding for one in own for finding in _class(*one, names)]
    findings += _one_resource_twice(own)
    for document in read:
        if document.kind in CLAIM_KINDS:
            findings += _claim(document, classes, names)
        findings += _long_resource(document)
    findings += _served_twice(read)
    findings += driver_lints(read, [one for _, one in own])
    findings += memory_lints(read)
    return findings


def lint_nodes(nodes: Iterable[Node]) -> list[Found]:
    """`lint` for documents that were read with their places."""
    return lint(of_nodes(nodes))


def _class(document: Document, one: DeviceClass, names: Published) -> Iterator[Found]:
    yield from _selectors(document, one.selectors, Guards(), names)
    if len(one.name) > LONGEST_NAME:
        yield found(
            document,
            ("metadata", "name"),
            "class-name-too-long",
            "warning",
            f"{len(one.name)} characters, so that {IMPLICIT_PREFIX}NAME is no resource name",
            f"use at most {LONGEST_NAME}, or set spec.extendedResourceName",
        )


def _claim(document: Document, classes: Classes, names: Published) -> Iterator[Found]:
    claim = claim_of(document)
    for request in claim.requests:
        for ask in request.asks:
            yield from _selectors(document, ask.selectors, _guards_of(ask, classes), names)
    inside = ("spec", "spec") if document.kind == "ResourceClaimTemplate" else ("spec",)
    for number, constraint in enumerate(claim.constraints):
        wrong = unknown_attribute(constraint.attribute, names)
        if wrong is not None:
            path = (*inside, "devices", "constraints", number, constraint.kind)
            yield _finding(wrong, document, path)


def _guards_of(ask: Ask, classes: Classes) -> Guards:
    """What the class of an ask has tested before the ask's own selectors come."""
    guards = Guards()
    known = classes.by_name.get(ask.class_name)
    for selector in known.selectors if known else ():
        guards.add(selector.expression)
    return guards


def _selectors(
    document: Document, selectors: Iterable[Selector], guards: Guards, names: Published
) -> Iterator[Found]:
    for selector in selectors:
        assert selector.field is not None
        for mistake in mistakes(selector.expression, guards, names):
            yield _finding(mistake, document, selector.field.path)


def _finding(mistake: Mistake, document: Document, path: FieldPath) -> Found:
    gravity: Severity = "error" if mistake.fatal else "warning"
    return found(document, path, mistake.reason, gravity, mistake.message, mistake.fix)


def _one_resource_twice(classes: Iterable[tuple[Document, DeviceClass]]) -> Iterator[Found]:
    first: dict[str, str] = {}
    for document, one in classes:
        resource = one.extended_resource
        if resource is None:
            continue
        other = first.setdefault(resource, one.name)
        if other != one.name:
            yield found(
                document,
                ("spec", "extendedResourceName"),
                "extended-resource-twice",
                "error",
                f"DeviceClass {other} serves {resource} too, and only the newer of both counts",
                "give one of them another name",
            )


def _long_resource(document: Document) -> Iterator[Found]:
    """Implicit resource names in `limits` that no API server accepts."""
    for path, name in _resources(document.data, ()):
        part = name.removeprefix(IMPLICIT_PREFIX)
        if part != name and len(part) > LONGEST_NAME:
            yield found(
                document,
                path,
                "class-name-too-long",
                "error",
                f"{part} has {len(part)} characters, and a resource name at most {LONGEST_NAME}",
                "rename the class, or give it an extendedResourceName",
            )


def _resources(value: object, path: FieldPath) -> Iterator[tuple[FieldPath, str]]:
    """The names under every `limits` and `requests` of a workload, with their places."""
    if isinstance(value, Mapping):
        for name, below in value.items():
            here = (*path, str(name))
            if name in ("limits", "requests") and isinstance(below, Mapping):
                yield from (((*here, str(key)), str(key)) for key in below)
            elif name != "devices":
                yield from _resources(below, here)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for i, below in enumerate(value):
            yield from _resources(below, (*path, i))


def _served_twice(documents: Sequence[Document]) -> Iterator[Found]:
    """Nodes on which a device plugin and a DRA driver both hand out the same hardware."""
    drivers: dict[str, set[str]] = {}
    for spec in _slice_specs(documents):
        node = spec.get("nodeName")
        if isinstance(node, str) and spec.get("devices"):
            drivers.setdefault(node, set()).add(str(spec.get("driver", "")))
    for document in documents:
        if document.kind != "Node":
            continue
        allocatable = Field.root(document).get("status", "allocatable")
        for resource, amount in allocatable.entries():
            driver = next((d for p, d in _PLUGINS.items() if resource.startswith(p)), None)
            if driver not in drivers.get(document.name, ()) or not amount.quantity():
                continue
            yield found(
                document,
                ("status", "allocatable", resource),
                "served-twice",
                "error",
                f"a device plugin offers {amount.value} {resource} of node {document.name}, and "
                f"{driver} publishes its devices there too: a device can be given out twice",
                "turn the device plugin off on this node, or the DRA driver",
            )


def _published_names(documents: Iterable[Document]) -> Published:
    """The attributes and capacities that the slices' devices have, by domain."""
    published: dict[str, set[str]] = {}
    for spec in _slice_specs(documents):
        devices = spec.get("devices")
        driver = str(spec.get("driver", ""))
        for device in devices if isinstance(devices, list) else ():
            body = device.get("basic", device) if isinstance(device, Mapping) else None
            for section in ("attributes", "capacity"):
                held = body.get(section) if isinstance(body, Mapping) else None
                for name in held if isinstance(held, Mapping) else ():
                    domain, slash, ident = str(name).rpartition("/")
                    published.setdefault(domain if slash else driver, set()).add(ident)
    return {domain: frozenset(names) for domain, names in published.items()}


def _slice_specs(documents: Iterable[Document]) -> Iterator[Mapping[str, object]]:
    for document in documents:
        spec = document.data.get("spec")
        if document.kind == "ResourceSlice" and isinstance(spec, Mapping):
            yield spec
