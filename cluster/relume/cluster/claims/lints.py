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
from relume.cluster.claims.findings import Found, found
from relume.cluster.claims.inventory_lints import published_names, served_twice
from relume.cluster.claims.presets import IMPLICIT_PREFIX, LONGEST_NAME
from relume.cluster.claims.workloads import claim_of
from relume.cluster.reasons import Severity
from relume.config.nodes import Node

_CLAIMS = ("ResourceClaim", "ResourceClaimTemplate")


def lint(documents: Iterable[Document]) -> list[Found]:
    """Every finding, with its document.

    Raises InvalidManifest for a claim, class or slice that is wrong.
    """
    read = list(documents)
    own = [(d, device_class(d)) for d in read if d.kind == "DeviceClass"]
    classes = Classes.of(one for _, one in own)
    names = published_names(read)
    findings: list[Found] = []
    for document, one in own:
        findings += _class(document, one, names)
    findings += _one_resource_twice([found_class for _, found_class in own], [d for d, _ in own])
    for document in read:
        if document.kind in _CLAIMS:
            findings += _claim(document, classes, names)
        findings += _long_resource(document)
    findings += served_twice(read)
    return findings


def lint_nodes(nodes: Iterable[Node]) -> list[Found]:
    """`lint` for documents that were read with their places."""
    return lint(sources.of_nodes(nodes))


def _class(
    document: Document, one: DeviceClass, names: Mapping[str, frozenset[str]]
) -> Iterator[Found]:
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


def _claim(
    document: Document, classes: Classes, names: Mapping[str, frozenset[str]]
) -> Iterator[Found]:
    claim = claim_of(document)
    for request in claim.requests:
        for ask in request.asks:
            yield from _selectors(document, ask.selectors, _guards_of(ask, classes), names)
    inside = ("spec", "spec") if document.kind == "ResourceClaimTemplate" else ("spec",)
    for number, constraint in enumerate(claim.constraints):
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
) -> Iterator[Found]:
    for selector in selectors:
        assert selector.field is not None
        for mistake in mistakes(selector.expression, guards, names):
            yield _finding(mistake, document, selector.field.path)


def _finding(mistake: Mistake, document: Document, path: sources.Steps) -> Found:
    gravity: Severity = "error" if mistake.fatal else "warning"
    return found(document, path, mistake.reason, gravity, mistake.message, mistake.fix)


def _one_resource_twice(
    classes: Sequence[DeviceClass], documents: Sequence[Document]
) -> Iterator[Found]:
    first: dict[str, str] = {}
    for one, document in zip(classes, documents, strict=True):
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
    for path, name in _keys(document.data, ()):
        if not name.startswith(IMPLICIT_PREFIX):
            continue
        part = name.removeprefix(IMPLICIT_PREFIX)
        if len(part) > LONGEST_NAME:
            yield found(
                document,
                path,
                "class-name-too-long",
                "error",
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
