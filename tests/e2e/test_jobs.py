"""Jobs on the real model: the README line by line, and jobs whose processes are killed."""

import json
import re
import shutil
import subprocess
import time
from typing import Any

import pytest
from planes import COMMAND, ROOT, Plane, kill

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]

_DEFAULT = "http://127.0.0.1:8080"
ASYNC = {"Prefer": "respond-async"}


def readme_lines() -> list[str]:
    """The curl lines of the README's section on jobs, each in one line."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("### Jobs\n")[1]
    blocks = re.findall(r"```\n(.*?)```", section.split("\n### ")[0], re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("curl ")]


def ask(plane: Plane, line: str, job_id: str = "") -> tuple[int, str]:
    """Run one line as it is written, with this plane's address and this job's id."""
    assert shutil.which("curl"), "this test runs the README's lines: install curl"
    written = line.replace(_DEFAULT, plane.http).replace("$ID", job_id).partition("   #")[0]
    # The last line of what it writes is the status.
    words = written.replace("curl ", "curl -s -w '\\n%{http_code}' ", 1).replace(" -i ", " ")
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, timeout=120)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


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


def test_the_lines_of_the_readme_from_zero(plane: Plane) -> None:
    plane.until_zero("summarize")
    asked, events, wait, result, cancel, retry, retried, delete, event = readme_lines()
    status, body = ask(plane, asked)
    assert status == 202
    job_id = json.loads(body)["id"]
    status, again = ask(plane, asked)
    assert (status, json.loads(again)["id"]) == (202, job_id), "the same key is the same job"
    status, other = ask(plane, asked.replace("a GPU", "a CPU"))
    assert (status, json.loads(other)["reason"]) == (409, "key-in-use")
    status, stream = ask(plane, events, job_id)
    assert status == 200 and "event: completed" in stream
    status, shown = ask(plane, wait, job_id)
    job = json.loads(shown)
    assert (status, job["status"]) == (200, "completed")
    assert job["usage"]["completion_tokens"] > 0
    status, answer = ask(plane, result, job_id)
    assert status == 200
    text = json.loads(answer)["choices"][0]["message"]["content"]
    assert text_of(plane, job_id).strip() == text.strip()
    assert ask(plane, cancel, job_id)[0] == ask(plane, retry, job_id)[0] == 409, "it has an answer"
    running = submit(plane, max_tokens=60, ignore_eos=True)
    status, cancelled = ask(plane, cancel, running)
    assert (status, json.loads(cancelled)["status"]) == (200, "cancelled")
    assert ask(plane, retry, running)[0] == 202
    status, shown = ask(plane, retried, running)
    assert (status, json.loads(shown)["status"]) == (200, "completed")
    assert ask(plane, delete, running)[0] == 204
    assert ask(plane, result, running)[0] == 410
    assert ask(plane, event)[0] == 202
    (reply,) = plane.answers_to("6")
    assert reply["type"] == "relume.inference.response"
    assert ask(plane, event)[0] == 202
    time.sleep(1)
    assert len(plane.answers("6")) == 1


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
