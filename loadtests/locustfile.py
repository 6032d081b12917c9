"""Load on a running plane: producers of events, and callers who stream. Bounded: it ends by itself.

    relume up config/samples/summarize.yaml
    locust -f loadtests/locustfile.py --headless -u 8 -r 2 -t 60s --host http://127.0.0.1:8080
    locust -f loadtests/locustfile.py --headless -u 8 -r 2 -t 60s Producer

An event counts as done when the Broker has stored it (202); a stream when `[DONE]` has come.
"""

import json
import uuid

from locust import HttpUser, between, task

BROKER = "http://127.0.0.1:8081/default/summarize"
MESSAGES = [{"role": "user", "content": "In one sentence: what is a GPU?"}]


class Producer(HttpUser):
    """Posts events to the Broker of the sample."""

    host = "http://127.0.0.1:8080"
    wait_time = between(0.5, 2)

    @task
    def post_event(self) -> None:
        """One event in binary mode."""
        headers = {
            "ce-specversion": "1.0",
            "ce-id": uuid.uuid4().hex,
            "ce-source": "/loadtests",
            "ce-type": "com.example.summarize.request",
            "content-type": "application/json",
        }
        data = json.dumps({"messages": MESSAGES, "max_tokens": 16})
        with self.client.post(
            BROKER, data, headers=headers, name="event", catch_response=True
        ) as answer:
            if answer.status_code != 202:
                answer.failure(f"{answer.status_code}: {answer.text[:200]}")


class Caller(HttpUser):
    """Streams a chat through the OpenAI base URL."""

    host = "http://127.0.0.1:8080"
    wait_time = between(0.5, 2)

    @task
    def stream_chat(self) -> None:
        """One streamed chat, read to its end."""
        body = {"model": "summarize", "messages": MESSAGES, "max_tokens": 16, "stream": True}
        with self.client.post(
            "/openai/v1/chat/completions", json=body, name="chat", stream=True, catch_response=True
        ) as answer:
            lines = [line for line in answer.iter_lines() if line]
            if not lines or lines[-1] != b"data: [DONE]":
                answer.failure("the stream broke off")
