"""Functions for a cluster: the Knative Service that `func deploy` makes of each folder.

The Triggers of `deploy.subscriptions` are rendered with all others.
"""

from relume.base.vocabulary import KNATIVE_SERVING_V1
from relume.cluster.render import rules
from relume.cluster.render.draft import LABELS, Book
from relume.cluster.render.originals import BASE
from relume.config import Function
from relume.config.function_documents import service_document

_IMAGE = ("spec", "template", "spec", "containers", 0, "image")


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
