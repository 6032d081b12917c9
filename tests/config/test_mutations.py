"""Whatever is done to a sample, loading it gives a plan or one clear refusal, never a traceback."""

import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relume.base.errors import InvalidInput, InvalidManifest
from relume.config import Plan, load
from tests.mutations import Place, changed, places

from .manifests import broker, flow, service, source, together, trigger

SAMPLES = Path(__file__).parents[2] / "config" / "samples"
RICH = together(
    broker("delivery: {retry: 3, backoffPolicy: linear, backoffDelay: PT1S, timeout: PT5S}"),
    service(
        "minReplicas: 0\nmaxReplicas: 2\nscaleTarget: 4\nscaleMetric: rps\ntimeout: 5\n"
        "annotations: {autoscaling.knative.dev/target: '3', a: b}",
        "env: [{name: A, value: x}]\nargs: [--tokenizer=$(A)]\n"
        "runtime: relume-vllm\nprotocolVersion: v1\n"
        "resources: {limits: {cpu: 1, nvidia.com/gpu: 1}, claims: []}",
        "namespace: default\nlabels: {a: b}\nannotations: {autoscaling.knative.dev/window: 6s}",
    ),
    trigger(
        "filters: [{all: [{not: {exact: {type: a}}}, {any: [{prefix: {a: b}}, {suffix: {a: b}}]},"
        "{cesql: type = 'a'}]}]"
        "\nfilter: {attributes: {type: a}}",
        "ref: {apiVersion: serving.kserve.io/v1beta1, kind: InferenceService, name: m}\nuri: /v1",
    ),
)
URI = "{uri: 'http://h/'}"
FLOWS = together(
    broker(),
    flow(
        "Sequence",
        f"steps: [{{uri: 'http://h/', delivery: {{retry: 1}}}}, {URI}]\nreply: {URI}\n"
        "channelTemplate: {apiVersion: v1, kind: C, spec: {delivery: {retry: 2}}}",
    ),
    flow("Parallel", f"branches: [{{filter: {URI}, subscriber: {URI}, reply: {URI}}}]"),
    flow(
        "RequestReply",
        "brokerRef: {apiVersion: v1, kind: Broker, name: b}\ncorrelationAttribute: a\n"
        "replyAttribute: b\ntimeout: PT1S",
        "eventing.knative.dev/v1alpha1",
    ),
    source(
        "PingSource",
        f"sink: {URI}\nschedule: '*/2 * * * *'\ntimezone: UTC\ndata: '{{}}'\n"
        "contentType: application/json\nceOverrides: {extensions: {a: b}}",
    ),
)
BESIDE = together(
    "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {k: djE=}\nstringData: {l: v}\n",
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {k: v}\n",
    "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: p}\nspec: {volumeName: d}\n",
    "apiVersion: v1\nkind: PersistentVolume\nmetadata: {name: d}\nspec: {hostPath: {path: /d}}\n",
    """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: h}
spec:
  predictor:
    storageUris: [{uri: pvc://p/a}, {uri: hf://a/b, mountPath: /mnt/models/b}]
    volumes:
    - {name: v, persistentVolumeClaim: {claimName: p}}
    - {name: w, configMap: {name: c, items: [{key: k, path: a}]}}
    - {name: x, secret: {secretName: s}}
    huggingface:
      args: [--model_name, q, --model_dir=/mnt/models/b, --task=embed, --backend=vllm, --seed 7]
      envFrom: [{secretRef: {name: s}, prefix: P}, {configMapRef: {name: c, optional: true}}]
      env:
      - {name: A, valueFrom: {secretKeyRef: {name: s, key: k, optional: false}}}
      - {name: B, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
      volumeMounts:
      - {name: v, mountPath: /v, subPath: a}
      - {name: w, mountPath: /w, readOnly: true}
      - {name: x, mountPath: /x}
""",
    service(model="args: [--model_id=a/b, --model_revision=v1, --return_raw_logits]"),
)
NOT_RUN = ("PersistentVolumeClaim", "PersistentVolume")
TEXTS = {
    "rich": RICH,
    "flows": FLOWS,
    "beside": BESIDE,
    "summarize": (SAMPLES / "summarize.yaml").read_text(encoding="utf-8"),
}
OTHER_VALUES = (None, True, -1, 2**40, 0.5, "", "x", " ", "é\u2028", [], {}, [1], {"a": 1}, [[]])


