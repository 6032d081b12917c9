"""Text that is no manifest is refused with its line, and never runs or hangs anything."""

from pathlib import Path
from textwrap import indent

import pytest

from relume.base.errors import InvalidInput, InvalidManifest
from relume.config import load
from relume.config.yaml_source import documents

from .manifests import HERE, broker, load_text, read_text, refused, service


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: b: c\n", 1),
        ("kind: Broker\n  name: [\n", 2),
        ("kind: Broker\n\tname: x\n", 2),
        ("kind: 'Broker\n", 2),
        ("kind: *nowhere\n", 1),
        ("{kind: Broker", 1),
        ("%YAML 9.9\n---\na: b", 1),
        ("a: b\n---\nc: - d\n", 3),
    ],
)
def test_what_is_not_yaml_is_refused_with_the_line(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(InvalidManifest) as caught:
        load_text(tmp_path, text)
    error = caught.value
    if error.field == "YAML":
        assert error.line == line, str(error)
    else:
        assert line == 3, "only the second document is not YAML; the first is no manifest"
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"kind: Broker\nname: \xff\xfe\n", 2, "not UTF-8"),
        (b"kind: Broker\nname: a\x00b\n", 2, "character U+0000 is not allowed"),
        ("kind: Broker\n".encode("utf-16"), 1, "not UTF-8"),
    ],
)
def test_what_is_not_text_is_refused_with_the_line(
    tmp_path: Path, content: bytes, line: int, message: str
) -> None:
    (tmp_path / "m.yaml").write_bytes(content)
    with pytest.raises(InvalidManifest, match=message.replace("+", r"\+")) as caught:
        load([tmp_path / "m.yaml"])
    assert (caught.value.line, caught.value.field) == (line, "YAML")


def test_a_key_that_is_there_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    text = service("timeout: 5\nmaxReplicas: 1\ntimeout: 6  " + HERE)
    first = text.splitlines().index("    timeout: 5") + 1
    refused(tmp_path, text, "spec.predictor.timeout", f"is already set on line {first}")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("metadata: !!python/object/apply:os.system ['touch gone']", "has no meaning"),
        ("metadata: !mine {name: x}", "has no meaning"),
        ("metadata: {<<: x}", "takes a table"),
        ("metadata: {<<: [x]}", "takes a table"),
        ("metadata: {[a]: x}", "a field's name must be a string"),
        ("metadata: !!set {a, b}", "has no meaning"),
        ("metadata: !!binary aGk=", "has no meaning"),
    ],
)
def test_yaml_beyond_plain_values_is_refused(tmp_path: Path, line: str, message: str) -> None:
    refused(tmp_path, f"kind: Broker\n{line}  {HERE}\n", "YAML", message)
    assert not (tmp_path / "gone").exists()


def test_an_anchor_and_its_alias_are_one_value(tmp_path: Path) -> None:
    text = service(predictor="minReplicas: &n 0\nmaxReplicas: *n")
    assert load_text(tmp_path, text).services[0].max_replicas == 0


def test_a_merge_key_brings_fields_and_those_beside_it_win(tmp_path: Path) -> None:
    text = (
        "apiVersion: serving.kserve.io/v1beta1\n"
        "kind: InferenceService\n"
        "spec:\n"
        "  predictor:\n"
        "    annotations: &more {a: one, b: two}\n"
        "    model: {modelFormat: {name: vLLM}, storageUri: hf://o/m}\n"
        "metadata: {name: m, annotations: {<<: [*more, {b: three, c: four}], a: mine}}\n"
    )
    assert load_text(tmp_path, text).services[0].annotations == {
        "a": "one",
        "b": "two",
        "c": "four",
    }


