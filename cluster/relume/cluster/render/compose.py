"""The whole rendering: services, Brokers and Triggers, then their files."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from relume.base.errors import InvalidInput
from relume.base.vocabulary import KSERVE_V1ALPHA1, KUSTOMIZE_GROUP, JsonValue
from relume.cluster.render import rules
from relume.cluster.render.budget import budget_of_function
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
from relume.cluster.render.functions import functions_of, render_function
from relume.cluster.render.gateway import ServedService, render_gateway, served_service
from relume.cluster.render.gateway_door import Door
from relume.cluster.render.guards import MONITORING, add_guards, add_monitoring
from relume.cluster.render.llm import KIND as LLM_SERVICE
from relume.cluster.render.llm import pass_llm
from relume.cluster.render.llm_d import deliver_to_pool, none_found, render_pool
from relume.cluster.render.nats_values import FILE as NATS_VALUES
from relume.cluster.render.nats_values import nats_values
from relume.cluster.render.options import Images, Options
from relume.cluster.render.originals import BASE, CLUSTER_WIDE, Original, originals
from relume.cluster.render.reading import (
    check_admitted,
    check_unique,
    read_broker,
    read_trigger,
)
from relume.cluster.render.runtimes import Runtime
from relume.cluster.render.service import RenderedService, render_service
from relume.config import Broker, Trigger
from relume.config.here import ResourceKey
from relume.config.llm_d import POOL_KIND
from relume.config.loader import nothing_to_read
from relume.config.yaml_source import plain


def compose(paths: Sequence[Path], options: Options) -> Rendering:
    """See `relume.cluster.render.render`."""
    read = originals(paths)
    if not read:
        raise nothing_to_read(paths)
    check_unique(read)
    book = Book(one.key for one in read)
    services, functions = _services(read, options, book), functions_of(read)
    served = _served(read, services, options, book)
    pools = _pools(read, services, options, book)
    door = Door(options, served)
    for function in functions.values():
        render_function(function, book)
    subscribers = {
        **{key: Subscriber(s.service, s.budget, s.in_front_s) for key, s in services.items()},
        **{key: Subscriber(f, budget_of_function(f)) for key, f in functions.items()},
    }
    _eventing(read, subscribers, options, door, book)
    if options.gateway is not None:
        render_gateway(tuple(served.values()), read, door.turned, door.broker_url, options, book)
    for original in read:
        if original.kind == LLM_SERVICE:
            pass_llm(original, options.images, book)
        elif not (original.changed or original.key in functions):
            book.adopt(original.file, original.body())
    documents: dict[str, list[dict[str, JsonValue]]] = {}
    for draft in book.drafts:
        documents.setdefault(draft.file, []).append(draft.body)
    for folder, kind in ((BASE, "Kustomization"), (MONITORING, "Component")):
        documents |= _kustomization(folder, kind, documents, book)
    files = {name: yaml_text(documents[name]) for name in sorted(documents)}
    files |= settings_texts(book.settings)
    files |= pools
    if options.gateway is not None:
        files[NATS_VALUES] = nats_values(book)
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


def _services(
    read: Sequence[Original], options: Options, book: Book
) -> dict[ResourceKey, RenderedService]:
    """Put every service into `book`; return those that Relume arranges."""
    rendered: dict[ResourceKey, RenderedService] = {}
    for original in _of_kind(read, "InferenceService"):
        one = render_service(original, options, book)
        if one is None:
            continue
        rendered[original.kind, original.namespace, original.name] = one
        add_guards(original, options, book)
        add_monitoring(original, options.route, book)
    used = {one.runtime.name: one.runtime for one in rendered.values() if one.runtime is not None}
    _check_images(used, options.images)
    for name in sorted(used):
        _add_runtime(used[name], options, book)
    return rendered


def _served(
    read: Sequence[Original],
    services: Mapping[ResourceKey, RenderedService],
    options: Options,
    book: Book,
) -> dict[tuple[str, str], ServedService]:
    """The services that the jobs gateway serves, by namespace and name. Raises InvalidInput."""
    if options.gateway is None:
        return {}
    arranged = [one for one in _of_kind(read, "InferenceService") if one.key in services]
    found = [served_service(one, book) for one in arranged]
    served = {(one.namespace, one.name): one for one in found if one is not None}
    if not served:
        raise InvalidInput(
            "--gateway: there is no InferenceService in these files that the jobs gateway can "
            "serve: name one whose model has the format vLLM or huggingface",
            reason="nothing-to-serve",
        )
    return served


def _pools(
    read: Sequence[Original],
    services: Mapping[ResourceKey, RenderedService],
    options: Options,
    book: Book,
) -> dict[str, str]:
    """Make each service a pool of llm-d; returns the pickers' files. Raises InvalidInput."""
    if options.llm_d is None:
        return {}
    named = [(one, services[one.key]) for one in read if one.key in services]
    ours = [(one, rendered) for one, rendered in named if rendered.runtime is not None]
    made = [render_pool(one, rendered, options, book) for one, rendered in ours]
    found = {pool.file: pool.text for pool in made if pool is not None}
    if not found:
        raise none_found()
    return found


