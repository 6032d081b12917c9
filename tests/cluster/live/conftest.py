"""A real cluster: the one in KUBECONFIG, and nothing where there is none.

    KUBECONFIG=… RELUME_TEST_IMAGE=REPOSITORY@sha256:… pytest -m cluster tests/cluster/live

Everything is made in a namespace of its own that goes at the end, but for what has none:
DeviceClasses, runtimes, a policy. Those go too, if the tests made them. RELUME_TEST_IMAGE is the
image of relume-vllm-cpu; without it nothing is run, only tried.
"""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relume.cluster.apply.api import ClusterApi, KubernetesApi
from relume.cluster.apply.applying import Choices, apply, plan_removal, remove
from relume.cluster.apply.manifests import ClusterManifest, ClusterWriter, Source
from relume.cluster.apply.settings import SettingsMissing
from relume.cluster.apply.waiting import Pace
from relume.cluster.doctor.online import ClusterReport, examine_cluster
from tests.cluster.apply.world import Told

Needs = Callable[..., None]
_INSTALL = {
    "serving.knative.dev/v1": "Knative Serving",
    "eventing.knative.dev/v1": "Knative Eventing",
    "serving.kserve.io/v1beta1": "KServe",
    "resource.k8s.io/v1": "DRA",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def api() -> KubernetesApi:
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("no cluster: KUBECONFIG is not set")
    pytest.importorskip("kubernetes")
    return KubernetesApi.of_context(None)


@pytest.fixture(scope="session")
def report(api: KubernetesApi) -> ClusterReport:
    return examine_cluster(api)


@pytest.fixture(scope="session")
def namespace(api: KubernetesApi) -> Iterator[str]:
    name = f"relume-test-{uuid.uuid4().hex[:8]}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    writer = ClusterWriter(api, "default")
    made = writer.apply(ClusterManifest(body, "the tests"), dry_run=False)
    assert made.ok, made.message
    yield name
    answer = api.change("DELETE", f"/api/v1/namespaces/{name}", {"propagationPolicy": "Background"})
    assert answer.ok, answer.message


@pytest.fixture
def writer(api: KubernetesApi, namespace: str) -> ClusterWriter:
    return ClusterWriter(api, namespace, force=True)


@pytest.fixture(scope="session")
def needs(api: KubernetesApi) -> Needs:
    """Skips a test where the cluster has not what it needs, and says what that is."""

    def check(*groups: str) -> None:
        for group in groups:
            if api.get(f"/apis/{group}") is None:
                pytest.skip(f"the cluster has no {_INSTALL.get(group, group)} ({group})")

    return check


@pytest.fixture(scope="session")
def image() -> str:
    found = os.environ.get("RELUME_TEST_IMAGE")
    if not found:
        pytest.skip("nothing is run: RELUME_TEST_IMAGE names no image of relume-vllm-cpu")
    return found


def until(what: str, true: Callable[[], bool], longest_s: float) -> None:
    """Wait for something on the cluster to become true."""
    pace = Pace()
    deadline = pace.now() + longest_s
    while not true():
        assert pace.now() < deadline, f"not within {longest_s:.0f} s: {what}"
        pace.sleep(1)


@contextmanager
def running(source: Source, writer: ClusterWriter) -> Iterator[Told]:
    """Apply, wait until it is ready, and take away again what was not there before.

    What is cluster-wide and there already is used as it is: the tests change nobody's runtimes.
    """
    own = [one for one in source.manifests if writer.placed(one).namespace or not writer.read(one)]
    source = Source(tuple(own), source.patches)
    told = Told()
    try:
        apply(source, writer, Choices(wait_s=1500), told, Pace())
        yield told
    except SettingsMissing:
        pytest.skip(f"the cluster lacks settings that only its administrator changes: {told.text}")
    finally:
        remove(plan_removal(source, writer), writer, told, Pace(), 300)


def count(api: ClusterApi, path: str) -> int:
    return len(api.list(path) or ())
