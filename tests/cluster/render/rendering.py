"""Manifests for tests, as text, and what is rendered from them."""

from pathlib import Path
from typing import Any

from relume.cluster.render import Options, Rendering, render

Table = dict[str, Any]


def service(predictor: str = "", model: str = "", annotations: str = "") -> str:
    """An InferenceService `chat`; the arguments are YAML in flow style, without braces."""
    more_model = f", {model}" if model else ""
    more = f", {predictor}" if predictor else ""
    return (
        "{apiVersion: serving.kserve.io/v1beta1, kind: InferenceService,\n"
        f" metadata: {{name: chat, annotations: {{{annotations}}}}},\n"
        " spec: {predictor: {model: {modelFormat: {name: vLLM},\n"
        f"  storageUri: 'hf://a/b'{more_model}}}{more}}}}}}}\n"
    )


def limits(resource: str, count: str = "1") -> str:
    return f"resources: {{limits: {{{resource}: {count}}}}}"


GPU = limits("deviceclass.resource.kubernetes.io/llm-gpu-24g")


def broker(spec: str = "", annotations: str = "") -> str:
    return (
        "{apiVersion: eventing.knative.dev/v1, kind: Broker, "
        f"metadata: {{name: b, annotations: {{{annotations}}}}}, spec: {{{spec}}}}}\n"
    )


def trigger(spec: str = "", annotations: str = "") -> str:
    more = f", {spec}" if spec else ""
    return (
        "{apiVersion: eventing.knative.dev/v1, kind: Trigger, "
        f"metadata: {{name: t, annotations: {{{annotations}}}}}, spec: {{broker: b, subscriber: "
        "{ref: {apiVersion: serving.kserve.io/v1beta1, kind: InferenceService, name: chat}}"
        f"{more}}}}}\n"
    )


def render_text(folder: Path, *manifests: str, options: Options | None = None) -> Rendering:
    """The rendering of a file with these documents."""
    file = folder / "m.yaml"
    file.write_text("---\n".join(manifests))
    return render([file], options or Options())


def find(rendering: Rendering, kind: str, name: str = "") -> Table:
    """The one document of that kind (and name)."""
    (found,) = (
        document
        for documents in rendering.documents.values()
        for document in documents
        if document["kind"] == kind and (not name or document["metadata"]["name"] == name)  # type: ignore[index,call-overload]
    )
    return found


def value_of(rendering: Rendering, kind: str, path: str) -> Any:
    """What was decided for a field, with the rule that decided."""
    (found,) = (
        decision
        for decision in rendering.decisions
        if decision.document.startswith(f"{kind}/") and decision.path == path
    )
    return found.value, found.rule
