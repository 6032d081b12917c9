"""Documents: the quick reader against PyYAML, places, Lists, and input that is wrong."""

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from relume.base.errors import InvalidInput, InvalidManifest
from relume.cluster.claims import documents, quantity
from relume.cluster.claims.explain import explain
from relume.cluster.claims.yaml_files import KubernetesLoader, from_events
from tests.cluster.claims.building import (
    INVENTORIES,
    Json,
    claim,
    device_class,
    request,
    resource_slice,
)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.text(max_size=12),
    st.sampled_from(["yes", "null", "8.0.0", "0000:3b:00.0", "-", "- a", "a: b", "a #b", "1e3"]),
)
names = st.one_of(
    st.text(st.sampled_from("abz.09/_-"), min_size=1, max_size=8),
    st.sampled_from(["on", "no", "1", "a b"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=12,
)


@given(st.dictionaries(names, values, max_size=4), st.booleans())
def test_the_quick_reader_reads_what_pyyaml_reads_or_nothing(value: Json, flow: bool) -> None:
    text = yaml.safe_dump(value, default_flow_style=flow or None, sort_keys=False)
    quick = from_events(text)
    assert quick in (None, list(yaml.load_all(text, Loader=KubernetesLoader)))


@given(st.text(st.sampled_from("ab:- \n#'\"{}[]|>&*!%1.0?,"), max_size=40))
def test_on_any_text_the_quick_reader_agrees_or_gives_up(text: str) -> None:
    try:
        quick = from_events(text)
    except yaml.YAMLError:
        with pytest.raises((yaml.YAMLError, ValueError)):
            list(yaml.load_all(text, Loader=KubernetesLoader))
        return
    if quick is not None:
        assert quick == list(yaml.load_all(text, Loader=KubernetesLoader))


@pytest.mark.parametrize("file", sorted(INVENTORIES.glob("*.yaml")), ids=lambda f: f.stem)
def test_every_inventory_is_read_quickly_and_rightly(file: Path) -> None:
    text = file.read_text()
    quick = from_events(text)
    assert quick == list(yaml.safe_load_all(text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("40Gi", 40 << 30),
        ("81559Mi", 81559 << 20),
        ("1500m", Fraction(3, 2)),
        ("2k", 2000),
        ("1e3", 1000),
        ("1E3", 1000),
        (".5", Fraction(1, 2)),
        ("-1", -1),
        ("1n", Fraction(1, 10**9)),
        ("0.1n", Fraction(1, 10**9)),
        ("0", 0),
    ],
)
def test_quantities_are_read_as_kubernetes_reads_them(text: str, value: int | Fraction) -> None:
    assert quantity.parse(text) == value


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1GB", "1.2.3", "0x10", "1gi", "++1"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        quantity.parse(text)


def test_a_list_is_opened_and_keeps_its_places(tmp_path: Path) -> None:
    file = tmp_path / "list.yaml"
    items = [device_class("one"), device_class("two", "true")]
    file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items}))
    one, two = documents.read(file)
    assert (one.name, two.name) == ("one", "two")
    path = ("spec", "selectors", 0, "cel", "expression")
    assert "expression: 'true'" in file.read_text().splitlines()[two.line(path) - 1]


def test_json_is_read_with_places_too(tmp_path: Path) -> None:
    file = tmp_path / "class.json"
    file.write_text(json.dumps(device_class("one", "true"), indent=1))
    [one] = documents.read(file)
    line = file.read_text().splitlines()[one.line(("spec", "selectors", 0)) - 1]
    assert line.strip() == "{"


def slice_with(**fields: object) -> Json:
    return resource_slice("node", [{"name": "a", **fields}])


def claim_with(change: Callable[[dict[str, object]], object]) -> Json:
    asked = request()
    body = asked["exactly"]
    assert isinstance(body, dict)
    change(body)
    return claim(asked)