def test_a_merged_field_keeps_its_line_and_gets_the_path_of_its_place(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("x: &x\n  k: 1\nz:\n  <<: *x\n  m: 2\n")
    (root,) = documents(tmp_path / "m.yaml")
    merged = root.table().entries["z"].table().entries["k"]
    assert (merged.line, merged.path) == (2, "z.k")


def test_the_items_of_a_list_are_documents_of_their_own(tmp_path: Path) -> None:
    items = "".join(
        "- " + indent(broker(name=name), "  ").strip() + "\n" for name in ("one", "two")
    )
    nested = "- {apiVersion: v1, kind: List, items: [{apiVersion: eventing.knative.dev/v1, "
    nested += "kind: Broker, metadata: {name: three}}]}\n"
    text = "apiVersion: v1\nkind: List\nitems:\n" + items + nested
    assert [b.name for b in load_text(tmp_path, text).brokers] == ["one", "two", "three"]
    wrong = text.replace("name: two", f"nam: two  {HERE}")
    refused(tmp_path, wrong, "metadata.nam", "did you mean name?")


def test_lists_that_multiply_are_refused_quickly(tmp_path: Path) -> None:
    levels = "a0: &a0 {kind: List, items: []}\n"
    for i in range(1, 12):
        levels += f"a{i}: &a{i} {{kind: List, items: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n"
    with pytest.raises(InvalidManifest, match="too large or nested too deeply"):
        load_text(tmp_path, levels + "kind: List\nitems: [*a11]\n")
    with pytest.raises(InvalidManifest, match="too large or nested too deeply"):
        load_text(tmp_path, "&a {kind: List, items: [*a]}\n")


def test_a_key_that_is_there_twice_may_be_told_and_the_last_value_counts(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("a: 1\na: 2\n---\nb: 1\n")
    told: list[InvalidManifest] = []
    first, second = documents(tmp_path / "m.yaml", told.append)
    assert [(error.line, error.field) for error in told] == [(2, "a")]
    assert first.table().entries["a"].integer() == 2
    assert "b" in second.table().entries


def test_aliases_that_multiply_are_refused_quickly(tmp_path: Path) -> None:
    levels = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    with pytest.raises(InvalidManifest, match="too large or nested too deeply"):
        load_text(tmp_path, "a0: &a0 [x]\n" + levels)


def test_an_alias_to_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidManifest, match="too large or nested too deeply"):
        load_text(tmp_path, "a: &a [*a]\n")


@pytest.mark.parametrize("text", ["[" * 50_000, "{a: " * 5_000, "- " * 20_000])
def test_nesting_without_end_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidManifest):
        load_text(tmp_path, text)


def test_a_file_larger_than_any_cluster_takes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="larger than 3 MiB"):
        load_text(tmp_path, "# " + "x" * (3 << 20))


def test_a_file_of_many_documents_may_be_larger(tmp_path: Path) -> None:
    one = "# " + "x" * (2 << 20) + "\na: 1\n---\n"
    (tmp_path / "m.yaml").write_text(one * 2)
    assert len(list(documents(tmp_path / "m.yaml"))) == 2
    (tmp_path / "m.yaml").write_text(one * 9)
    with pytest.raises(InvalidInput, match="larger than 16 MiB; split it"):
        list(documents(tmp_path / "m.yaml"))


def test_a_file_that_cannot_be_read_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").symlink_to(tmp_path / "m.yaml")
    with pytest.raises(InvalidInput, match=r"m\.yaml"):
        load([tmp_path / "m.yaml"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("just text", "must be a table of fields, not the string just text"),
        ("- a\n- b", "must be a table of fields, not a list"),
        ("42", "not the integer 42"),
    ],
)
def test_a_document_that_is_no_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    refused(tmp_path, text, "manifest", message)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("Deployment", "known kinds are InferenceService, Broker, Trigger"),
        ("brokers", "did you mean Broker?"),
        ("Deployment", "Deployment is not run on this machine"),
        ("[Broker]", "must be a string, not a list"),
    ],
)
def test_an_unknown_kind_lists_the_known_ones(tmp_path: Path, kind: str, message: str) -> None:
    text = f"apiVersion: v1\nkind: {kind}  {HERE}\ndata: {{}}\nmetadata: {{name: x}}\n"
    refused(tmp_path, text, "kind", message)


