"""Manifests for the tests: small ones with room for one more line, and how to load them."""

from pathlib import Path
from textwrap import indent

import pytest

from relume.base.errors import InvalidManifest
from relume.config import Plan, load
from relume.config.here import NOTHING, Machine
from relume.config.loader import load_plan

HERE = "# <-"  # marks the line that an error must name


def service(predictor: str = "", model: str = "", metadata: str = "", spec: str = "") -> str:
    """An InferenceService with lines added to its predictor, model, metadata and spec."""
    return f"""\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: m
{indent(metadata, "  ")}
spec:
{indent(spec, "  ")}
  predictor:
{indent(predictor, "    ")}
    model:
      modelFormat: {{name: vLLM}}
      storageUri: hf://org/model
{indent(model, "      ")}
"""


def annotated(**annotations: str) -> str:
    """An InferenceService with autoscaling annotations; _ in a name stands for -."""
    lines = [
        f"  autoscaling.knative.dev/{name.replace('_', '-')}: {value}  {HERE}"
        for name, value in annotations.items()
    ]
    return service(metadata="annotations:\n" + "\n".join(lines))


def broker(spec: str = "", name: str = "b", metadata: str = "") -> str:
    """A Broker with lines added to its spec."""
    body = f"spec:\n{indent(spec, '  ')}\n" if spec else ""
    return f"""\
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata:
  name: {name}
{indent(metadata, "  ")}
{body}"""


def trigger(spec: str = "", subscriber: str = "uri: http://127.0.0.1:9/", of: str = "b") -> str:
    """A Trigger with lines added to its spec."""
    return f"""\
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata:
  name: t
spec:
  broker: {of}
  subscriber:
{indent(subscriber, "    ")}
{indent(spec, "  ")}
"""


def together(*documents: str) -> str:
    """Several documents of one file."""
    return "---\n".join(documents)


def read_text(folder: Path, text: str, machine: Machine = NOTHING) -> Plan:
    """Read `text` from a file in `folder`, without a judgement of what this machine can do."""
    file = folder / "m.yaml"
    file.write_text(text, encoding="utf-8")
    return load_plan([file], machine)


def load_text(folder: Path, text: str) -> Plan:
    """Load `text` from a file in `folder`."""
    file = folder / "m.yaml"
    file.write_text(text, encoding="utf-8")
    return load([file])


def refused(folder: Path, text: str, field: str, message: str = "") -> InvalidManifest:
    """Load `text`, which must be refused for `field` at the line marked HERE, with `message`."""
    with pytest.raises(InvalidManifest) as caught:
        load_text(folder, text)
    error = caught.value
    lines = [number for number, line in enumerate(text.splitlines(), 1) if HERE in line]
    assert (error.field, error.file) == (field, folder / "m.yaml"), str(error)
    if lines:
        assert error.line in lines, str(error)
    assert message in str(error)
    assert str(error).startswith(f"{error.file}:{error.line}: {field}: ")
    assert "\n" not in str(error)
    assert (error.exit_code, error.reason, error.retryable) == (2, "invalid-manifest", False)
    return error


def flow(kind: str, spec: str, api: str = "flows.knative.dev/v1", metadata: str = "") -> str:
    """A Sequence, Parallel or another kind with a whole spec; its name is f."""
    return f"""\
apiVersion: {api}
kind: {kind}
metadata:
  name: f
{indent(metadata, "  ")}
spec:
{indent(spec, "  ")}
"""


def source(kind: str, spec: str) -> str:
    """A PingSource or SinkBinding with a whole spec; its name is f."""
    return flow(kind, spec, "sources.knative.dev/v1")