def outcome(folder: Path, text: str) -> Plan | InvalidManifest:
    """Load `text`; every exception but a refusal fails the test."""
    file = folder / "m.yaml"
    file.write_text(text, encoding="utf-8")
    try:
        return load([file])
    except InvalidManifest as error:
        assert str(error).startswith(f"{file}:{error.line}: {error.field}: ")
        assert error.field
        assert 1 <= error.line <= len(text.splitlines()) + 1
        assert "\n" not in str(error)
        return error


def all_places(name: str) -> list[tuple[list[Any], Place]]:
    documents = list(yaml.safe_load_all(TEXTS[name]))
    return [(documents, path) for path in places(documents)]


@pytest.mark.parametrize("name", TEXTS)
def test_the_unchanged_text_is_a_plan(tmp_path: Path, name: str) -> None:
    assert isinstance(outcome(tmp_path, TEXTS[name]), Plan)


@pytest.mark.parametrize("name", TEXTS)
def test_dropping_any_field_gives_a_plan_or_a_refusal(tmp_path: Path, name: str) -> None:
    for documents, path in all_places(name):
        try:
            outcome(tmp_path, changed(documents, path, lambda parent, key: parent.pop(key)))
        except InvalidInput as error:
            assert error.reason == "no-manifest"


@pytest.mark.parametrize("name", TEXTS)
def test_misnaming_any_field_is_refused_or_is_the_users_own_name(tmp_path: Path, name: str) -> None:
    def misname(parent: Any, key: Any) -> None:
        parent[f"{key}x"] = parent.pop(key)

    for documents, path in all_places(name):
        if isinstance(path[-1], int) or documents[path[0]]["kind"] in NOT_RUN:
            continue
        found = outcome(tmp_path, changed(documents, path, misname))
        own = path[-2:-1] in (("labels",), ("limits",), ("requests",)) or path[-1] == "a"
        own = own or path[-2] in ("exact", "prefix", "suffix", "attributes", "data", "stringData")
        noted = "serving.k" in str(path[-1])  # annotations that a machine leaves out
        assert isinstance(found, InvalidManifest) or own or noted, path


def test_any_other_type_anywhere_gives_a_plan_or_a_refusal(tmp_path: Path) -> None:
    for documents, path in all_places("rich"):
        for other in OTHER_VALUES:

            def retype(parent: Any, key: Any, other: Any = other) -> None:
                parent[key] = other

            try:
                outcome(tmp_path, changed(documents, path, retype))
            except InvalidInput as error:
                assert error.reason == "no-manifest"


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(sorted(TEXTS)), st.integers(0, 2**32), st.integers(1, 6))
def test_any_damage_to_the_text_gives_a_plan_or_a_refusal(
    tmp_path: Path, name: str, seed: int, times: int
) -> None:
    chance = random.Random(seed)
    text = TEXTS[name]
    for _ in range(times):
        at = chance.randrange(max(len(text), 1))
        match chance.randrange(3):
            case 0:
                text = text[:at] + text[at + chance.randrange(1, 20) :]
            case 1:
                text = (
                    text[:at]
                    + chance.choice("{}[]:-*&!|>'\"#%@`,? \t\n0aé\u0085\u2028")
                    + text[at:]
                )
            case _:
                start = chance.randrange(max(len(text), 1))
                text = text[:at] + text[start : start + 30] + text[at:]
    try:
        outcome(tmp_path, text)
    except InvalidInput as error:
        assert error.reason == "no-manifest"
