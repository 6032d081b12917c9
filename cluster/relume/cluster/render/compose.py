"""The whole rendering: services, Brokers and Triggers, then their files."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from relume.base.errors import InvalidInput
from relume.base.vocabulary import KSERVE_V1ALPHA1, JsonValue
from relume.cluster.render import rules
from relume.cluster.render.budget import budget_of
from relume.cluster.render.draft import Book, Draft, Rendering
from relume.cluster.render.eventing import (
    Subscriber,
    add_addressable,
    class_of,
    render_broker,
    render_trigger,
)
from relume.cluster.render.flows import render_flows
from relume.cluster.render.folder import activator_text, settings_texts, yaml_text
from relume.cluster.render.guards import MONITORING, add_guards, add_monitoring
from relume.cluster.render.options import Images, Options
from relume.cluster.render.originals import BASE, Original, originals
from relume.cluster.render.runtimes import Runtime
from relume.cluster.render.service import render_service
from relume.config import Plan
from relume.config.loader import load_plan
from relume.config.references import ResourceKey
from relume.config.yaml_source import plain

_KUSTOMIZE = "kustomize.config.k8s.io"


def compose(paths: Sequence[Path], options: Options) -> Rendering:
    """See `relume.cluster.render.render`."""
    plan = load_plan(paths)
    known = {(o.kind, o.namespace, o.name): o for o in originals(paths)}
    book = Book()
    _services(plan, known, options, book)
    _eventing(plan, known, options, book)
    documents: dict[str, list[dict[str, JsonValue]]] = {}
    for draft in book.drafts:
        documents.setdefault(draft.file, []).append(draft.body)
    for folder, kind in ((BASE, "Kustomization"), (MONITORING, "Component")):
        documents |= _kustomization(folder, kind, documents, book)
    files = {name: yaml_text(documents[name]) for name in sorted(documents)}
    files |= settings_texts(book.settings)
    longest = _longest_timeout_s(book)
    if longest is not None:
        files["cluster/activator.yaml"] = activator_text(longest)
    book.decide_settings(longest)
    return Rendering(
        documents={name: tuple(documents[name]) for name in sorted(documents)},
        files=dict(sorted(files.items())),
        notes=tuple(book.notes),
        decisions=tuple(book.decisions),
    )


def _services(plan: Plan, known: dict[ResourceKey, Original], options: Options, book: Book) -> None:
    used: dict[str, Runtime] = {}
    for service in plan.services:
        original = known["InferenceService", service.namespace, service.name]
        runtime = render_service(service, original, options, book)
        if runtime is not None:
            used[runtime.name] = runtime
        add_guards(original, options.route, book)
        add_monitoring(original, options.route, book)
    _check_images(used, options.images)
    for name in sorted(used):
        _add_runtime(used[name], options, book)


def _check_images(used: Iterable[str], images: Images) -> None:
    """Refuse one image for several runtimes: an image runs on one kind of device."""
    left = sorted(name for name in used if name not in images.by_runtime)
    if images.every is not None and len(left) > 1:
        raise InvalidInput(
            f"--image {images.every}: for which runtime? Used are {' and '.join(left)}: "
            "write --image RUNTIME=IMAGE",
            reason="ambiguous-image",
        )


def _add_runtime(runtime: Runtime, options: Options, book: Book) -> None:
    name, image = runtime.name, options.images.image_of(runtime.name)
    made = runtime.manifest(image)
    file = f"{BASE}/runtimes.yaml"
    draft = book.begin(file, KSERVE_V1ALPHA1, "ClusterServingRuntime", name, rules.RUNTIME)
    draft.set(("spec",), made["spec"], rules.RUNTIME)
    path = ("spec", "containers", 0, "image")
    draft.set(path, draft.get(*path), rules.IMAGE if image else rules.PLACEHOLDER)
    if image is None:
        missing = f"ClusterServingRuntime {name} has no image yet"
        book.note(None, f"{missing}: --image {name}=REPOSITORY@sha256:…")


def _eventing(plan: Plan, known: dict[ResourceKey, Original], options: Options, book: Book) -> None:
    brokers = {(broker.namespace, broker.name): broker for broker in plan.brokers}
    for broker in plan.brokers:
        render_broker(broker, known["Broker", broker.namespace, broker.name], options.broker, book)
    subscribers: dict[ResourceKey, Subscriber] = {}
    for service in plan.services:
        key = ("InferenceService", service.namespace, service.name)
        budget = budget_of(service, known[key], options.cold_start_s)
        subscribers[key] = Subscriber(service, budget)
    subscribed = False
    for trigger in plan.triggers:
        broker = brokers[trigger.namespace, trigger.broker]
        delivery = known["Broker", broker.namespace, broker.name].node("spec", "delivery")
        ref = trigger.subscriber.ref
        subscriber = subscribers.get((ref.kind, ref.namespace, ref.name)) if ref else None
        subscribed = subscribed or subscriber is not None
        render_trigger(
            trigger,
            known["Trigger", trigger.namespace, trigger.name],
            broker,
            None if delivery is None else plain(delivery),
            subscriber,
            class_of(broker, options.broker),
            book,
        )
    if render_flows(plan, known, subscribers, book) or subscribed:
        add_addressable(book)


def _kustomization(
    folder: str, kind: str, documents: Iterable[str], book: Book
) -> dict[str, list[dict[str, JsonValue]]]:
    inside = [file for file in sorted(documents) if file.startswith(f"{folder}/")]
    if not inside:
        return {}
    version = f"{_KUSTOMIZE}/{'v1beta1' if kind == 'Kustomization' else 'v1alpha1'}"
    body: dict[str, JsonValue] = {"apiVersion": version, "kind": kind}
    draft = Draft(f"{folder}/kustomization.yaml", body, book.decisions)
    names: list[JsonValue] = [file.removeprefix(f"{folder}/") for file in inside]
    draft.set(("resources",), names, rules.KUSTOMIZE)
    return {draft.file: [body]}


def _longest_timeout_s(book: Book) -> int | None:
    """The longest request, where it is longer than a cluster allows as it is shipped."""
    key = "max-revision-timeout-seconds"
    return next((int(setting.value) for setting in book.settings if setting.key == key), None)
