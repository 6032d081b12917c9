"""Documents with a field dropped, retyped, renamed or doubled: an answer or a refusal, no crash."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from relume.base.errors import InvalidInput
from relume.cluster.claims import documents
from relume.cluster.claims.explain import explain
from relume.cluster.claims.lints import lint
from relume.cluster.claims.sizing.request import SizeRequest
from relume.cluster.claims.yaml_files import FieldPath
from tests.cluster.claims.building import EXAMPLES, INVENTORIES, document

ROOT = Path(__file__).parents[3]
VALUES = (None, "", "x", "-1", 0, -1, 1.5, True, [], {}, [None], {"x": None}, ["x"], {"a/b": {}})


def loaded(*files: Path) -> list[object]:
    return [one for file in files for one in yaml.safe_load_all(file.read_text())]


ASKED = loaded(*sorted((ROOT / "config/dra/templates").glob("*-*.yaml")), *EXAMPLES.glob("*.yaml"))
THERE = [
    one for name in ("mixed", "example", "intel") for one in loaded(INVENTORIES / f"{name}.yaml")
] + [loaded(INVENTORIES / "a100-mig.yaml")[0]]
MODELS = [json.loads((EXAMPLES / "qwen2.5-7b.json").read_text())]


def paths(value: object, here: FieldPath = ()) -> Iterator[FieldPath]:
    """The path of every value inside."""
    below = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value if isinstance(value, list) else ())
    )
    for step, inner in below:
        yield (*here, step)
        yield from paths(inner, (*here, step))


def mutated(whole: list[object], where: FieldPath, how: str, value: object) -> list[object]:
    """The documents with one change."""
    changed = copy.deepcopy(whole)
    owner: object = changed  # narrowed by the steps
    for step in where[:-1]:
        owner = owner[step]
    last = where[-1]
    if how == "drop":
        del owner[last]
    elif how == "rename" and isinstance(owner, dict):
        owner["renamed"] = owner.pop(last)
    elif how == "double" and isinstance(owner, list):
        owner.append(owner[int(last)])
    else:
        owner[last] = value
    return changed


changes = st.tuples(
    st.sampled_from(["drop", "rename", "double", "set", "set"]), st.sampled_from(VALUES)
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(list(paths([ASKED, THERE]))).filter(lambda p: len(p) > 2), changes)
def test_a_mutated_document_is_answered_or_refused(
    where: FieldPath, change: tuple[str, object]
) -> None:
    asked, there = mutated([ASKED, THERE], where, *change)
    assert isinstance(asked, list)
    assert isinstance(there, list)
    given_claims = [document(one) for one in asked if isinstance(one, dict)]
    given_slices = [document(one) for one in there if isinstance(one, dict)]
    for use in (
        lambda: explain(given_claims, given_slices),
        lambda: lint(given_claims + given_slices),
    ):
        try:
            use()
        except InvalidInput as refusal:
            assert str(refusal)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(paths(MODELS))).filter(lambda p: len(p) > 1), changes)
def test_a_mutated_config_json_is_sized_or_refused(
    tmp_path_factory: pytest.TempPathFactory, where: FieldPath, change: tuple[str, object]
) -> None:
    [config] = mutated(MODELS, where, *change)
    file = tmp_path_factory.getbasetemp() / "config.json"
    file.write_text(json.dumps(config))
    try:
        SizeRequest(file).size()
    except InvalidInput as refusal:
        assert str(refusal)


@pytest.mark.parametrize("text", ["", "---\n", "{}", "[]", "x", "{", "- a\n- b"])
def test_a_file_with_little_in_it_is_answered_or_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(text)
    try:
        explain(documents.read(file), documents.read(file))
    except InvalidInput as refusal:
        assert str(file) in str(refusal)
