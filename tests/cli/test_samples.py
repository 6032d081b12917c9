"""The samples of pipelines, with their functions: one machine runs them, a cluster takes them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from relume.cli.machine.up import command as up
from relume.cluster.doctor import examine
from relume.config import load
from relume.plane.launch import check
from relume.runtimes.models.store import ModelMissing

ROOT = Path(__file__).parents[2]
PIPELINES = {
    "tickets": (["sort"], ["redact", "prompt", "extract", "webhook-out"]),
    "documents": (["summarize", "embed"], ["split-join", "vector-store"]),
}


def files(sample: str) -> list[Path]:
    """What the README of the sample gives to `relume up`."""
    functions = PIPELINES[sample][1]
    words = f"relume up config/samples/{sample} " + " ".join(f"functions/{f}" for f in functions)
    folder = ROOT / "config" / "samples" / sample
    assert words in (folder / "README.md").read_text().splitlines()
    return [folder, *(ROOT / "functions" / name for name in functions)]


@pytest.mark.parametrize("sample", PIPELINES)
def test_this_machine_runs_every_part(sample: str) -> None:
    paths = [str(path) for path in files(sample)]
    done = CliRunner().invoke(up, ["--check", *paths, "-o", "json"], standalone_mode=False)
    assert done.exception is None and done.return_value == 0
    said = json.loads(done.output)
    assert (said["runs"], said["refused"]) == (True, [])
    fields = {(line["kind"], line["field"].rpartition(".")[2]) for line in said["not_honoured"]}
    assert fields == {
        ("InferenceService", "requests"),
        ("InferenceService", "limits"),
        ("Service", "resources"),
    }


@pytest.mark.parametrize("sample", PIPELINES)
def test_the_functions_find_their_objects_and_the_triggers_their_functions(sample: str) -> None:
    services, functions = PIPELINES[sample]
    plan = load(files(sample))
    assert [service.name for service in plan.services] == services
    assert [function.name for function in plan.functions] == functions
    refs = [trigger.subscriber.ref for trigger in plan.triggers]
    assert {ref.name for ref in refs if ref} == {*services, *functions}
    check(plan, Anything())  # type: ignore[arg-type]


class Anything:
    """A store that has every model."""

    def resolve(self, uri: str) -> Path:
        if not uri:
            raise ModelMissing("a service without a model")
        return ROOT


@pytest.mark.parametrize("sample", PIPELINES)
def test_the_doctor_finds_no_error_and_no_warning(sample: str) -> None:
    found = examine(files(sample))
    assert {diagnosis.verdict for diagnosis in found} == {"accepted"}
    findings = {(f.severity, f.reason) for diagnosis in found for f in diagnosis.findings}
    assert findings == {("info", "short-window")}
