"""An InferenceService for a cluster: the user's document and what only a cluster needs."""

from dataclasses import dataclass

from relume.base.errors import InvalidManifest
from relume.base.vocabulary import (
    DEPLOYMENT_MODE,
    DEVICE_MEMORY_MIB,
    EXPECT_DEVICES,
    INITIAL_SCALE,
    PROGRESS_DEADLINE,
    STANDARD_MODES,
)
from relume.cluster.admission.judge import content
from relume.cluster.render import rules
from relume.cluster.render.arguments import translate_arguments
from relume.cluster.render.budget import SHIPPED_MAX_TIMEOUT_S, Budget, budget_of
from relume.cluster.render.components import in_front_s, render_fronts
from relume.cluster.render.devices import DeviceRequest, Devices, read_devices
from relume.cluster.render.draft import Book, Draft, Setting
from relume.cluster.render.engine_cache import mount_engine_cache
from relume.cluster.render.options import Images, Options
from relume.cluster.render.originals import (
    ANNOTATIONS,
    MODEL,
    PREDICTOR,
    Original,
    annotated,
    with_model,
)
from relume.cluster.render.passing import why_it_passes
from relume.cluster.render.podspec import check_annotations, check_fields
from relume.cluster.render.reading import annotations_of, check_admitted, read_service
from relume.cluster.render.routes import take_route
from relume.cluster.render.runtimes import Runtime, runtime_for, runtime_named
from relume.config import InferenceService
from relume.config.head import service_name
from relume.config.nodes import Node
from relume.config.waiting import NAMES
from relume.config.yaml_source import plain

_ARCHITECTURE = "kubernetes.io/arch"
_DEPLOYMENT_PROGRESS_S = 600  # apps/v1 Deployment, progressDeadlineSeconds


@dataclass(frozen=True, slots=True)
class RenderedService:
    """A service that Relume arranges: its values, its times, and the runtime that it needs of ours.

    `in_front_s` is how long a request may take in its transformer or explainer, if it has one.
    """

    service: InferenceService
    budget: Budget
    in_front_s: int
    runtime: Runtime | None


def render_service(written: Original, options: Options, book: Book) -> RenderedService | None:
    """Put the InferenceService and its claim into `book`; None for one that passes as it is."""
    check_admitted(written.table, book)
    original = with_model(written)
    unfit = why_it_passes(original)
    if unfit is None:
        _check_storage(original)
        unfit = _check_mode(original, options, book)
    if unfit is not None:
        node, why = unfit
        book.adopt(written.file, written.body())
        book.note(node, f"the service passes as it is, without Relume's runtime: {why}")
        return None
    draft = book.adopt(written.file, written.body())
    if written is not original:
        draft.remove((*PREDICTOR, "huggingface"), rules.HUGGINGFACE)
        draft.set(MODEL, plain(original.at(*MODEL)), rules.HUGGINGFACE)
    return _arrange(draft, read_service(original), original, options, book)


def _arrange(
    draft: Draft, service: InferenceService, original: Original, options: Options, book: Book
) -> RenderedService:
    standard = options.route == "standard"
    devices = read_devices(original)
    runtime = _choose_runtime(service, original, devices)
    _check_one_image(runtime, devices, options.images, book)
    budget = budget_of(service, original, options.cold_start_s)
    _set_mode(draft, original, "Standard" if standard else "Knative", book)
    if runtime is not None and draft.get(*MODEL, "runtime") is None:
        asked = runtime.vendor or "no device"
        reason = f"the limits ask for {asked}; {rules.RUNTIME_BY_DEVICE.why}"
        draft.set((*MODEL, "runtime"), runtime.name, rules.RUNTIME_BY_DEVICE, reason)
    if runtime is not None:
        _own_resources(draft, runtime)
        translate_arguments(draft, original, book)
    _time(draft, service, budget, standard=standard)
    render_fronts(draft, original, budget, book, knative=not standard)
    if standard:
        _keep_one(draft, original, book)
        _tell_deadline(original, budget, book)
    else:
        _ask_knative(draft, service, original, devices, budget, book)
    _environment(draft, devices, budget, standard=standard)
    mount_engine_cache(draft, original, book, knative=not standard)
    for name in NAMES:
        if (node := original.node(*ANNOTATIONS, name)) is not None:
            book.note(node, "a cluster does not read it: relume up does")
    if runtime is not None:
        _tell_architecture(original, runtime, book)
    take_route(draft, original, devices, options.route, book)
    return RenderedService(service, budget, in_front_s(original, budget), runtime)


