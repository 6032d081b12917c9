"""Whose API server it is: a context, its namespace, or the pod's own."""

from pathlib import Path

import pytest
import yaml

from relume.cluster.apply.api import KubernetesApi, Unreachable
from tests.cluster.api_server import write_kubeconfig

from .cluster import Cluster

pytest.importorskip("kubernetes")


def test_documents_without_a_namespace_go_into_the_contexts(tmp_path: Path) -> None:
    file = write_kubeconfig(tmp_path, 9)
    assert KubernetesApi.of_context("test", file).namespace == "default"
    config = yaml.safe_load(file.read_text())
    config["contexts"][0]["context"]["namespace"] = "models"
    file.write_text(yaml.safe_dump(config))
    assert KubernetesApi.of_context("test", file).namespace == "models"
    assert KubernetesApi.of_context(None, file).namespace == "models", "the current context"


def test_a_pod_without_a_kubeconfig_asks_its_own_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "9")
    with pytest.raises(Unreachable, match="token"):
        KubernetesApi.of_context(None)


def test_a_refusal_is_an_answer_and_a_broken_server_an_error(tmp_path: Path) -> None:
    cluster = Cluster()
    with cluster.running(tmp_path) as file:
        api = KubernetesApi.of_context("test", file)
        answer = api.change("DELETE", "/api/v1/namespaces/none", {})
        assert (answer.ok, answer.code, answer.message) == (False, 404, "not found")
        cluster.broken = 1
        with pytest.raises(Unreachable, match="starting"):
            api.change("DELETE", "/api/v1/namespaces/none", {})


def test_a_webhook_that_panics_refuses(tmp_path: Path) -> None:
    """KServe's does where a predictor has neither a model nor a container."""
    cluster = Cluster(panics=True)
    with cluster.running(tmp_path) as file:
        api = KubernetesApi.of_context("test", file)
        answer = api.change("POST", "/api/v1/namespaces/default/pods", {})
        assert (answer.ok, answer.code) == (False, 500)
        assert "panic" in answer.message


def test_a_change_that_is_taken_without_a_word_is_an_answer(tmp_path: Path) -> None:
    cluster = Cluster()
    with cluster.running(tmp_path) as file:
        api = KubernetesApi.of_context("test", file)
        answer = api.change("POST", "/api/v1/namespaces/eventing/services/broker:80/proxy/a", {})
        assert (answer.ok, answer.code, answer.body) == (True, 202, {})