@pytest.mark.parametrize(
    ("wrong", "field", "message"),
    [
        (slice_with(attributes={"a": {"int": "x"}}), "spec.devices[0].attributes.a.int", "number"),
        (
            slice_with(attributes={"a": {"int": 1, "string": "x"}}),
            "spec.devices[0].attributes.a",
            "exactly one",
        ),
        (
            slice_with(attributes={"a": {"float": 1}}),
            "spec.devices[0].attributes.a.float",
            "unknown kind",
        ),
        (
            slice_with(capacity={"memory": {"value": "40GB"}}),
            "spec.devices[0].capacity.memory.value",
            "not a quantity",
        ),
        (slice_with(taints=[{"key": "a"}]), "spec.devices[0].taints[0].effect", "is missing"),
        (slice_with(taints="hot"), "spec.devices[0].taints", "must be a list"),
        (resource_slice("node", [{"attributes": {}}]), "spec.devices[0].name", "is missing"),
        (resource_slice("node", [], pool=None), "spec.pool", "is missing"),
        (
            claim_with(lambda body: body.update(count=0)),
            "spec.devices.requests[0].exactly.count",
            "at least 1",
        ),
        (
            claim_with(lambda body: body.update(allocationMode="Some")),
            "spec.devices.requests[0].exactly.allocationMode",
            "ExactCount or All",
        ),
        (
            claim_with(lambda body: body.update(selectors=[{"cel": {"expression": "1 +"}}])),
            "spec.devices.requests[0].exactly.selectors[0].cel.expression",
            "CEL does not compile: line 1, column 4",
        ),
        (
            claim(request(), constraints=[{"matchAttribute": "model"}]),
            "spec.devices.constraints[0].matchAttribute",
            "qualified with a domain",
        ),
        (
            claim(request(), constraints=[{"requests": ["x"], "matchAttribute": "a/b"}]),
            "spec.devices.constraints[0].requests[0]",
            "no request is named x",
        ),
        (claim(request(), request()), "spec.devices.requests[0].name", "is there twice"),
        (claim({"name": "gpu"}), "spec.devices.requests[0]", "needs exactly or firstAvailable"),
    ],
    ids=[
        "an attribute that is not a number",
        "an attribute of two kinds",
        "an attribute of an unknown kind",
        "a capacity that is not a quantity",
        "a taint without effect",
        "taints that are no list",
        "a device without name",
        "a slice without pool",
        "a count of 0",
        "an unknown allocation mode",
        "a selector that does not compile",
        "a constraint without domain",
        "a constraint on a request that is not there",
        "two requests of one name",
        "a request that asks for nothing",
    ],
)
def test_a_wrong_document_is_refused_with_file_line_and_field(
    wrong: Json, field: str, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(yaml.safe_dump_all([device_class(), wrong], sort_keys=False))
    read = documents.read(file)
    with pytest.raises(InvalidManifest) as caught:
        explain(read, read)
    assert (caught.value.field, caught.value.file) == (field, file)
    assert message in str(caught.value)
    assert caught.value.line > 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "YAML: did not find expected node content"),
        ("just text", "must be an object"),
        ("kind: List\nitems: {}", "must be a list"),
        ("a: &x {b: *x}", "aliases make it endless"),
        (
            "a: &a [x]\n"
            + "".join(
                f"{y}: &{y} [{', '.join([f'*{x}'] * 20)}]\n"
                for x, y in zip("abcdef", "bcdefg", strict=True)
            ),
            "aliases make it endless",
        ),
    ],
    ids=[
        "a list that does not end",
        "a text",
        "a List whose items are a table",
        "an alias that holds itself",
        "aliases of aliases",
    ],
)
def test_what_is_no_manifest_is_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=message):
        explain(documents.read(file), [])


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "a: " + '{"x": ' * 100_000, "- " * 100_000],
    ids=["brackets", "braces", "dashes"],
)
def test_what_is_nested_without_end_is_refused(text: str, tmp_path: Path) -> None:
    """libyaml's own recursion would end the process."""
    (tmp_path / "deep.yaml").write_text(text)
    with pytest.raises(InvalidManifest, match="nested too deeply"):
        documents.read(tmp_path / "deep.yaml")
