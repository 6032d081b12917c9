"""`pytest -m cluster` itself, against a small API server: what it tries, and says of the rest."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .cluster import Cluster

pytest.importorskip("kubernetes")
ROOT = Path(__file__).parents[3]


def outcome(kubeconfig: Path, *names: str, image: str | None = None) -> str:
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
    if image is not None:
        environment["RELUME_TEST_IMAGE"] = image
    done = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_it_tries_every_rendered_document_and_says_what_it_does_not_run(tmp_path: Path) -> None:
    cluster = Cluster(missing={"monitoring.coreos.com/v1"})
    with cluster.running(tmp_path) as kubeconfig:
        text = outcome(kubeconfig, "dry_run", "shipped", "devices", "event")
    assert " passed" in text and "failed" not in text and "error" not in text, text
    assert "the cluster does not serve monitoring.coreos.com/v1" in text
    assert "nothing is run: RELUME_TEST_IMAGE names no image" in text
    assert all("/namespaces/relume-test-" in path for path in cluster.written())
    assert not [path for path in cluster.objects if "relume-test-" in path], "nothing is left"


def test_a_document_that_the_server_refuses_is_a_failure(tmp_path: Path) -> None:
    cluster = Cluster(refuse={("InferenceService", "chat"): (400, {"message": "not this one"})})
    with cluster.running(tmp_path) as kubeconfig:
        text = outcome(kubeconfig, "dry_run")
    assert "not this one" in text and "7 failed" in text


def test_it_says_that_no_driver_publishes_a_device(tmp_path: Path) -> None:
    with Cluster().running(tmp_path) as kubeconfig:
        text = outcome(kubeconfig, "devices", image="i@sha256:1")
    assert "no DRA driver publishes a device" in text and "2 skipped" in text