def test_another_version_of_a_known_kind_is_refused(tmp_path: Path) -> None:
    text = broker().replace("eventing.knative.dev/v1", f"eventing.knative.dev/v1beta1  {HERE}")
    refused(tmp_path, text, "apiVersion", "write eventing.knative.dev/v1")


@pytest.mark.parametrize(
    ("line", "field", "message"),
    [
        ("metdata: {name: x}", "metdata", "did you mean metadata?"),
        ("metadata: {nam: x}", "metadata.nam", "did you mean name?"),
        ("'': x", '""', "unknown field"),
        ("metadata: {name: x, namespace: A}", "metadata.namespace", "invalid value: A"),
        ("metadata: {name: x, labels: {a: 1}}", "metadata.labels.a", "must be a string"),
        ("metadata: {name: x, labels: a}", "metadata.labels", "must be a table"),
        ("metadata: {generateName: x-}", "metadata.name", "is missing"),
        ("metadata: {name: x_y}", "metadata.name", "invalid value: x_y"),
        ("metadata: x", "metadata", "must be a table of fields, not the string x"),
        ("metadata: {name: x}\nspek: {}", "spek", "did you mean spec?"),
        ("metadata: {name: x}\nspec: []", "spec", "must be a table of fields, not a list"),
    ],
)
def test_a_wrong_head_is_refused_by_name(
    tmp_path: Path, line: str, field: str, message: str
) -> None:
    text = f"apiVersion: eventing.knative.dev/v1\nkind: Broker\n{line}\n"
    refused(tmp_path, text, field, message)


def test_what_a_cluster_wrote_into_a_manifest_is_left_out(tmp_path: Path) -> None:
    text = broker(metadata="uid: abc\nresourceVersion: '1'\nmanagedFields: []")
    plan = load_text(tmp_path, text + "status: {conditions: []}\n")
    assert {note.field for note in plan.not_honoured} == {
        "metadata.uid",
        "metadata.resourceVersion",
        "metadata.managedFields",
        "status",
    }


def test_values_that_only_old_yaml_sees_in_a_string_stay_strings(tmp_path: Path) -> None:
    text = service(model="args: [1:30, 2026-11-23, '=', =]")
    assert read_text(tmp_path, text).services[0].args == ("1:30", "2026-11-23", "=", "=")


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_bytes(b"\xef\xbb\xbf" + broker().replace("\n", "\r\n").encode())
    assert load([tmp_path / "m.yaml"]).brokers[0].name == "b"


def test_a_refusal_is_one_line_that_a_terminal_shows_as_it_is(tmp_path: Path) -> None:
    text = service('timeout: "a\\nb\\e[31m"') + "\n"
    error = refused(tmp_path, text, "spec.predictor.timeout", r"the string a\nb\x1b[31m")
    assert str(error).isprintable()
    error = refused(tmp_path, service(f"timeout: {'x' * 5000}"), "spec.predictor.timeout")
    assert len(str(error)) < 700


def test_a_document_before_one_that_cannot_be_read_is_read(tmp_path: Path) -> None:
    for wrong in ("[" * 50_000, "a: b: c\n"):
        (tmp_path / "m.yaml").write_text(f"a: 1\n---\nb: 2\n---\n{wrong}")
        found = documents(tmp_path / "m.yaml")
        first, second = next(found), next(found)
        assert ("a" in first.table().entries, "b" in second.table().entries) == (True, True)
        with pytest.raises(InvalidManifest) as caught:
            next(found)
        assert caught.value.line == 5


def test_a_field_whose_name_cannot_be_shown_is_named_with_escapes(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text('"a\\tb": 1\n')
    (root,) = documents(tmp_path / "m.yaml")
    assert root.table().entries["a\tb"].path == r"a\tb"
