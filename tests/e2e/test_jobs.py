"""Jobs on the real model whose processes are killed, and the command.

The calls of `docs/jobs.md`, with what they answer, are run by `tests/docs`.
"""

import json
import re
import subprocess
from typing import Any

import pytest
from planes import COMMAND, Plane, kill

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]

ASYNC = {"Prefer": "respond-async"}


def submit(plane: Plane, **body: Any) -> str:
    url = f"{plane.http}/serving/default/summarize/v1/chat/completions"
    answer = plane.client.post(url, json=plane.chat("Tell me a story.", **body), headers=ASYNC)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def text_of(plane: Plane, job_id: str, after: int = 0) -> str:
    """The text that the stream of a job shows behind a position."""
    headers = {"Last-Event-ID": str(after)} if after else {}
    stream = plane.client.get(f"{plane.http}/v1/jobs/{job_id}/events", headers=headers).text
    blocks = [block.partition("\ndata: ") for block in stream.split("\n\n")]
    parts = [data for head, _, data in blocks if re.fullmatch(r"id: \d+", head)]
    assert re.search(r"^event: completed$", stream, re.MULTILINE), stream[-300:]
    deltas = [json.loads(part)["choices"] for part in parts if part != "[DONE]"]
    return "".join(each[0]["delta"].get("content") or "" for each in deltas if each)


def test_a_cancelled_job_ends_in_the_engine(plane: Plane) -> None:
    job_id = submit(plane, max_tokens=1500, ignore_eos=True, stream=True)
    plane.until_job(job_id, lambda job: job["status"] == "streaming")
    answer = plane.client.post(f"{plane.http}/v1/jobs/{job_id}/cancel")
    assert answer.json()["status"] == "cancelled"
    plane.until(lambda s: not any(x["in_flight"] for x in s["serving"]["services"]), 60)


def test_a_job_goes_on_when_its_predictor_and_nats_server_are_killed(plane: Plane) -> None:
    job_id = submit(plane, max_tokens=120, ignore_eos=True, stream=True)
    plane.until_job(job_id, lambda job: job["status"] == "streaming")
    kill(plane.child("nats-server").pid)
    kill(plane.predictor_of("summarize"))
    job = plane.until_job(job_id, lambda job: job["settled_at"] is not None, 200)
    assert (job["status"], job["reason"]) == ("completed", "")
    assert job["attempts"] >= 2
    assert job["usage"]["completion_tokens"] == 120
    result = plane.client.get(f"{plane.http}/v1/jobs/{job_id}/result").json()
    assert result["choices"][0]["message"]["content"] == text_of(plane, job_id)


def test_the_command_submits_and_watches(plane: Plane) -> None:
    line = ["jobs", "submit", "--service", "default/summarize", "--chat", "What is a GPU?"]
    words = [*COMMAND, *line, "--max-tokens", "20", "--watch", "--url", plane.http]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    job_id = re.findall(r"job_[a-z2-7]{24}", done.stderr)[0]
    explain = [*COMMAND, "explain", job_id, "--url", plane.http]
    told = subprocess.run(explain, capture_output=True, text=True, timeout=100)
    assert f"{job_id}: completed after" in told.stdout
