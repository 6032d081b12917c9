"""kill -9 at the worst moment, and SIGTERM: every accepted event is still answered, once."""

from pathlib import Path

import psutil
import pytest
from planes import SAMPLES, Plane, kill

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]

BROKEN = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: broken}
spec:
  predictor:
    minReplicas: 0
    model:
      modelFormat: {name: vLLM}
      storageUri: hf://HuggingFaceTB/SmolLM2-135M-Instruct
      args: [--max-model-len=999999]
"""


def test_the_predictor_while_it_generates(plane: Plane) -> None:
    long = plane.chat("Tell me a story.", max_tokens=80, ignore_eos=True)
    ids = [plane.post("summarize", long) for _ in range(4)]
    plane.until_busy()
    kill(plane.predictor_of("summarize"))
    answers = plane.answers_to(*ids)
    assert {answer["type"] for answer in answers} == {"relume.inference.response"}
    assert any(plane.attempts(event_id) > 1 for event_id in ids)
    plane.until_zero("summarize")
    assert len(plane.answers(*ids)) == 4


def test_nats_server_while_events_wait_and_while_they_are_answered(plane: Plane) -> None:
    plane.until_zero("summarize")
    ids = [plane.post("summarize", plane.chat(f"Say {n}.")) for n in range(6)]
    kill(plane.child("nats-server").pid)  # the model loads: all six wait
    ids += [plane.post("summarize", plane.chat(f"Say {n}.")) for n in range(6, 10)]
    plane.until_busy()
    kill(plane.child("nats-server").pid)  # answers are on their way
    plane.answers_to(*ids)
    plane.until_zero("summarize")
    assert len(plane.answers(*ids)) == 10


def test_the_template_and_with_it_its_predictors(plane: Plane) -> None:
    event_id = plane.post("summarize", plane.chat("Tell me.", max_tokens=60, ignore_eos=True))
    plane.until_busy()
    kill(plane.status()["template"]["pid"])
    plane.answers_to(event_id)


@pytest.mark.parametrize("process", ["template", "server"])
def test_each_process_of_a_start_while_the_model_loads(plane: Plane, process: str) -> None:
    plane.until_zero("summarize")
    plane.until(lambda s: s["template"]["state"] == "ready", 120)
    event_id = plane.post("summarize", plane.chat("Hello"))
    plane.until_loading("summarize")
    if process == "template":
        kill(plane.status()["template"]["pid"])
    else:
        kill(plane.predictor_of("summarize"))
    plane.answers_to(event_id)


def test_a_predictor_that_cannot_load_fails_what_is_held_and_says_why(tmp_path: Path) -> None:
    manifest = tmp_path / "broken.yaml"
    manifest.write_text(BROKEN)
    with Plane.up(manifest, state=tmp_path, args=("--no-template",)) as plane:
        url = f"{plane.http}/serving/default/broken/v1/chat/completions"
        answer = plane.client.post(url, json=plane.chat("Hello"))
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["reason"] == "predictor-failed"
        service = plane.service("broken")
        assert service["state"] == "failed"
        assert "max_model_len" in "\n".join(service["log_tail"])
        assert plane.client.post(url, json=plane.chat("Hello")).status_code == 503
        assert plane.cold_starts("broken") == 2


# The last test of the package: it ends the plane that all of them share.
def test_sigterm_drains_and_leaves_nothing_running(plane: Plane) -> None:
    plane.until(lambda s: s["template"]["state"] == "ready", 120)
    event_id = plane.post("summarize", plane.chat("Hello"))
    plane.until(lambda _: plane.attempts(event_id) == 1, 60)
    family = psutil.Process(plane.process.pid).children(recursive=True)
    assert plane.stop() == 0
    # The kernel kills a child of a child together with its parent, but not in the same instant.
    assert psutil.wait_procs(family, timeout=20)[1] == []
    if not plane.answers(event_id):  # given back when the drain began: the next plane answers it
        with Plane.up(SAMPLES / "summarize.yaml", state=plane.state) as another:
            another.answers_to(event_id)
