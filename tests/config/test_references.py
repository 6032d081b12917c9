"""Names are unique, and whatever a manifest refers to is in the same files."""

from pathlib import Path

import pytest

from relume.base.errors import InvalidInput, InvalidManifest
from relume.config import load

from .manifests import HERE, broker, refused, service, together, trigger

TO_SERVICE = "ref: {apiVersion: serving.kserve.io/v1beta1, kind: InferenceService, name: m}"


def test_a_trigger_on_a_broker_that_is_not_there_is_refused(tmp_path: Path) -> None:
    text = trigger().replace("broker: b", f"broker: b  {HERE}")
    refused(tmp_path, text, "spec.broker", "no Broker default/b is in these files")


def test_a_broker_that_is_nearly_the_name_is_offered(tmp_path: Path) -> None:
    text = together(broker(name="summaries"), trigger(of="summarys"))
    refused(tmp_path, text, "spec.broker", "did you mean summaries?")


def test_a_broker_of_that_name_in_another_namespace_is_pointed_out(tmp_path: Path) -> None:
    text = together(broker(metadata="namespace: other"), trigger())
    refused(tmp_path, text, "spec.broker", "one is in namespace other")


def test_a_subscriber_that_is_not_there_is_refused(tmp_path: Path) -> None:
    text = together(broker(), trigger(subscriber=f"{TO_SERVICE}  {HERE}"))
    field = "spec.subscriber.ref.name"
    refused(tmp_path, text, field, "no InferenceService default/m is in these files")


def test_a_subscriber_in_another_namespace_is_found(tmp_path: Path) -> None:
    near = TO_SERVICE.replace("name: m", "name: m, namespace: other")
    (tmp_path / "m.yaml").write_text(
        together(broker(), trigger(subscriber=near), service(metadata="namespace: other"))
    )
    ref = load([tmp_path / "m.yaml"]).triggers[0].subscriber.ref
    assert ref is not None
    assert (ref.namespace, ref.name) == ("other", "m")


@pytest.mark.parametrize("kind", ["broker", "trigger"])
def test_a_dead_letter_sink_that_is_not_there_is_refused(tmp_path: Path, kind: str) -> None:
    spec = f"""\
delivery:
  deadLetterSink:
    ref:
      apiVersion: eventing.knative.dev/v1
      kind: Broker
      name: dead  {HERE}
"""
    text = broker(spec) if kind == "broker" else together(broker(), trigger(spec))
    field = "spec.delivery.deadLetterSink.ref.name"
    refused(tmp_path, text, field, "no Broker default/dead is in these files")


@pytest.mark.parametrize("document", [broker(), service(), together(trigger(), broker())])
def test_one_name_twice_is_refused_with_both_places(tmp_path: Path, document: str) -> None:
    (tmp_path / "a.yaml").write_text(document)
    (tmp_path / "b.yaml").write_text(document)
    with pytest.raises(InvalidManifest, match="is already defined at") as caught:
        load([tmp_path])
    assert (caught.value.file, caught.value.field) == (tmp_path / "b.yaml", "metadata.name")
    assert f"{tmp_path / 'a.yaml'}:4" in str(caught.value)


def test_one_name_for_two_kinds_or_namespaces_is_fine(tmp_path: Path) -> None:
    text = together(broker(name="m"), service(), broker(name="m", metadata="namespace: other"))
    (tmp_path / "m.yaml").write_text(text)
    plan = load([tmp_path / "m.yaml"])
    assert (len(plan.brokers), len(plan.services)) == (2, 1)


def test_a_reference_may_stand_in_a_file_before_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "1.yaml").write_text(trigger())
    (tmp_path / "2.yml").write_text(broker())
    (tmp_path / "3.json").write_text(
        '{"kind": "Broker", "apiVersion": "eventing.knative.dev/v1", "metadata": {"name": "json"}}'
    )
    (tmp_path / "README.md").write_text("not a manifest")
    plan = load([tmp_path])
    assert ([b.name for b in plan.brokers], len(plan.triggers)) == (["b", "json"], 1)


def test_a_file_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(broker())
    assert len(load([tmp_path / "m.yaml", tmp_path]).brokers) == 1


def test_paths_without_a_manifest_are_bad_input(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.yaml").write_text("# nothing\n---\n---\n")
    for path, message in (
        (tmp_path / "none.yaml", "no such file"),
        (tmp_path / "folder", "no file in this folder ends in .yaml"),
        (tmp_path / "empty.yaml", "no manifest is in there"),
    ):
        with pytest.raises(InvalidInput) as caught:
            load([path])
        assert message in str(caught.value)
        assert str(path) in str(caught.value)
        assert caught.value.exit_code == 2
