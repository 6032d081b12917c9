"""Look-ups among the documents that were read: services, models, devices, subscribers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from relume.base.vocabulary import FUNCTION_COLD_START_S, FUNCTION_LABEL
from relume.cluster.admission.judge import child, content, entries, fields, number
from relume.cluster.admission.kserve import OLD_FORMATS, containers_of, mode
from relume.config.head import DEFAULT_NAMESPACE
from relume.config.nodes import Node, Table

NumberedDocuments = Sequence[tuple[int, Table]]
#: The name of the jobs gateway's Deployment and Service.
GATEWAY = "relume-gateway"
_PLAIN = ("cpu", "memory", "ephemeral-storage", "storage", "hugepages-")


@dataclass(frozen=True, slots=True)
class ModelService:
    """An InferenceService or a Knative Service: something that must start before it answers."""

    number: int
    document: Table
    spec: Table  # the predictor, or the revision's spec
    knative: bool  # scaled by Knative, which holds requests while a replica starts
    kserve: bool
    annotations: Mapping[str, Node]

    def cold_start_s(self, of_a_model: float) -> float:
        """How long it starts: a function pulls its image and loads no model."""
        labels = child(self.document, "metadata", "labels")
        function = FUNCTION_LABEL in fields(labels)
        return min(of_a_model, FUNCTION_COLD_START_S) if function else of_a_model

    @property
    def timeout(self) -> Node | None:
        """Where the time for a request is written."""
        return self.spec.get("timeout" if self.kserve else "timeoutSeconds")

    def timeout_s(self, default: float) -> float:
        """The time for a request in seconds."""
        return float(number(self.timeout) or default)

    @property
    def devices(self) -> Iterator[tuple[str, Node]]:
        """The extended resources that its containers ask for."""
        containers = list(containers_of(self.spec))
        for container in containers:
            limits = fields(fields(container).get("resources")).get("limits")
            for name, node in fields(limits).items():
                if "/" in name and not name.startswith(_PLAIN) and content(node) != "0":
                    yield name, node


def models(documents: NumberedDocuments) -> dict[tuple[str, str, str], ModelService]:
    """Every model of `documents` by kind, namespace and name."""
    found = {}
    for number_, document in documents:
        kind, group = content(document.get("kind")), content(document.get("apiVersion"))
        own = dict(fields(child(document, "metadata", "annotations")))
        if kind == "InferenceService":
            spec = child(document, "spec", "predictor")
            annotations = own | dict(fields(child(spec, "annotations")))
            knative, kserve = mode(document) == "Knative", True
        elif kind == "Service" and group.startswith("serving.knative.dev/"):
            spec = child(document, "spec", "template", "spec")
            annotations = dict(
                fields(child(document, "spec", "template", "metadata", "annotations"))
            )
            knative, kserve = True, False
        else:
            continue
        if isinstance(spec, Table):
            model = ModelService(number_, document, spec, knative, kserve, annotations)
            found[key(document)] = model
    return found


def named(documents: NumberedDocuments, kind: str) -> dict[tuple[str, str, str], tuple[int, Table]]:
    """The documents of one kind by kind, namespace and name."""
    return {
        key(document): (number_, document)
        for number_, document in documents
        if content(document.get("kind")) == kind
    }


def key(document: Table) -> tuple[str, str, str]:
    """Kind, namespace and name of a document."""
    namespace, name = (content(child(document, "metadata", n)) for n in ("namespace", "name"))
    return content(document.get("kind")), namespace or DEFAULT_NAMESPACE, name


def subscriber(trigger: Table) -> tuple[str, str, str] | None:
    """Kind, namespace and name of what a Trigger's subscriber refers to."""
    reference = child(trigger, "spec", "subscriber", "ref")
    if reference is None:
        return None
    namespace = content(child(reference, "namespace")) or key(trigger)[1]
    return content(child(reference, "kind")), namespace, content(child(reference, "name"))


def answering(trigger: Table) -> tuple[str, str, str] | None:
    """Like `subscriber`, but the service that answers where the jobs gateway stands before it."""
    asked = subscriber(trigger)
    uri = content(child(trigger, "spec", "subscriber", "uri"))
    _, door, namespace, name, *_ = [*uri.partition("?")[0].split("/"), "", "", "", ""]
    if asked is not None and asked[::2] == ("Service", GATEWAY) and door == "events" and name:
        return "InferenceService", namespace, name
    return asked


def model_formats(documents: NumberedDocuments) -> set[str]:
    """The formats that runtimes among `documents` support."""
    return {
        content(child(one, "name"))
        for kind in ("ServingRuntime", "ClusterServingRuntime")
        for _, runtime in named(documents, kind).values()
        for one in entries(child(runtime, "spec", "supportedModelFormats"))
    }


def model_of(predictor: Table) -> Node | None:
    """The model's table of a predictor."""
    return next(
        (fields(predictor)[n] for n in ("model", *OLD_FORMATS) if n in fields(predictor)), None
    )
