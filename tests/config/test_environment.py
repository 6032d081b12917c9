"""Variables from Secrets and ConfigMaps: of the same files, or of the user; never shown."""

from pathlib import Path

import pytest

from relume.base.errors import InvalidManifest
from relume.config import Function, Machine, load
from relume.config.config_objects import by_key, variables_of
from relume.config.function import ConfigObject, FromObject, Variable
from relume.config.loader import load_plan
from relume.config.resources import Origin

from .manifests import read_text, service, together

SECRET = """\
apiVersion: v1
kind: Secret
metadata: {name: keys}
data: {A: c2VjcmV0LWE=, BINARY: /w==}
stringData: {B: secret-b}
"""
CONFIG = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {C: see, "1st": x}
"""


def variable(name: str, key: str, kind: str = "secretKeyRef", source: str = "keys") -> str:
    ref = f"{{name: {source}, key: {key}}}"
    return service(model=f"env: [{{name: {name}, valueFrom: {{{kind}: {ref}}}}}]")


@pytest.mark.parametrize(
    ("text", "env"),
    [
        (variable("X", "A"), {"X": "secret-a"}),
        (variable("X", "B"), {"X": "secret-b"}),
        (variable("X", "C", "configMapKeyRef", "settings"), {"X": "see"}),
        (
            service(model="envFrom: [{secretRef: {name: keys}, prefix: P_}]"),
            {"P_A": "secret-a", "P_B": "secret-b"},
        ),
        (service(model="envFrom: [{configMapRef: {name: settings}}]"), {"C": "see"}),
        (
            service(
                model="envFrom: [{configMapRef: {name: settings}}]\nenv: [{name: C, value: own}]"
            ),
            {"C": "own"},
        ),
        (
            service(
                model="env: [{name: NS, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}]"
            ),
            {"NS": "default"},
        ),
    ],
)
def test_values_come_from_documents_of_the_same_files(
    tmp_path: Path, text: str, env: dict[str, str]
) -> None:
    plan = read_text(tmp_path, together(text, SECRET, CONFIG))
    assert plan.cannot_run == ()
    assert plan.services[0].env == env


def test_a_variable_of_the_user_stands_for_a_secret_that_no_file_has(tmp_path: Path) -> None:
    machine = Machine(environment={"HF_TOKEN": "secret-mine"})
    plan = read_text(tmp_path, variable("HF_TOKEN", "token"), machine)
    assert plan.cannot_run == ()
    assert plan.services[0].env == {"HF_TOKEN": "secret-mine"}
    assert plan.not_honoured[0].why == (
        "Secret default/keys is not read: HF_TOKEN is taken from your environment"
    )


def test_a_credential_that_only_a_download_needs_may_be_missing(tmp_path: Path) -> None:
    plan = read_text(tmp_path, variable("HF_TOKEN", "token"))
    assert (plan.cannot_run, plan.services[0].env) == ((), {})
    assert "relume models prepare" in plan.not_honoured[0].why


@pytest.mark.parametrize(
    ("text", "field", "message"),
    [
        (variable("X", "A"), "secretKeyRef.name", "Secret default/keys is in none of these files"),
        (variable("X", "A"), "secretKeyRef.name", "or set X in your environment"),
        (together(variable("X", "AA"), SECRET), "secretKeyRef.key", "did you mean A?"),
        (
            variable("X", "A", "resourceFieldRef"),
            "resourceFieldRef",
            "a predictor is a process here",
        ),
    ],
)
def test_a_value_that_is_nowhere_is_refused_with_what_to_do(
    tmp_path: Path, text: str, field: str, message: str
) -> None:
    (wrong,) = read_text(tmp_path, text).cannot_run
    assert wrong.origin.field == f"spec.predictor.model.env[0].valueFrom.{field}"
    assert message in wrong.why


def test_an_optional_value_that_is_nowhere_is_listed(tmp_path: Path) -> None:
    text = variable("X", "A").replace("key: A", "key: A, optional: true")
    plan = read_text(tmp_path, text)
    assert (plan.cannot_run, plan.services[0].env) == ((), {})
    assert plan.not_honoured[0].why.startswith("X is not set: ")


def test_a_secret_is_shown_nowhere(tmp_path: Path) -> None:
    text = variable("X", "A").replace("env:", "args: [--seed=$(X), --task=$(X), $(X)]\n      env:")
    plan = read_text(tmp_path, together(text, SECRET))
    said = [wrong.why for wrong in plan.cannot_run] + [note.why for note in plan.not_honoured]
    assert len(said) >= 3
    assert not any("secret-a" in why for why in said), said
    quiet = read_text(tmp_path, together(variable("X", "A"), SECRET))
    assert quiet.services[0].env == {"X": "secret-a"}
    assert "secret-a" not in repr(quiet)
    wrong = SECRET.replace("c2VjcmV0LWE=", "'?secret-a?'")
    file = tmp_path / "wrong.yaml"
    file.write_text(together(variable("X", "A"), wrong), encoding="utf-8")
    with pytest.raises(InvalidManifest, match="is not base64") as refused:
        load([file])
    assert "secret-a" not in str(refused.value)


def test_a_secret_of_another_namespace_is_another_one(tmp_path: Path) -> None:
    text = together(variable("X", "A"), SECRET.replace("name: keys", "name: keys, namespace: b"))
    assert len(read_text(tmp_path, text).cannot_run) == 1
    file = tmp_path / "m.yaml"
    assert load_plan([file]).services[0].env == {}


@pytest.mark.parametrize(
    "text",
    [
        service(model='env: [{name: X, value: "a\\0b"}]'),
        service(model='args: ["--seed=\\0"]'),
        together(
            service(model="envFrom: [{secretRef: {name: keys}}]"),
            SECRET.replace("secret-b", '"a\\0b"'),
        ),
        together(
            service(model="env: [{name: X, valueFrom: {secretKeyRef: {name: keys, key: B}}}]"),
            SECRET.replace("secret-b", '"a\\0b"'),
        ),
    ],
    ids=["value", "argument", "all of a secret", "key of a secret"],
)
def test_what_no_process_can_get_is_refused_where_it_is_written(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidManifest, match="NUL character") as refused:
        read_text(tmp_path, text)
    assert "spec.predictor.model" in str(refused.value)
    assert "a\0b" not in str(refused.value)


def test_what_no_process_of_a_function_can_get_is_refused_too(tmp_path: Path) -> None:
    origin = Origin(tmp_path / "func.yaml", 3, "run.envs[0]")
    secret = ConfigObject("Secret", "ns", "s", {"B": b"a\0b"})
    for value in ("a\0b", FromObject("Secret", "s", "B")):
        variable = Variable("X", value, origin)
        with pytest.raises(InvalidManifest, match="the value of X has a NUL character"):
            variables_of(Function("ns", "f", tmp_path, variables=(variable,)), by_key([secret]))
