"""Whatever is done to a func.yaml or a Knative Service, it gives a plan or one clear refusal."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from relume.base.errors import InvalidInput, InvalidManifest
from relume.cluster.render import Options, render
from relume.config import Plan, load
from relume.config.config_objects import by_key, files_of, variables_of
from tests.mutations import changed, places

from .manifests import broker, together
from .test_functions import SECRET, folder_of, func_yaml, service

RUN = """\
envs:
- {name: PLAIN, value: plain}
- {name: LOCAL, value: "{{ env:PATH }}"}
- {name: TOKEN, value: "{{ secret:s:token }}"}
- {value: "{{ secret:s }}"}
volumes:
- {secret: s, path: /etc/secrets}
- {emptyDir: {medium: Memory}, path: /scratch}
startTimeout: 20
"""
DEPLOY = """\
namespace: default
annotations: {autoscaling.knative.dev/window: 6s, a: b}
labels: [{key: a, value: b}]
healthEndpoints: {liveness: /a, readiness: /b}
options:
  scale: {min: 0, max: 2, metric: rps, target: 2.5, utilization: 80}
  resources: {requests: {cpu: 10m, memory: 1Mi}, limits: {memory: 64Mi, cpu: "1", concurrency: 5}}
subscriptions:
- source: b
  filters: {type: ask}
"""
TEXT = func_yaml("registry: r.example/team\ninvoke: cloudevent", DEPLOY, RUN)
SERVICE = service(
    'metadata: {annotations: {autoscaling.knative.dev/max-scale: "2"}}',
    "containerConcurrency: 3\ntimeoutSeconds: 30\nresponseStartTimeoutSeconds: 5",
    "env: [{name: A, value: a}, {name: T, valueFrom: {secretKeyRef: {name: s, key: token}}}]\n"
    "envFrom: [{secretRef: {name: s, optional: true}}]\nresources: {limits: {memory: 1Gi}}",
)
OTHERS = together(SECRET, broker())
OTHER_VALUES = (None, True, -1, 2**40, 0.5, "", "x", "é\u2028", [], {}, [1], {"a": 1})
RENDER_EVERY = 5  # rendering takes longer than loading, and sees the same values


class Folder:
    """A function and the manifests beside it, of which one is changed."""

    def __init__(self, tmp_path: Path) -> None:
        self.function = folder_of(tmp_path, TEXT)
        self.manifests = tmp_path / "m.yaml"
        self._tried = 0

    def outcome(self, func: str, service_: str) -> Plan | InvalidManifest:
        (self.function / "func.yaml").write_text(func, encoding="utf-8")
        self.manifests.write_text(together(OTHERS, service_), encoding="utf-8")
        paths = [self.manifests, self.function]
        try:
            plan = load(paths)
            for function in plan.functions:
                variables_of(function, by_key(plan.objects))
                files_of(function, by_key(plan.objects))
            if self._tried % RENDER_EVERY == 0:
                render(paths, Options())
            self._tried += 1
            return plan
        except InvalidManifest as error:
            assert str(error).startswith(f"{error.file}:{error.line}: {error.field}: ")
            assert error.field
            assert error.file in (self.manifests, self.function / "func.yaml")
            assert "\n" not in str(error)
            return error


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_the_unchanged_texts_are_a_plan(folder: Folder) -> None:
    assert "PATH" in os.environ
    assert isinstance(folder.outcome(TEXT, SERVICE), Plan)


@pytest.mark.parametrize("which", ["func.yaml", "service"])
def test_dropping_misnaming_or_changing_any_field_gives_a_plan_or_a_refusal(
    folder: Folder, which: str
) -> None:
    def misname(parent: Any, key: Any) -> None:
        if isinstance(parent, dict):
            parent[f"{key}x"] = parent.pop(key)

    def put(value: Any, parent: Any, key: Any) -> None:
        parent[key] = value

    text = TEXT if which == "func.yaml" else SERVICE
    documents = list(yaml.safe_load_all(text.replace("2026-11-01T10:00:00Z", "today")))
    tried = 0
    for path in places(documents):
        ways: list[Any] = [lambda parent, key: parent.pop(key), misname]
        ways += [partial(put, value) for value in OTHER_VALUES]
        for way in ways:
            new = changed(documents, path, way)
            try:
                if which == "func.yaml":
                    folder.outcome(new, SERVICE)
                else:
                    folder.outcome(TEXT, new)
            except InvalidInput as error:
                assert error.reason == "no-manifest"
            tried += 1
    assert tried > 300
