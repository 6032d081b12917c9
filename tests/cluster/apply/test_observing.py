"""Why a pod is not ready, from what a kubelet writes into its status."""

from typing import Any

import pytest

from relume.cluster.apply.observing import observe
from tests.cluster.apply import world

pytest.importorskip("kubernetes")

BACK_OFF = {
    "reason": "CrashLoopBackOff",
    "message": "back-off 5m0s restarting failed container=kserve-container pod=chat-00001",
}
LOG = (
    "INFO loading\nrelume: device-missing: 1 wanted, none visible\nINFO the last line of the log\n"
)


class Pods:
    """A cluster with one service and one pod."""

    def __init__(self, **status: Any) -> None:
        running: dict[str, Any] = {"name": "kserve-container", **status}
        pod = world.pod(ready=False)
        pod["status"] |= {"phase": "Running", "containerStatuses": [running]}
        self._pod = pod

    def list(self, path: str, **_: str) -> list[Any] | None:
        service = {"metadata": {"name": "chat", "namespace": "models"}}
        return {"inferenceservices": [service], "pods": [self._pod]}.get(path.split("/")[-1])

    def get(self, path: str) -> None:
        raise AssertionError(path)

    def allowed(self, *_: str) -> bool:
        raise AssertionError

    def change(self, *_: Any, **__: Any) -> Any:
        raise AssertionError


def ended(message: str) -> dict[str, Any]:
    return {"terminated": {"reason": "Error", "exitCode": 1, "message": message}}


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (
            {"state": {"waiting": BACK_OFF}, "lastState": ended(LOG)},
            "kserve-container: CrashLoopBackOff: relume: device-missing: 1 wanted, none visible",
        ),
        (
            {"state": {"waiting": BACK_OFF}, "lastState": ended("Traceback:\nValueError: no\n\n")},
            "kserve-container: CrashLoopBackOff: ValueError: no",
        ),
        (
            {"state": {"waiting": BACK_OFF}, "lastState": ended("")},
            f"kserve-container: CrashLoopBackOff: {BACK_OFF['message']}",
        ),
        (
            {"state": {"running": {}}, "lastState": ended(LOG)},
            "kserve-container: Error: relume: device-missing: 1 wanted, none visible",
        ),
        (
            {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}},
            "kserve-container: ImagePullBackOff: no such image",
        ),
    ],
)
def test_a_container_that_ends_again_and_again_says_why_it_ended(
    status: dict[str, Any], why: str
) -> None:
    (pod,) = observe(Pods(**status), "models").pods
    assert pod.why == why
