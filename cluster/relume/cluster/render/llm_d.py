"""A service as a pool of llm-d: its pool, its objective, its route, and the picker's file.

The fields are those of gateway-api-inference-extension 84436a96 (InferencePool v1), Gateway API v1
and llm-d-router ebab6879 (InferenceObjective v1alpha2, EndpointPickerConfig). The picker itself
comes with the router's own chart, whose names are used here: its Service is NAME-epp, and its pods
have the label llm-d-router-gateway.

In Knative mode the pool sends requests to the queue-proxy of a pod, not to the predictor. Else the
autoscaler would not see them, and take the pod away while it answers. Metrics are read at the
predictor, so that no reading counts as a request.
"""

from dataclasses import dataclass

from relume.base.errors import InvalidInput
from relume.base.vocabulary import SERVICE_LABEL, JsonValue
from relume.cluster.admission.judge import content
from relume.cluster.render import rules
from relume.cluster.render.components import FRONTS
from relume.cluster.render.draft import Book, Draft
from relume.cluster.render.folder import HEAD, yaml_text
from relume.cluster.render.guards import COMPONENT_LABEL, picker_name
from relume.cluster.render.options import LlmDOptions, Options
from relume.cluster.render.originals import PREDICTOR, Original
from relume.cluster.render.runtimes import PORT
from relume.cluster.render.service import RenderedService
from relume.config import Ref
from relume.config.llm_d import (
    INFERENCE_GROUP,
    OBJECTIVE_API,
    PICKER_PORT,
    POOL_API,
    picker_config,
)

ROUTE_API = "gateway.networking.k8s.io/v1"
QUEUE_PORT = 8012


@dataclass(frozen=True, slots=True)
class Pool:
    """The picker's configuration of one pool: a file beside the base, and its text."""

    file: str
    text: str


def render_pool(
    original: Original, rendered: RenderedService, options: Options, book: Book
) -> Pool | None:
    """Put the pool of one service into `book`; None for one whose predictor is not its door."""
    assert options.llm_d is not None
    for front in FRONTS:
        if (node := original.node("spec", front)) is not None:
            book.note(node, "has no pool: llm-d would go past this to the predictor")
            return None
    knative = options.route != "standard"
    if knative and rendered.service.min_replicas == 0:
        book.note(
            original.at(*PREDICTOR, "minReplicas"),
            "its pool is empty at zero, and the router then answers 503 and wakes nothing; a "
            "request to the service's own address does: write minReplicas: 1 where all comes "
            "through the pool",
        )
    _add_pool(original, knative, book)
    _begin(
        original,
        OBJECTIVE_API,
        "InferenceObjective",
        original.name,
        _objective(original.name),
        book,
    )
    _add_route(original, rendered.budget.timeout_s, options.llm_d, book)
    config = picker_config(metrics_port=PORT if knative else None)
    file = f"llm-d/{original.namespace}/{original.name}.yaml"
    why = "the default scorers of llm-d, on the metrics that the predictor has"
    book.decide(file, f"EndpointPickerConfig/{original.name}", "", config, rules.POOL, why)
    return Pool(file, _HEAD + yaml_text([config], head=""))


def deliver_to_pool(draft: Draft, ref: Ref, original: Original, options: Options) -> None:
    """Let a Trigger whose subscriber is a pool post to the pool's route.

    Knative finds the address of a subscriber in its status, and a pool has none there. Raises
    InvalidManifest where nobody has said how the gateway is reached.
    """
    url = None if options.llm_d is None else options.llm_d.url
    if url is None:
        raise original.at("spec", "subscriber", "ref", "kind").wrong(
            "Knative finds no address of an InferencePool: add --llm-d and --llm-d-url URL, the "
            "address of the gateway in front of it, or write that in subscriber.uri"
        )
    path = content(original.node("spec", "subscriber", "uri")) or "/"
    uri = f"{url}/{ref.namespace}/{ref.name}/{path.removeprefix('/')}"
    draft.set(("spec", "subscriber"), {"uri": uri}, rules.POOL, "a pool has no address of its own")


def none_found() -> InvalidInput:
    """No service of the files can have a pool."""
    return InvalidInput(
        "--llm-d: there is no InferenceService in these files that can be a pool: name one whose "
        "model has the format vLLM or huggingface, and no transformer or explainer",
        reason="nothing-to-pool",
    )


_HEAD = f"""{HEAD}\
# The configuration of the endpoint picker, for the router's own chart (llm-d-router-gateway):
#   helm install NAME … --set router.epp.pluginsConfigFile=relume.yaml \\
#     --set-file router.epp.pluginsCustomConfig.relume\\\\.yaml=THIS FILE
"""


def _begin(
    original: Original,
    api: str,
    kind: str,
    name: str,
    spec: dict[str, JsonValue],
    book: Book,
    **reasons: str,
) -> None:
    book.begin(
        original.file,
        api,
        kind,
        name,
        rules.POOL,
        spec,
        reasons,
        namespace=original.written_namespace,
    )


def _add_pool(original: Original, knative: bool, book: Book) -> None:
    name = original.name
    spec: dict[str, JsonValue] = {
        "selector": {"matchLabels": {SERVICE_LABEL: name, COMPONENT_LABEL: "predictor"}},
        "targetPorts": [{"number": QUEUE_PORT if knative else PORT}],
        "appProtocol": "http",
        "endpointPickerRef": {
            "name": picker_name(name),
            "port": {"number": PICKER_PORT},
            "failureMode": "FailClose",
        },
    }
    why = "the queue-proxy of a pod: what goes past it is not counted, and a pod that is in use"
    reasons = {"targetPorts": f"{why} would be taken away"} if knative else {}
    _begin(original, POOL_API, "InferencePool", name, spec, book, **reasons)


def _objective(name: str) -> dict[str, JsonValue]:
    """Priority 0 is that of a request without an objective: the user raises or lowers it."""
    pool: JsonValue = {"group": INFERENCE_GROUP, "kind": "InferencePool", "name": name}
    return {"priority": 0, "poolRef": pool}


def _add_route(original: Original, timeout_s: int, options: LlmDOptions, book: Book) -> None:
    """`/NAMESPACE/NAME/…` of the gateway leads to the pool, as KServe's LLMInferenceService has it.

    KServe has routes of its own under the name of the service, so this one has another name. The
    pool's path is cut off, so that `/v1/chat/completions` arrives at the predictor.
    """
    namespace, _, gateway = options.gateway.partition("/")
    rule: dict[str, JsonValue] = {
        "matches": [
            {"path": {"type": "PathPrefix", "value": f"/{original.namespace}/{original.name}"}}
        ],
        "filters": [
            {
                "type": "URLRewrite",
                "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}},
            }
        ],
        "backendRefs": [{"group": INFERENCE_GROUP, "kind": "InferencePool", "name": original.name}],
        "timeouts": {"request": f"{timeout_s}s"},
    }
    spec: dict[str, JsonValue] = {
        "parentRefs": [
            {
                "group": "gateway.networking.k8s.io",
                "kind": "Gateway",
                "name": gateway,
                "namespace": namespace,
            }
        ],
        "rules": [rule],
    }
    why = "the gateway must not give up before the service does"
    _begin(original, ROUTE_API, "HTTPRoute", f"{original.name}-pool", spec, book, rules=why)
