"""A client of the gateways: it submits jobs until somebody says 202, and notes what was accepted.

It sends a request again under the same key, to the next gateway, whenever it is not told that the
job is stored. What it notes is what it was told, and nothing else.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.jobs_outside.script import Script

_PAUSE_S = 0.05
_ANSWER_S = 15.0


class Client:
    """Submits to gateways in turn; `journal` has a line of JSON for each accepted job."""

    def __init__(
        self, gateways: Sequence[str], journal: Path, service: str = "default/stub"
    ) -> None:
        self.gateways = list(gateways)
        self.journal = journal
        self.refused = 0
        self.last = "nothing was asked"  # the last request and its answer, in words
        self.accepted: dict[str, str] = {}  # job id by the script's name
        self._service = service
        self._turn = 0
        self._file = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.http = httpx.AsyncClient(timeout=_ANSWER_S, trust_env=False)

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()
        os.close(self._file)

    def note(self, **told: object) -> None:
        """One line more in the journal."""
        os.write(self._file, f"{json.dumps(told)}\n".encode())

    async def submit(
        self,
        script: Script,
        *,
        ends: Sequence[str] = ("completed",),
        headers: Mapping[str, str] | None = None,
        chat: bool = True,
        stream: bool = True,
        **more: object,
    ) -> str:
        """Post a job until it is accepted; its id. Raises AssertionError for another answer."""
        body = request_of(script, chat=chat, stream=stream) | more
        path = f"/serving/{self._service}/v1/{'chat/' if chat else ''}completions"
        head = {"Prefer": "respond-async", "Idempotency-Key": script.job, **(headers or {})}
        answer = await self.until_stored(path, json.dumps(body).encode(), head)
        job: str = answer.json()["id"]
        self.accepted[script.job] = job
        self.note(id=job, prompt=script.prompt(), ends=list(ends), streamed=stream)
        return job

    async def send(self, script: Script, *, ends: Sequence[str] = ("completed",)) -> str:
        """Post the job as an event until it is accepted; the job's id."""
        head = {
            "ce-specversion": "1.0",
            "ce-id": script.job,
            "ce-source": "/client",
            "ce-type": "com.example.ask",
        }
        path = f"/events/{self._service}/v1/chat/completions?broker=default/b"
        body = json.dumps(request_of(script, chat=True, stream=False)).encode()
        answer = await self.until_stored(path, body, head)
        job = answer.headers["location"].rpartition("/")[2]
        self.accepted[script.job] = job
        self.note(id=job, prompt=script.prompt(), ends=list(ends), event=script.job, streamed=False)
        return job

    async def until_stored(
        self, path: str, body: bytes, headers: Mapping[str, str]
    ) -> httpx.Response:
        """The answer 202, or 200 of a job that was stored and settled before."""
        while True:
            with self._noting("POST", path):
                head = {"Content-Type": "application/json", **headers}
                answer = await self.http.post(self.next() + path, content=body, headers=head)
                self.last = f"POST {path}: {answer.status_code} {answer.text[:200]}"
                if answer.status_code in (200, 202):
                    return answer
                assert answer.status_code in (429, 503), (answer.status_code, answer.text)
                self.refused += 1
            await asyncio.sleep(_PAUSE_S)

    async def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """The first answer from any gateway that is not 503."""
        while True:
            with self._noting(method, path):
                answer = await self.http.request(method, self.next() + path, **more)
                self.last = f"{method} {path}: {answer.status_code} {answer.text[:200]}"
                if answer.status_code != 503:
                    return answer
            await asyncio.sleep(_PAUSE_S)

    async def settled(self, job: str) -> Mapping[str, Any]:
        """The job when it has settled."""
        while True:
            answer = await self.ask("GET", f"/v1/jobs/{job}?wait=5")
            assert answer.status_code == 200, (answer.status_code, answer.text)
            told: Mapping[str, Any] = answer.json()
            if told["settled_at"] is not None:
                return told

    @contextlib.contextmanager
    def _noting(self, method: str, path: str) -> Iterator[None]:
        """Go on where nobody has answered, and note what was asked."""
        self.last = f"{method} {path}: no answer yet"
        try:
            yield
        except httpx.TransportError as error:
            self.last = f"{method} {path}: {error!r}"

    def next(self) -> str:
        """The base URL of the gateway whose turn it is."""
        self._turn += 1
        return self.gateways[self._turn % len(self.gateways)]


def request_of(script: Script, *, chat: bool, stream: bool) -> dict[str, Any]:
    """The body of an OpenAI request for this script."""
    asked: dict[str, Any] = {"model": "stub"}
    if chat:
        asked["messages"] = [{"role": "user", "content": script.prompt()}]
    else:
        asked["prompt"] = f"{script.prompt()}\n"
    if stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    return asked