def _check_mode(original: Original, options: Options, book: Book) -> tuple[Node, str] | None:
    """Refuse what cannot work in the mode of the chosen route.

    A service that asks for Standard mode itself passes as it is, where only Knative refuses it.
    """
    mode = "Standard" if options.route == "standard" else "Knative"
    own = original.node(*ANNOTATIONS, DEPLOYMENT_MODE)
    try:
        _try_mode(original, mode, Book())
    except InvalidManifest as error:
        if mode == "Standard" or content(own) not in STANDARD_MODES:
            raise
        assert own is not None
        why = str(error).removeprefix(f"{error.file}:{error.line}: ")
        return own, f"it stays in Standard mode, because of {why}"
    _try_mode(original, mode, book)
    return None


def _try_mode(original: Original, mode: str, book: Book) -> None:
    service_name(original.at("metadata", "name"))
    table = annotated(original.table, DEPLOYMENT_MODE, mode)
    if mode == "Standard":
        _check_standard(original)
    else:
        check_fields(original, book)
        check_annotations(annotations_of(original), original.table.file)
    check_admitted(table, book)


def _set_mode(draft: Draft, original: Original, mode: str, book: Book) -> None:
    own = draft.get(*ANNOTATIONS, DEPLOYMENT_MODE)
    if own == mode:
        return
    if own in STANDARD_MODES:
        book.note(
            original.at(*ANNOTATIONS, DEPLOYMENT_MODE),
            f"becomes {mode}: write --dra standard to keep it",
        )
    draft.set((*ANNOTATIONS, DEPLOYMENT_MODE), mode, rules.ROUTE)


def _check_storage(original: Original) -> None:
    node = original.node(*MODEL, "storageUri")
    uri = content(node)
    if node is not None and uri and ("://" not in uri or uri.startswith("file://")):
        raise node.wrong("cannot work on a cluster: a folder of this machine is not there")


def _check_standard(original: Original) -> None:
    """In Standard mode KServe scales by CPU or memory: a target alone is a share of the CPU."""
    if content(original.node(*PREDICTOR, "scaleMetric")) in ("cpu", "memory"):
        return
    for name in ("scaleTarget", "scaleMetric"):
        if (node := original.node(*PREDICTOR, name)) is not None:
            raise node.wrong(
                "cannot work in Standard mode, where KServe scales by CPU or memory: remove it, "
                "or write another --dra"
            )


def _choose_runtime(
    service: InferenceService, original: Original, devices: Devices
) -> Runtime | None:
    """Our runtime for what was asked; None where the user's own runtime serves."""
    node = original.node(*MODEL, "runtime")
    claims = original.node(*PREDICTOR, "resourceClaims")
    nameless = next((r for r in devices.requests if r.vendor is None), None)
    if service.runtime is not None and node is not None:
        named = runtime_named(service.runtime)
        if named is None:
            return None
        if claims is None:
            _check_vendor(named, node, devices, nameless)
        return named
    if claims is not None and not devices.requests:
        raise claims.wrong(
            "Relume cannot tell which vendor's device your own claim asks for: name the runtime in "
            "spec.predictor.model.runtime"
        )
    if nameless is not None and devices.vendor is None:
        raise nameless.node.wrong(
            f"{nameless.device_class} does not ship with Relume, which cannot tell whose device "
            "it is: name the runtime in spec.predictor.model.runtime"
        )
    chosen = runtime_for(devices.vendor if devices.requests else None)
    if chosen is None:
        raise devices.requests[0].node.wrong(
            f"no runtime of ours runs on {devices.vendor} devices: name yours in "
            "spec.predictor.model.runtime"
        )
    return chosen


