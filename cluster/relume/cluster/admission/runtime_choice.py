"""Which runtimes may stand beside each other, and which of them KServe chooses for a model.

Source: kserve/kserve pkg/webhook/admission/servingruntime/servingruntime_webhook.go
(validateServingRuntimePriority) and pkg/apis/serving/v1beta1/predictor_model.go
(GetSupportingRuntimes). Both are the same from 0.12, the first release with the webhook, to aaac4e2
(0.20 and three weeks).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from relume.base.vocabulary import Json

CLUSTER_KIND, NAMESPACE_KIND = "ClusterServingRuntime", "ServingRuntime"
#: The order in which KServe prefers runtimes of equal priority: by their first protocol.
_PROTOCOLS = ("v1", "v2", "grpc-v1", "grpc-v2")
_ASSUMED = "v1"  # of a model that names no protocol


@dataclass(frozen=True, slots=True)
class RuntimeFormat:
    """One of a runtime's `supportedModelFormats`."""

    name: str
    version: str | None = None
    auto_select: bool = False
    priority: int | None = None


@dataclass(frozen=True, slots=True)
class RuntimeFacts:
    """What counts of a runtime where others are beside it; `namespace` is "" for the cluster's.

    `created` is an RFC 3339 time: of two that are alike KServe takes the newer one.
    """

    name: str
    formats: tuple[RuntimeFormat, ...]
    protocols: tuple[str, ...] = ()
    namespace: str = ""
    multi_node: bool = False
    multi_model: bool = False
    disabled: bool = False
    created: str = ""


def facts_of(body: Json) -> RuntimeFacts:
    """The facts of a ServingRuntime or ClusterServingRuntime. A wrong type counts as absent."""
    spec, metadata = _table(body.get("spec")), _table(body.get("metadata"))
    listed, protocols = spec.get("supportedModelFormats"), spec.get("protocolVersions")
    return RuntimeFacts(
        name=str(metadata.get("name", "")),
        namespace=(
            "" if body.get("kind") == CLUSTER_KIND else str(metadata.get("namespace") or "default")
        ),
        formats=tuple(_format(_table(one)) for one in (listed if isinstance(listed, list) else ())),
        protocols=tuple(map(str, protocols)) if isinstance(protocols, list) else (),
        multi_node=spec.get("workerSpec") is not None,
        multi_model=spec.get("multiModel") is True,
        disabled=spec.get("disabled") is True,
        created=str(metadata.get("creationTimestamp", "")),
    )


def _format(one: Json) -> RuntimeFormat:
    version, priority = one.get("version"), one.get("priority")
    return RuntimeFormat(
        name=str(one.get("name", "")),
        version=None if version is None else str(version),
        auto_select=one.get("autoSelect") is True,
        priority=priority if isinstance(priority, int) else None,
    )


def _table(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def clash(new: RuntimeFacts, there: RuntimeFacts) -> str | None:
    """What KServe's webhook says of `new` where `there` is on the cluster; None if it takes it."""
    if new.disabled or there.disabled or new.namespace != there.namespace:
        return None
    if new.name == there.name or new.multi_model != there.multi_model:
        return None
    if not set(new.protocols) & set(there.protocols):
        return None
    for one in there.formats:
        for mine in new.formats:
            if _alike(one, mine):
                where = f" in namespace {new.namespace}" if new.namespace else ""
                kinds = "servingruntimes" if new.namespace else "clusterservingruntimes"
                return (
                    f"same priority assigned for the model format {mine.name} in the {kinds} "
                    f"{there.name} and {new.name}{where}"
                )
    return None


def _alike(one: RuntimeFormat, other: RuntimeFormat) -> bool:
    return (
        one.auto_select
        and other.auto_select
        and one.name.lower() == other.name.lower()
        and one.version == other.version
        and one.priority is not None
        and one.priority == other.priority
    )


@dataclass(frozen=True, slots=True)
class ModelNeed:
    """What a predictor asks of a runtime that it does not name."""

    namespace: str
    format: str
    version: str | None = None
    protocol: str | None = None
    multi_node: bool = False


def chosen(need: ModelNeed, runtimes: Iterable[RuntimeFacts]) -> RuntimeFacts | None:
    """The runtime that KServe takes; those of the namespace come before the cluster's."""
    fitting = [one for one in runtimes if _fits(need, one)]
    for namespace in (need.namespace, ""):
        here = [one for one in fitting if one.namespace == namespace]
        if here:
            return _in_order(here, need.format)[0]
    return None


def _fits(need: ModelNeed, one: RuntimeFacts) -> bool:
    protocol = need.protocol or _ASSUMED
    return (
        not one.disabled
        and not one.multi_model
        and one.multi_node == need.multi_node
        and (not one.protocols or protocol in one.protocols)
        and any(
            f.auto_select and f.name == need.format and need.version in (None, f.version)
            for f in one.formats
        )
    )


def _in_order(runtimes: Sequence[RuntimeFacts], model_format: str) -> list[RuntimeFacts]:
    """By priority, those without one last; then by protocol, the newest first, and by name."""
    ordered = sorted(runtimes, key=lambda one: one.name)
    ordered.sort(key=lambda one: one.created, reverse=True)
    ordered.sort(key=_first_protocol)
    return sorted(ordered, key=lambda one: -(_priority(one, model_format) or 0))


def _first_protocol(one: RuntimeFacts) -> int:
    known = [_PROTOCOLS.index(name) + 1 for name in one.protocols if name in _PROTOCOLS]
    return min(known, default=len(_PROTOCOLS) + 1)


def _priority(one: RuntimeFacts, model_format: str) -> int | None:
    return next((f.priority for f in one.formats if f.name == model_format), None)


def need_of(body: Json) -> ModelNeed | None:
    """What an InferenceService asks for; None where KServe chooses no runtime for it."""
    predictor = _table(_table(body.get("spec")).get("predictor"))
    model = _table(predictor.get("model"))
    if not model or model.get("runtime"):
        return None
    asked = _table(model.get("modelFormat"))
    version = asked.get("version")
    protocol = model.get("protocolVersion")
    return ModelNeed(
        namespace=str(_table(body.get("metadata")).get("namespace") or "default"),
        format=str(asked.get("name", "")),
        version=None if version is None else str(version),
        protocol=None if protocol is None else str(protocol),
        multi_node=predictor.get("workerSpec") is not None,
    )