def _of_kind(read: Sequence[Original], kind: str) -> list[Original]:
    return [one for one in read if one.changed and one.kind == kind]


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


def _eventing(
    read: Sequence[Original],
    subscribers: Mapping[ResourceKey, Subscriber],
    options: Options,
    door: Door,
    book: Book,
) -> None:
    brokers: dict[tuple[str, str], tuple[Broker, Original]] = {}
    for original in _of_kind(read, "Broker"):
        check_admitted(original.table, book)
        broker = read_broker(original)
        brokers[original.namespace, original.name] = broker, original
        render_broker(broker, original, options.broker, book)
    subscribed = False
    for original in _of_kind(read, "Trigger"):
        check_admitted(original.table, book)
        one = read_trigger(original)
        where = one.broker_namespace, one.trigger.broker
        broker, its = brokers.get(where, (Broker(*where), None))
        if its is None:
            book.note(
                original.at("spec", "broker"),
                f"no Broker {'/'.join(where)} is in these files: the cluster must have it",
            )
        delivery = None if its is None else its.node("spec", "delivery")
        subscriber = _subscriber(one.trigger, original, read, subscribers, book)
        ref = one.trigger.subscriber.ref
        turned = len(door.turned)
        draft = render_trigger(
            one.trigger,
            original,
            broker,
            None if delivery is None else plain(delivery),
            subscriber,
            class_of(broker, options.broker),
            door,
            book,
        )
        if ref is not None and ref.kind == POOL_KIND:
            deliver_to_pool(draft, ref, original, options)
        to_service = ref is not None and ref.kind == "InferenceService"
        subscribed = subscribed or (to_service and len(door.turned) == turned)
    if render_flows(read, subscribers, book) or subscribed:
        add_addressable(book)


def _subscriber(
    trigger: Trigger,
    original: Original,
    read: Sequence[Original],
    subscribers: Mapping[ResourceKey, Subscriber],
    book: Book,
) -> Subscriber | None:
    """The service behind a Trigger, None where Relume arranges neither a model nor a function."""
    ref = trigger.subscriber.ref
    if ref is None:
        return None
    # A pool has the name of its service, and answers in its time.
    kind = "InferenceService" if ref.kind == POOL_KIND else ref.kind
    key = (kind, ref.namespace, ref.name)
    if key in subscribers:
        return subscribers[key]
    if key not in {one.key for one in read}:
        book.note(
            original.at("spec", "subscriber", "ref", "name"),
            f"no {kind} {ref.namespace}/{ref.name} is in these files: the cluster must have "
            "it, and delivery.timeout must be longer than its answers take",
        )
    return None


def _kustomization(
    folder: str, kind: str, documents: Iterable[str], book: Book
) -> dict[str, list[dict[str, JsonValue]]]:
    inside = [file for file in sorted(documents) if file.startswith(f"{folder}/")]
    if not inside:
        return {}
    version = f"{KUSTOMIZE_GROUP}/{'v1beta1' if kind == 'Kustomization' else 'v1alpha1'}"
    body: dict[str, JsonValue] = {"apiVersion": version, "kind": kind}
    draft = Draft(f"{folder}/kustomization.yaml", body, book.decisions)
    inside.sort(key=lambda file: file != CLUSTER_WIDE)  # namespaces before what is in them
    names: list[JsonValue] = [file.removeprefix(f"{folder}/") for file in inside]
    draft.set(("resources",), names, rules.KUSTOMIZE)
    return {draft.file: [body]}


def _longest_timeout_s(book: Book) -> int | None:
    """The longest request, where it is longer than a cluster allows as it is shipped."""
    key = "max-revision-timeout-seconds"
    return next((int(setting.value) for setting in book.settings if setting.key == key), None)
