"""`pytest -m cluster` itself, against a small API server: what it tries, and says of the rest."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.render.cases import CASES, rendered

from .cluster import Cluster

pytest.importorskip("kubernetes")
pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[3]


def outcome(
    kubeconfig: Path, *names: str, image: str | None = None, gateway: str | None = None
) -> str:
    files = [f"tests/cluster/live/test_{name}.py" for name in names]
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "cluster",
        "-p",
        "no:cacheprovider",
        *files,
    ]
    environment = os.environ | {"KUBECONFIG": str(kubeconfig)}
    environment.pop("RELUME_TEST_IMAGE", None)
    environment.pop("RELUME_TEST_GATEWAY_IMAGE", None)
    environment.pop("RELUME_TEST_NATS_URL", None)
    if image is not None:
        environment["RELUME_TEST_IMAGE"] = image
    if gateway is not None:
        environment["RELUME_TEST_GATEWAY_IMAGE"] = gateway
    done = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


@dataclass(frozen=True)
class Run:
    """The suite against one small API server: which of its files, and an image to run."""

    cluster: Cluster
    names: tuple[str, ...]
    image: str | None = None
    gateway: str | None = None


RUNS = {
    "without monitoring": Run(
        Cluster(missing={"monitoring.coreos.com/v1"}),
        ("dry_run", "shipped", "devices", "event", "gateway"),
    ),
    "refusing": Run(
        Cluster(refuse={("InferenceService", "chat"): (400, {"message": "not this one"})}),
        ("dry_run",),
    ),
    "without devices": Run(Cluster(), ("devices",), image="i@sha256:1"),
    "without a gateway": Run(Cluster(), ("gateway",), image="i@sha256:1"),
    "without NATS": Run(Cluster(), ("gateway",), image="i@sha256:1", gateway="g@sha256:1"),
}


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each run prints. They run together: each is a process that starts slowly."""

    def play(run: Run) -> str:
        with run.cluster.running(tmp_path_factory.mktemp("cluster")) as kubeconfig:
            return outcome(kubeconfig, *run.names, image=run.image, gateway=run.gateway)

    with ThreadPoolExecutor() as pool:
        return dict(zip(RUNS, pool.map(play, RUNS.values()), strict=True))


def test_it_tries_every_rendered_document_and_says_what_it_does_not_run(
    printed: dict[str, str],
) -> None:
    text, cluster = printed["without monitoring"], RUNS["without monitoring"].cluster
    assert " passed" in text and "failed" not in text and "error" not in text, text
    assert "the cluster does not serve monitoring.coreos.com/v1" in text
    assert "nothing is run: RELUME_TEST_IMAGE names no image" in text
    assert all("/namespaces/relume-test-" in path for path in cluster.written())
    assert not [path for path in cluster.objects if "relume-test-" in path], "nothing is left"


def test_a_document_that_the_server_refuses_is_a_failure(printed: dict[str, str]) -> None:
    text = printed["refusing"]
    refused = sum(
        (body["kind"], body["metadata"]["name"]) == ("InferenceService", "chat")  # type: ignore[call-overload,index]
        for case in CASES
        for bodies in rendered(case.name).documents.values()
        for body in bodies
        if "metadata" in body
    )
    assert refused >= 10
    assert "not this one" in text and f"{refused} failed" in text


def test_it_says_that_no_driver_publishes_a_device(printed: dict[str, str]) -> None:
    text = printed["without devices"]
    assert "no DRA driver publishes a device" in text and "2 skipped" in text


def test_it_says_what_a_jobs_gateway_would_need(printed: dict[str, str]) -> None:
    assert "RELUME_TEST_GATEWAY_IMAGE names no image" in printed["without a gateway"]
    assert "there is no Service nats/nats" in printed["without NATS"]
