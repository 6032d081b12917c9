"""The Pods that a document makes: their specs, and the claims that others add to them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from relume.base.vocabulary import (
    CLAIM_TEMPLATE,
    DEPLOYMENT_MODE,
    DEVICE_MEMORY_MIB,
    MANAGED_DRA,
    SHARED_CLAIM,
    STANDARD_MODES,
)
from relume.cluster.claims.claim import Ask, Claim, ClaimRequest
from relume.cluster.claims.classes import Selector
from relume.cluster.claims.documents import Document, Field

CLAIM_KINDS = ("ResourceClaim", "ResourceClaimTemplate")
COMPONENTS = ("predictor", "transformer", "explainer")
_POD_MAKERS = {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"}
#: The flags of vLLM and SGLang for a share of a device's memory.
_MEMORY_FLAGS = ("--gpu-memory-utilization", "--mem-fraction-static")
MANAGED_CLASS = f"{MANAGED_DRA}device-class"
_LLM_PODS = (("template",), ("worker",), ("prefill", "template"), ("prefill", "worker"))


@dataclass(frozen=True, slots=True)
class Server:
    """What a server takes of its device's memory, where it says so: a share, or MiB."""

    share: float | None = None
    mebibytes: int | None = None


UNSAID = Server()


@dataclass(frozen=True, slots=True)
class PodSpec:
    """One Pod spec. `honoured`: its `resourceClaims` reach the Pod.

    `added` are the names of claims that an admission policy adds, by kind; `claims` those that a
    controller makes for the Pod.
    """

    title: str
    spec: Field
    honoured: bool = True
    added: Mapping[str, Field] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()


def pods(document: Document) -> Iterator[PodSpec]:
    """Each Pod spec of a document."""
    root = Field.root(document)
    title = document.title
    if document.kind == "Pod":
        yield PodSpec(title, root.get("spec"))
    elif document.kind in _POD_MAKERS and document.group in ("apps", "batch"):
        yield PodSpec(title, root.get("spec", "template", "spec"))
    elif document.kind == "CronJob":
        yield PodSpec(title, root.get("spec", "jobTemplate", "spec", "template", "spec"))
    elif document.kind == "Service" and document.group == "serving.knative.dev":
        yield PodSpec(title, root.get("spec", "template", "spec"), honoured=False)
    elif document.kind == "InferenceService":
        yield from _of_service(title, root)
    elif document.kind == "LLMInferenceService":
        yield from _of_llm_service(title, root)


def containers(pod: Field) -> list[Field]:
    """The containers in order; the model of a KServe predictor is one of them."""
    models = [
        one
        for _, one in pod.entries()
        if isinstance(one.value, Mapping) and "resources" in one.value
    ]
    return [*models, *pod.get("containers").items()]


def server_of(pod: Field) -> Server:
    """What the arguments and the environment of the first container that says so tell."""
    found = (_server(container) for container in containers(pod))
    return next((one for one in found if one != UNSAID), UNSAID)


def _of_service(title: str, root: Field) -> Iterator[PodSpec]:
    notes = root.get("metadata", "annotations")
    standard = notes.get(DEPLOYMENT_MODE).value in STANDARD_MODES
    for component in COMPONENTS:
        pod = root.get("spec", component)
        if pod.there:
            added = _added(notes) if component == "predictor" and not standard else {}
            yield PodSpec(f"{title} {component}", pod, standard, added)


def _added(annotations: Field) -> dict[str, Field]:
    """The claims that a policy of `relume render` adds, by their kind."""
    written = zip(CLAIM_KINDS, (SHARED_CLAIM, CLAIM_TEMPLATE), strict=True)
    found = {kind: annotations.get(name) for kind, name in written}
    return {kind: one for kind, one in found.items() if one.there}


def _of_llm_service(title: str, root: Field) -> Iterator[PodSpec]:
    """Its workloads; without a template KServe's own has no devices but those of managed DRA."""
    managed = _managed(root.get("metadata", "annotations"))
    for path in _LLM_PODS:
        pod = root.get("spec", *path)
        if pod.there or (path == ("template",) and managed):
            yield PodSpec(f"{title} {'.'.join(path)}", pod, claims=managed)


def _managed(annotations: Field) -> tuple[Claim, ...]:
    """The claim that KServe makes for each Pod by the annotations of managed DRA."""
    name = annotations.get(MANAGED_CLASS)
    if not name.there:
        return ()
    written = annotations.get(f"{MANAGED_DRA}cel-selector")
    selectors = tuple(
        Selector(line.strip(), f"annotation cel-selector line {number}", written)
        for number, line in enumerate(written.text().splitlines(), 1)
        if line.strip()
    )
    count = annotations.get(f"{MANAGED_DRA}device-count").text("1").strip()
    number = int(count) if count.isdecimal() and len(count) < 4 else 1
    ask = Ask("gpus", name.text().strip(), selectors, count=max(1, number))
    return (Claim("managed-device", (ClaimRequest("gpus", (ask,)),)),)


def _server(container: Field) -> Server:
    words = [str(one.value) for name in ("command", "args") for one in container.get(name).items()]
    share: float | None = None
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") in _MEMORY_FLAGS:
            share = _number(value if equals else "".join(words[place + 1 : place + 2]))
    given = container.get("env").items()
    named = (one for one in given if one.get("name").value == DEVICE_MEMORY_MIB)
    mebibytes = next((_number(str(one.get("value").value)) for one in named), None)
    return Server(share, None if mebibytes is None else int(mebibytes))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
