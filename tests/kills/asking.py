"""Requests that are under way while a process is killed, and what each of them got."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

LONGEST_S = 150.0  # for one request; longer than any start on a busy machine


@dataclass
class Answer:
    """What one request got. `cut`: the connection broke off."""

    kind: str
    wanted: int
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""
    cut: str = ""
    deltas: int = 0
    accepted: str | None = None
    """The id of the event or job, once it was accepted."""

    @property
    def whole(self) -> bool:
        """All of the answer came, and its end as well."""
        if self.status != 200 or self.cut:
            return False
        if self.kind == "call":
            return True
        if self.kind == "plain":
            return bool(json.loads(self.text)["usage"]["completion_tokens"] == self.wanted)
        return not self.error and self.text.rstrip().endswith("data: [DONE]") and self._all_tokens

    @property
    def error(self) -> dict[str, Any] | None:
        """The error of an answer, whether it is the body or an event in a stream."""
        candidates = [self.text, *(part.removeprefix("data: ") for part in self.text.split("\n"))]
        for candidate in candidates:
            try:
                parsed = json.loads(candidate)
            except ValueError:
                continue
            if isinstance(parsed, dict) and "error" in parsed:
                return parsed
        return None

    @property
    def words(self) -> str:
        """The outcome in a few words."""
        if self.whole:
            return "200"
        if self.kind in ("event", "job"):
            return f"accepted as {self.accepted}" if self.accepted else self.cut or str(self.status)
        error = self.error or {}
        reason = error.get("reason") or error.get("error", {}).get("type")
        if self.status == 200 and error:
            return f"error event {reason}"
        if self.cut:
            return f"cut after {self.deltas} parts" if self.status else "connection cut"
        return f"{self.status} {reason}"

    @property
    def told_to_come_back(self) -> bool:
        """It failed before it began, with the reason and the time of the next try."""
        told = self.error is not None and bool(self.error.get("reason"))
        return self.status == 503 and told and int(self.headers.get("retry-after", "0")) >= 1

    @property
    def told_that_it_failed(self) -> bool:
        """A client cannot take it for a good answer, and is told why where that was possible."""
        if self.status == 200:
            return bool(self.cut) or self.error is not None
        return self.status in (502, 503) and self.error is not None and "reason" in self.error

    @property
    def _all_tokens(self) -> bool:
        usages = [json.loads(line[6:]) for line in self.text.split("\n") if '"usage":{' in line]
        return bool(usages) and usages[-1]["usage"]["completion_tokens"] == self.wanted


class Asked:
    """The requests of one case, each in a thread of its own."""

    def __init__(self, http: str, broker: str, service: str) -> None:
        self.answers: dict[str, Answer] = {}
        self._url = f"{http}/serving/default/{service}"
        self._broker = f"{broker}/default/asked"
        self._service = service
        self._threads: list[threading.Thread] = []

    def ask(self, kind: str, tokens: int, event_id: str = "") -> Answer:
        """Send one: `plain`, `stream`, `beating` (a stream with heartbeats), `event`, `job`.

        `call` is an event that is posted to the service itself, as to a function.
        """
        answer = self.answers[kind] = Answer(kind, tokens)
        send: dict[str, Callable[[httpx.Client], None]] = {
            "plain": lambda client: self._send(client, answer, {}),
            "stream": lambda client: self._send(client, answer, {}),
            "beating": lambda client: self._send(client, answer, {"prefer": "heartbeat=1"}),
            "job": lambda client: self._send(client, answer, {"prefer": "respond-async"}),
            "event": lambda client: self._post(client, answer, self._broker, event_id),
            "call": lambda client: self._post(client, answer, self._url, event_id),
        }
        thread = threading.Thread(target=_run, args=(send[kind], answer), daemon=True)
        thread.start()
        self._threads.append(thread)
        return answer

    def move(self, http: str, broker: str) -> None:
        """Ask another plane from now on."""
        self._url = f"{http}/serving/default/{self._service}"
        self._broker = f"{broker}/default/asked"

    def wait(self) -> None:
        """Until each has its answer."""
        for thread in self._threads:
            thread.join(LONGEST_S)
            assert not thread.is_alive(), "a request got no answer"

    def _send(self, client: httpx.Client, answer: Answer, headers: dict[str, str]) -> None:
        body = chat(answer.wanted)
        if answer.kind in ("stream", "beating"):
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        url = f"{self._url}/v1/chat/completions"
        with client.stream("POST", url, json=body, headers=headers) as response:
            answer.headers = dict(response.headers)
            answer.status = response.status_code
            for text in response.iter_text():
                answer.text += text
                answer.deltas = answer.text.count('"delta"')
        if answer.kind == "job" and answer.status == 202:
            answer.accepted = json.loads(answer.text)["id"]

    def _post(self, client: httpx.Client, answer: Answer, url: str, event_id: str) -> None:
        headers = event_headers(event_id, f"com.example.{self._service}.request")
        response = client.post(url, json=chat(answer.wanted), headers=headers)
        answer.status, answer.text = response.status_code, response.text
        answer.headers = dict(response.headers)
        if answer.status == 202:
            answer.accepted = event_id


def event_headers(event_id: str, event_type: str) -> dict[str, str]:
    """An event in binary mode."""
    ours = {"ce-specversion": "1.0", "ce-id": event_id, "ce-source": "/kills"}
    return {**ours, "ce-type": event_type, "content-type": "application/json"}


def chat(tokens: int) -> dict[str, Any]:
    """A chat whose answer has exactly so many tokens."""
    messages = [{"role": "user", "content": "Tell me a story."}]
    more = {"temperature": 0, "max_tokens": tokens, "ignore_eos": True}
    return {"messages": messages, **more}


def _run(send: Callable[[httpx.Client], None], answer: Answer) -> None:
    try:
        with httpx.Client(timeout=LONGEST_S, trust_env=False) as client:
            send(client)
    except httpx.HTTPError as error:
        answer.cut = repr(error)