def _check_one_image(runtime: Runtime | None, devices: Devices, images: Images, book: Book) -> None:
    """Refuse alternatives of several vendors where each has an image of its own.

    A pod's image is written before its claim is allocated (KEP-4816 chooses the alternative later),
    so one image must run on whatever it gets: that of a runtime of the user's own, or one image
    that is given for the runtimes of all these vendors.
    """
    vendors, node = devices.vendors, devices.fallbacks_node
    if len(vendors) < 2 or node is None:
        return
    listed = " and ".join(vendors)
    if runtime is None:
        book.note(node, f"the one image of your runtime must run on the devices of {listed}")
        return
    ours = [(vendor, runtime_for(vendor)) for vendor in vendors]
    chosen = {images.image_of(one.name) if one is not None else None for _, one in ours}
    if len(chosen) == 1 and None not in chosen:
        book.note(node, f"{chosen.pop()} runs on the devices of {listed}, as --image says")
        return
    each = ", ".join(f"{one.name if one else 'none of ours'} for {name}" for name, one in ours)
    raise node.wrong(
        f"alternatives of {listed} in one pod need different images ({each}), and Kubernetes "
        "has no field for an image that depends on the alternative chosen. Write one "
        "InferenceService for each vendor, of which each gets its own runtime and image, with a "
        "Trigger for each; or give --image for all these runtimes one image that runs on all of "
        "them; or name a runtime of your own with such an image in spec.predictor.model.runtime"
    )


def _check_vendor(
    runtime: Runtime, node: Node, devices: Devices, nameless: DeviceRequest | None
) -> None:
    if runtime.vendor is not None and not devices.requests:
        raise node.wrong(
            f"{runtime.name} runs on {runtime.vendor} devices, and model.resources.limits ask for "
            "none"
        )
    if devices.requests and runtime.vendor is None:
        raise node.wrong(f"{runtime.name} runs on the CPU, and model.resources.limits ask for more")
    if nameless is None and devices.vendor not in (None, runtime.vendor):
        raise node.wrong(f"{runtime.name} runs on {runtime.vendor}, not {devices.vendor} devices")


def _own_resources(draft: Draft, runtime: Runtime) -> None:
    """Fill in CPU and memory, each from its other half: KServe's defaults fill single gaps."""
    table = (*MODEL, "resources")
    for name, default in (("cpu", runtime.cpu), ("memory", runtime.memory)):
        request = draft.get(*table, "requests", name)
        limit = draft.get(*table, "limits", name)
        if request is None:
            draft.set((*table, "requests", name), limit or default, rules.OWN_RESOURCES)
        if limit is None:
            draft.set((*table, "limits", name), request or default, rules.OWN_RESOURCES)


def _time(draft: Draft, service: InferenceService, budget: Budget, *, standard: bool) -> None:
    reason = f"{budget.cold_start_s} s for a cold start + {budget.answer_s} s for the answer"
    if draft.get(*PREDICTOR, "timeout") != budget.timeout_s:
        draft.set((*PREDICTOR, "timeout"), budget.timeout_s, rules.COLD_START, reason)
    if standard:
        if draft.get(*PREDICTOR, "terminationGracePeriodSeconds") is None:
            path = (*PREDICTOR, "terminationGracePeriodSeconds")
            draft.set(path, budget.answer_s, rules.GRACE)
        return
    # The predictor's annotations win over the service's.
    inner = (*PREDICTOR, "annotations", PROGRESS_DEADLINE)
    outer = (*ANNOTATIONS, PROGRESS_DEADLINE)
    written = any(draft.get(*path) is not None for path in (inner, outer))
    if int(service.progress_deadline_s) != budget.progress_s or not written:
        reason = f"a revision may take {budget.cold_start_s} s to start; Knative's default is 600 s"
        draft.set(
            outer if draft.get(*inner) is None else inner,
            f"{budget.progress_s}s",
            rules.COLD_START,
            reason,
        )


