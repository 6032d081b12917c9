"""KServe's LLMInferenceService: it passes, with the image of our runtime where its template allows.

KServe lays the service's own template over that of a LLMInferenceServiceConfig, container by
container: an image that is set here takes the place of KServe's, and its command (`vllm serve`),
ports, probes and certificates stay (kserve config/llmisvcconfig). So the server is vLLM's own, of
our image; the routes for events need our launcher, and with it a template of the user's own.
"""

from relume.cluster.admission.judge import child, content, entries, fields
from relume.cluster.claims.pods import MANAGED_CLASS
from relume.cluster.claims.presets import IMPLICIT_PREFIX
from relume.cluster.render import rules
from relume.cluster.render.devices import RESOURCE_VENDORS, vendor_of
from relume.cluster.render.draft import Book
from relume.cluster.render.options import Images
from relume.cluster.render.originals import Original
from relume.cluster.render.runtimes import runtime_for
from relume.config.nodes import Node

KIND = "LLMInferenceService"
_MAIN = "main"  # the container of the engine in KServe's templates
_OWN = ("image", "command", "args")
_TEMPLATE = ("spec", "template", "containers")


def pass_llm(original: Original, images: Images, book: Book) -> None:
    """Put the service into `book`, with our image where it names none and one was given."""
    draft = book.adopt(original.file, original.body())
    name = original.at("metadata", "name")
    vendor = _vendor(original)
    runtime = runtime_for(vendor)
    image = images.image_of(runtime.name) if runtime is not None else None
    why = _why_not(original)
    if why is not None:
        node, reason = why
        book.note(node, f"the service passes as it is, with its own image: {reason}")
        return
    if runtime is None or image is None:
        given = f"; --image {runtime.name}=… sets ours" if runtime is not None else ""
        book.note(name, f"the service passes as it is, with the image of KServe's template{given}")
        return
    found = draft.get(*_TEMPLATE)
    listed = found if isinstance(found, list) else []
    place = next(
        (n for n, one in enumerate(listed) if isinstance(one, dict) and one.get("name") == _MAIN),
        None,
    )
    if place is None:
        draft.put(_TEMPLATE, {"name": _MAIN, "image": image}, rules.IMAGE)
    else:
        draft.set((*_TEMPLATE, place, "image"), image, rules.IMAGE)
    book.note(
        name,
        f"its container {_MAIN} gets the image of {runtime.name}; the command stays KServe's, so "
        "that it answers vLLM's routes and no events",
    )


def _why_not(original: Original) -> tuple[Node, str] | None:
    """What of the service's own template leaves no room for our image."""
    worker = original.node("spec", "worker")
    if worker is not None:
        return worker, "its replicas are several pods, and Relume's runtime is one"
    for container in entries(original.node(*_TEMPLATE)):
        own = next((fields(container)[one] for one in _OWN if one in fields(container)), None)
        if content(container, "name") == _MAIN and own is not None:
            return own, "it names an image or a command of its own"
    base = original.node("spec", "baseRefs")
    if base is not None and entries(base):
        return base, "another LLMInferenceServiceConfig than KServe's may name the image"
    return None


def _vendor(original: Original) -> str | None:
    """Whose devices it asks for; None where it asks for none."""
    asked = original.node("metadata", "annotations", MANAGED_CLASS)
    if asked is not None:
        return vendor_of(content(asked).strip())
    for container in entries(original.node(*_TEMPLATE)):
        for name in fields(child(container, "resources", "limits")):
            vendor = RESOURCE_VENDORS.get(name) or vendor_of(name.removeprefix(IMPLICIT_PREFIX))
            if vendor is not None:
                return vendor
    return None
