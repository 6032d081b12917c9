"""Each field that is not the user's own has a decision that says which rule made it, and why."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from relume.base.vocabulary import DEPLOYMENT_MODE, JsonValue
from relume.cluster.render import Options, render, rules
from relume.cluster.render.draft import Draft
from relume.cluster.render.originals import originals
from relume.cluster.render.rules import RenderRule
from relume.config.loader import load_plan
from tests.cluster.render.cases import CASES, Case, rendered
from tests.cluster.render.rendering import (
    GPU,
    broker,
    find,
    render_text,
    service,
    trigger,
    value_of,
)

HEAD = ("apiVersion", "kind", "metadata.name", "metadata.namespace")
OURS = "metadata.labels.app.kubernetes.io/managed-by"


def leaves(value: JsonValue, path: str = "") -> Iterator[tuple[str, JsonValue]]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from leaves(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from leaves(item, f"{path}[{index}]")
    else:
        yield path, value


def label(document: dict[str, JsonValue]) -> str:
    return Draft("", document, []).label


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_every_field_is_the_users_or_has_a_rule(case: Case) -> None:
    rendering = rendered(case.name)
    users = {label(o.body()): dict(leaves(o.body())) for o in originals(list(case.paths))}
    for file, documents in rendering.documents.items():
        for document in documents:
            if document["kind"] in ("Kustomization", "Component"):
                continue
            name = label(document)
            decided = [d.path for d in rendering.decisions if d.document == name]
            own = users.get(name)
            for path, value in leaves(document):
                if own is not None and path in own and own[path] == value:
                    continue
                if own is None and (path in HEAD or path == OURS):
                    assert "kind" in decided
                    continue
                assert any(path == d or path.startswith((f"{d}.", f"{d}[")) for d in decided), (
                    file,
                    name,
                    path,
                )


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_nothing_of_the_users_is_gone_without_a_rule(case: Case) -> None:
    rendering = rendered(case.name)
    made = {label(d): dict(leaves(d)) for group in rendering.documents.values() for d in group}
    for original in originals(list(case.paths)):
        name = label(original.body())
        decided = {d.path for d in rendering.decisions if d.document == name}
        for path, value in leaves(original.body()):
            if made[name].get(path) != value:
                assert any(path == d or path.startswith((f"{d}.", f"{d}[")) for d in decided), path


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_each_decision_says_what_it_decided(case: Case) -> None:
    rendering = rendered(case.name)
    known = {rule.name for rule in vars(rules).values() if isinstance(rule, RenderRule)}
    assert {decision.rule for decision in rendering.decisions} <= known
    made = {label(d): d for group in rendering.documents.values() for d in group}
    for decision in rendering.decisions:
        assert decision.reason
        found = dict(leaves(made.get(decision.document, {})))
        if decision.value is None:
            assert decision.path not in found
        elif not isinstance(decision.value, dict | list) and decision.document in made:
            assert found[decision.path] == decision.value


def test_the_users_own_variables_and_fields_stay(tmp_path: Path) -> None:
    text = service(
        model=f"{GPU}, runtime: relume-vllm, env: [{{name: RELUME_EXPECT_DEVICES, value: '3'}}]",
        annotations="autoscaling.knative.dev/initial-scale: '1', team: a",
    )
    rendering = render_text(tmp_path, text)
    made = rendering.files["base/default/inferenceservice-chat.yaml"]
    assert "value: '3'" in made
    assert "initial-scale: '1'" in made
    assert "team: a" in made
    paths = [d.path for d in rendering.decisions if d.document == "InferenceService/chat"]
    assert "spec.predictor.model.runtime" not in paths
    assert "spec.predictor.model.env[1]" in paths
    assert "spec.predictor.model.env[0]" not in paths


@pytest.mark.parametrize("route", ["extended-resource", "admission"])
def test_what_is_rendered_for_knative_still_runs_on_one_machine(route: str, tmp_path: Path) -> None:
    (case,) = (case for case in CASES if case.name == f"samples-{route}")
    wanted = {"InferenceService", "Broker", "Trigger"}
    for file, documents in rendered(case.name).documents.items():
        if {document["kind"] for document in documents} & wanted:
            text = rendered(case.name).files[file].split("\n---\n")
            kept = [part for part in text if any(f"kind: {k}\n" in part for k in wanted)]
            (tmp_path / file.replace("/", "-")).write_text("\n---\n".join(kept))
    plan = load_plan([tmp_path])
    assert {s.name for s in plan.services} == {"summarize", "embed", "chat"}
    assert len(plan.triggers) == 3
    assert Options().route == "extended-resource"


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_each_setting_of_the_cluster_has_its_decision(case: Case) -> None:
    rendering = rendered(case.name)
    decided = {(d.document, d.path) for d in rendering.decisions if d.file == "cluster"}
    wanted = set()
    for file, text in rendering.files.items():
        if file.startswith("cluster/"):
            patch = yaml.safe_load(text)
            name = f"{patch['kind']}/{patch['metadata']['namespace']}/{patch['metadata']['name']}"
            paths = leaves({k: v for k, v in patch.items() if k in ("data", "spec")})
            wanted |= {(name, path) for path, _ in paths}
    assert decided == wanted


def test_what_a_cluster_wrote_into_a_manifest_is_left_out(tmp_path: Path) -> None:
    text = (
        service(annotations="a: b")
        .replace("name: chat,", "name: chat, uid: u, resourceVersion: '1', managedFields: [{}],")
        .replace(" spec:", " status: {url: 'http://x'}, spec:")
    )
    rendering = render_text(tmp_path, text)
    made = find(rendering, "InferenceService")
    assert set(made["metadata"]) == {"name", "annotations"}
    assert "status" not in made
    assert value_of(rendering, "InferenceService", "status") == (None, "written-by-a-cluster")


def test_a_standard_mode_that_does_not_stay_is_told(tmp_path: Path) -> None:
    text = service(annotations="serving.kserve.io/deploymentMode: Standard")
    (note, _image) = render_text(tmp_path, text).notes
    assert (note.line, note.field) == (2, f"metadata.annotations.{DEPLOYMENT_MODE}")
    assert "becomes Knative" in note.message
    assert len(render_text(tmp_path, text, options=Options("standard")).notes) == 1


def test_an_annotation_that_counts_on_one_machine_alone_is_told(tmp_path: Path) -> None:
    text = service(annotations='relume.dev/heartbeat: "true"')
    (note, _image) = render_text(tmp_path, text).notes
    assert note.field == "metadata.annotations.relume.dev/heartbeat"
    assert "a cluster does not read it" in note.message


def test_a_list_of_manifests_is_rendered_like_its_items(tmp_path: Path) -> None:
    items = [yaml.safe_load(text) for text in (service(), broker(), trigger())]
    file = tmp_path / "list" / "m.yaml"
    file.parent.mkdir()
    file.write_text(
        yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items}, sort_keys=False)
    )
    plain = render_text(tmp_path, service(), broker(), trigger())
    assert render([file], Options()).files == plain.files