def _keep_one(draft: Draft, original: Original, book: Book) -> None:
    if draft.get(*PREDICTOR, "minReplicas") == 0:
        draft.set((*PREDICTOR, "minReplicas"), 1, rules.NO_ZERO)
        node = original.at(*PREDICTOR, "minReplicas")
        book.note(node, "one replica stays: Standard mode has no zero that holds requests")
    if (given := original.node(*PREDICTOR, "containerConcurrency")) is not None:
        book.note(given, "has no effect in Standard mode: vLLM queues what --max-num-seqs exceeds")


def _tell_architecture(original: Original, runtime: Runtime, book: Book) -> None:
    """A digest may name the image of one architecture, and not an index of several."""
    chosen = original.node(*PREDICTOR, "nodeSelector", _ARCHITECTURE)
    if chosen is not None and content(chosen) != "amd64":
        book.note(
            chosen,
            f"the image of {runtime.name} must be for {content(chosen)}: give the digest of an "
            "index that has it, or of that image itself",
        )


def _tell_deadline(original: Original, budget: Budget, book: Book) -> None:
    if budget.cold_start_s >= _DEPLOYMENT_PROGRESS_S:
        node = original.at("metadata", "name")
        book.note(
            node,
            f"its Deployment is reported as failed after {_DEPLOYMENT_PROGRESS_S} s, for which "
            "KServe has no field; it goes on starting all the same",
        )


def _ask_knative(
    draft: Draft,
    service: InferenceService,
    original: Original,
    devices: Devices,
    budget: Budget,
    book: Book,
) -> None:
    """What must be set for the whole cluster, so that this service works."""
    who = f"InferenceService {service.namespace}/{service.name}"
    if budget.timeout_s > SHIPPED_MAX_TIMEOUT_S:
        longest = str(budget.timeout_s)
        why = f"{who} has a timeout of {longest} s; Knative refuses more than this"
        key = "max-revision-timeout-seconds"
        book.need(Setting("config-defaults", key, longest, why))
    if not devices.requests:
        return
    why = (
        f"{who} may wait for a device or a node; without this its revision fails as soon as its "
        "pod cannot be scheduled"
    )
    book.need(Setting("config-deployment", "pod-is-always-schedulable", "true", why))
    if service.min_replicas == 0 and INITIAL_SCALE not in service.annotations:
        draft.set((*ANNOTATIONS, INITIAL_SCALE), "0", rules.NO_DEVICE_AT_REST)
        why = f"{who} starts at zero; without this KServe drops its {INITIAL_SCALE} annotation"
        key = "allow-zero-initial-scale"
        book.need(Setting("config-autoscaler", key, "true", why))


def _environment(draft: Draft, devices: Devices, budget: Budget, *, standard: bool) -> None:
    grace = budget.answer_s if standard else budget.timeout_s
    variables = (*MODEL, "env")
    draft.put(variables, {"name": "RELUME_GRACE_S", "value": str(grace)}, rules.GRACE)
    if devices.requests:
        expected = {"name": EXPECT_DEVICES, "value": str(devices.least)}
        draft.put(variables, {**expected}, rules.EXPECT_DEVICES)
    if devices.share is not None and devices.share.memory_mib is not None:
        bound = {"name": DEVICE_MEMORY_MIB, "value": str(devices.share.memory_mib)}
        reason = "what the server takes of its device: --gpu-memory-utilization is made of it"
        draft.put(variables, {**bound}, rules.SHARED_DEVICE, reason)
