"""Functions for a cluster: the Knative Service that `func deploy` makes of each folder.

The Triggers of `deploy.subscriptions` are rendered with all others.
"""

import os
from collections.abc import Sequence

from relume.base.vocabulary import KNATIVE_SERVING_V1
from relume.cluster.render import rules
from relume.cluster.render.draft import LABELS, Book
from relume.cluster.render.originals import BASE, Original
from relume.config import Function
from relume.config.func_yaml import read_function
from relume.config.function_documents import service_document
from relume.config.head import read_head
from relume.config.here import ResourceKey
from relume.config.knative_service import configured, read_knative_service
from relume.config.yaml_source import documents

_IMAGE = ("spec", "template", "spec", "containers", 0, "image")


def functions_of(read: Sequence[Original]) -> dict[ResourceKey, Function]:
    """The functions whose func.yaml is among the files, as their Knative Services configure them.

    Raises InvalidManifest for a Knative Service that is of no use to its function.
    """
    files = dict.fromkeys(original.table.file for original in read if original.of_function)
    functions: dict[ResourceKey, Function] = {}
    for file in files:
        for document in documents(file):
            _, function = read_function(document, os.environ)
            functions["Service", function.namespace, function.name] = function
    for original in read:
        if original.key in functions and not original.of_function:
            settings = read_knative_service(read_head(original.table))
            functions[original.key] = configured(functions[original.key], settings)
    return functions


def render_function(function: Function, book: Book) -> None:
    """The Knative Service of a function, as its func.yaml and its own Knative Service say it."""
    document = service_document(function)
    file = f"{BASE}/{function.namespace}/function-{function.name}.yaml"
    draft = book.begin(
        file,
        KNATIVE_SERVING_V1,
        "Service",
        function.name,
        rules.FUNCTION,
        namespace=function.namespace,
    )
    metadata = document["metadata"]
    assert isinstance(metadata, dict)
    labels = metadata.pop("labels")
    assert isinstance(labels, dict)
    draft.set(("metadata", "labels"), {**LABELS, **labels}, rules.FUNCTION)
    if (annotations := metadata.get("annotations")) is not None:
        draft.set(("metadata", "annotations"), annotations, rules.FUNCTION)
    draft.set(("spec",), document["spec"], rules.FUNCTION)
    if function.image is None:
        draft.set(_IMAGE, draft.get(*_IMAGE), rules.FUNCTION_IMAGE)
        book.note(
            None,
            f"function {function.namespace}/{function.name} has no image yet: write image or "
            "registry into its func.yaml, and build it with func build --push",
        )
