"""What the planes of the trial run: services of each kind of start, a function, and a Broker."""

import textwrap
from pathlib import Path

import yaml

SAMPLE = Path(__file__).parents[2] / "config" / "samples" / "summarize.yaml"
#: The services of each kind: one can be killed while the one before goes back to zero.
KINDS = {
    "process": ("fresh-1", "fresh-2", "fresh-3"),
    "template": ("warm-1", "warm-2", "warm-3"),
    "engine": ("loaded",),
}
FUNCTION = "slow"

_BROKERS = """
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {{name: asked}}
---
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {{name: dead}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: answers}}
spec:
  broker: asked
  filters:
  - any:
    - prefix: {{type: relume.inference.}}
    - exact: {{type: done}}
  subscriber: {{uri: {sink}}}
"""
_TRIGGER = """
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: {name}}}
spec:
  broker: asked
  filters: [{{exact: {{type: com.example.{name}.request}}}}]
  subscriber: {{ref: {{apiVersion: {api}, kind: {kind}, name: {name}}}, uri: {path}}}
  delivery:
    timeout: PT310S
    retry: 8
    backoffPolicy: linear
    backoffDelay: PT0.5S
    deadLetterSink: {{ref: {{apiVersion: eventing.knative.dev/v1, kind: Broker, name: dead}}}}
"""
_FUNCTION = """
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {{name: slow}}
spec:
  template:
    metadata: {{annotations: {{autoscaling.knative.dev/max-scale: "1"}}}}
    spec:
      containerConcurrency: 8
      containers:
      - image: dev.local/slow
        env: [{{name: GATE, value: {gate}}}]
"""
# It answers once the gate is open.
CODE = """
import asyncio
from pathlib import Path


def new():
    return Function()


class Function:
    def start(self, environment):
        self.gate = Path(environment["GATE"])

    def ready(self):
        return True, "ready"

    async def handle(self, scope, receive, send):
        event = scope["event"]
        while not self.gate.exists():
            await asyncio.sleep(0.01)
        headers = {
            "content-type": "application/json",
            "ce-specversion": "1.0",
            "ce-id": f"reply-{event.get_id()}",
            "ce-type": "done",
            "ce-source": "/slow",
            "ce-causationid": event.get_id(),
        }
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        raw.append((b"content-length", b"2"))
        await send.http({"type": "http.response.start", "status": 200, "headers": raw})
        await send.http({"type": "http.response.body", "body": b"{}"})
"""


def write(folder: Path, sink: str, kinds: tuple[str, ...], gate: Path) -> Path:
    """Write the manifests of a plane with services of these kinds, and return the file."""
    documents = list(yaml.safe_load_all(_BROKERS.format(sink=sink)))
    for kind in kinds:
        for name in KINDS.get(kind, ()):
            documents.append(_service(name, kind))
            api, path = "serving.kserve.io/v1beta1", "/v1/chat/completions"
            documents.append(_trigger(name, api, "InferenceService", path))
    if FUNCTION in kinds:
        documents.append(yaml.safe_load(_FUNCTION.format(gate=gate)))
        documents.append(_trigger(FUNCTION, "serving.knative.dev/v1", "Service", "/"))
    file = folder / f"{'-'.join(kinds)}.yaml"
    file.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    return file


def write_code(folder: Path) -> None:
    """Write the code of the function into its folder."""
    (folder / "function" / "__init__.py").write_text(textwrap.dedent(CODE), encoding="utf-8")


def _service(name: str, zero: str) -> object:
    document = next(yaml.safe_load_all(SAMPLE.read_text(encoding="utf-8")))
    document["metadata"]["name"] = name
    annotations = document["metadata"]["annotations"]
    annotations["relume.dev/zero"] = zero
    annotations["autoscaling.knative.dev/window"] = "6s"  # the shortest that Knative takes
    return document


def _trigger(name: str, api: str, kind: str, path: str) -> object:
    return yaml.safe_load(_TRIGGER.format(name=name, api=api, kind=kind, path=path))
