"""Documents of kinds that are not run: listed where no answer changes, else judged apart."""

from pathlib import Path

import pytest

from relume.base.errors import InvalidInput
from relume.config import load
from relume.config.loader import load_plan

from .manifests import load_text, service, together, trigger

BESIDE = (
    *("Namespace", "ServiceAccount", "PersistentVolume", "Service"),
    *("PersistentVolumeClaim", "ClusterServingRuntime", "Role", "ResourceClaimTemplate"),
)


def other(kind: str, name: str = "x") -> str:
    return f"apiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}}}\n"


@pytest.mark.parametrize("kind", BESIDE)
def test_a_document_that_changes_no_answer_is_listed_and_the_service_runs(
    tmp_path: Path, kind: str
) -> None:
    plan = load_text(tmp_path, together(other(kind), service()))
    assert [s.name for s in plan.services] == ["m"]
    assert [(o.kind, o.name, o.namespace) for o in plan.others] == [(kind, "x", "default")]
    (note,) = plan.not_honoured
    assert (note.line, note.field, note.kind, note.name) == (2, "kind", kind, "x")


def test_a_file_with_nothing_to_run_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"m\.yaml: nothing in there runs by itself"):
        load_text(tmp_path, other("Secret"))


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (together(service(), other("Deployment")), "kind"),
        (service("containers: [{image: a}]"), "spec.predictor.containers"),
        (service("workerSpec: {}"), "spec.predictor.workerSpec"),
        (service(spec="transformer: {}"), "spec.transformer"),
        (service(model="protocolVersion: grpc-v2"), "spec.predictor.model.protocolVersion"),
        (service().replace("hf://org/model", "pvc://a/b"), "spec.predictor.model.storageUri"),
        (service().replace("vLLM", "sklearn"), "spec.predictor.model.modelFormat.name"),
        (service(model="args: [--port=1]"), "spec.predictor.model.args[0]"),
        (service(model="args: ['--seed=1{{.Labels}}']"), "spec.predictor.model.args[0]"),
        (trigger(), "spec.broker"),
    ],
)
def test_what_only_this_machine_refuses_is_read_and_judged_apart(
    tmp_path: Path, text: str, field: str
) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(text, encoding="utf-8")
    plan = load_plan([file])
    assert [wrong.origin.field for wrong in plan.cannot_run] == [field]
    assert len(plan.services) + len(plan.triggers) == 1, "what was written is read all the same"
    with pytest.raises(InvalidInput, match=field.replace("[", r"\[")):
        load([file])


def test_two_groups_may_have_a_document_of_the_same_kind_and_name(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(together(other("Service"), other("Service"), service()), encoding="utf-8")
    assert len(load_plan([file]).others) == 2


def test_a_predictor_that_is_no_model_is_read_without_one(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    text = service("containers: [{image: a}]")
    file.write_text(text[: text.index("    model:")], encoding="utf-8")
    plan = load_plan([file])
    assert (plan.services[0].storage_uri, plan.services[0].model_format) == ("", "")
    assert len(plan.cannot_run) == 1


def test_a_subscriber_of_another_kind_is_read_with_its_version(tmp_path: Path) -> None:
    ref = "ref: {apiVersion: batch/v1, kind: Job, name: s}"
    file = tmp_path / "m.yaml"
    file.write_text(trigger(subscriber=ref), encoding="utf-8")
    plan = load_plan([file])
    found = plan.triggers[0].subscriber.ref
    assert found is not None
    assert (found.kind, found.api_version) == ("Job", "batch/v1")
    assert [w.origin.field for w in plan.cannot_run] == ["spec.broker", "spec.subscriber.ref.kind"]
