"""Who waits for a model at zero is told so meanwhile, and afterwards why it took so long."""

import json
import subprocess
import threading
import time
from typing import Any

import openai
import pytest
from planes import COMMAND, Plane

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]

QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]
BODY = {"model": "summarize", "messages": QUESTION, "stream": True, "max_tokens": 12}
USAGE: Any = {"include_usage": True}


def curled(plane: Plane) -> subprocess.Popen[str]:
    """A request of curl, whose output is read line by line."""
    headers = ("-H", "Prefer: heartbeat=1", "-H", "Content-Type: application/json")
    url = f"{plane.http}/openai/v1/chat/completions"
    words = ["curl", "-siN", url, *headers, "-d", json.dumps(BODY)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def streamed(plane: Plane, said: list[Any]) -> None:
    """The parts of a stream of OpenAI's SDK."""
    url = f"{plane.http}/openai/v1"
    with openai.OpenAI(base_url=url, api_key="-", max_retries=0, timeout=30) as client:
        said += client.chat.completions.create(
            model="summarize",
            messages=QUESTION,
            temperature=0,
            max_tokens=12,
            stream=True,
            stream_options=USAGE,
            extra_headers={"Prefer": "heartbeat=1"},
        )


def explained(plane: Plane, event_id: str) -> dict[str, Any]:
    words = [*COMMAND, "explain", event_id, "-o", "json", "--url", plane.http]
    done = subprocess.run(words, capture_output=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_curl_the_sdk_and_an_event_wait_for_the_same_start(plane: Plane) -> None:
    plane.until_zero("summarize")
    posted = time.monotonic()
    event_id = plane.post("summarize", plane.chat("What is a GPU?"))
    said: list[Any] = []
    asking = threading.Thread(target=streamed, args=(plane, said))
    asking.start()
    with curled(plane) as curl:
        assert curl.stdout is not None
        first = curl.stdout.readline()
        state = plane.service("summarize")["state"]
        assert ("200 OK" in first, state) == (True, "starting"), "headers come at once"
        plane.answers_to(event_id)
        wall_ms = (time.monotonic() - posted) * 1000
        lines = [line.strip() for line in curl.stdout if line.strip()]
    asking.join(60)

    told = lines[lines.index("preference-applied: heartbeat=1") :]
    body = [line for line in told if line.startswith((":", "data: "))]
    begins = next(i for i, line in enumerate(body) if line.startswith("data: "))
    assert all(line.startswith(": starting") for line in body[: begins - 1]) and begins >= 2
    assert body[begins - 1].startswith(": running relume-queue-ms=")
    assert all(line.startswith("data: ") for line in body[begins:]) and body[-1] == "data: [DONE]"

    words = "".join(part.choices[0].delta.content or "" for part in said if part.choices)
    assert "Paris" in words and said[-1].usage.completion_tokens > 0

    plane.cold_start_of(event_id)
    life = explained(plane, event_id)
    assert sum(life["spent_ms"].values()) == pytest.approx(life["total_ms"])
    # What is between the two is the way of a request and of a record; a start takes longer.
    assert 0 <= wall_ms - life["total_ms"] < 1000
    assert life["spent_ms"]["start: weights"] > 0 and life["still"] is None
