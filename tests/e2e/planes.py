"""A plane in a process of its own, driven from the outside only."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from relume.base.vocabulary import STREAM_SUBSCRIBED

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "config" / "samples"
ANSWERS = ("relume.inference.response", "relume.inference.error")
COMMAND = [sys.executable, "-m", "relume.cli.main"]


class Plane:
    """A running plane and everything that its event stream has told."""

    def __init__(self, process: subprocess.Popen[bytes], state: Path, log: Path) -> None:
        self.process = process
        self.state = state
        self.log = log
        self.records: list[dict[str, Any]] = []
        self.http = self.broker = ""
        self.client = httpx.Client(timeout=120, trust_env=False)
        self._subscribed = threading.Event()
        self._listening = threading.Thread(target=self._listen, daemon=True)

    @classmethod
    @contextmanager
    def up(cls, *files: Path, state: Path, args: tuple[str, ...] = ()) -> Iterator["Plane"]:
        """Start it on free ports; it is gone, with all its children, when the block ends."""
        log = state / "up.log"
        with log.open("wb") as out:
            words = ["up", *map(str, files), "--state", str(state), "--port", "0"]
            process = subprocess.Popen(
                [*COMMAND, *words, "--broker-port", "0", *args], stdout=out, stderr=out
            )
        plane = cls(process, state, log)
        try:
            plane._connect()
            yield plane
        finally:
            plane.stop()

    def _connect(self) -> None:
        self._poll(self._published, 60)
        self._listening.start()
        self._poll(self._subscribed.is_set, 60)  # a record from before is never told

    def _published(self) -> bool:
        """Whether it shows its addresses; a plane that was killed has left its file behind."""
        with suppress(FileNotFoundError):
            told = json.loads((self.state / "plane.json").read_text())
            self.http, self.broker = told["http"], told["broker"]
            return bool(told["pid"] == self.process.pid)
        return False

    def _listen(self) -> None:
        with (
            suppress(httpx.HTTPError),
            httpx.stream("GET", f"{self.http}/relume/events", timeout=None) as stream,
        ):
            for line in stream.iter_lines():
                if line == STREAM_SUBSCRIBED:
                    self._subscribed.set()
                elif line.startswith("data:"):
                    self.records.append(json.loads(line.removeprefix("data:")))

    def stop(self) -> int:
        """SIGTERM, and the exit status; SIGKILL after a minute. All records are read then."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
        status = self.process.wait()
        if self._listening.is_alive():
            self._listening.join(60)
        return status

    # Looking.

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.get(f"{self.http}/relume/status").json()
        return answer

    def service(self, name: str) -> dict[str, Any]:
        services = self.status()["serving"]["services"]
        return next(s for s in services if s["name"] == name)

    def until(self, reached: Callable[[dict[str, Any]], bool], within_s: float) -> None:
        self._poll(lambda: reached(self.status()), within_s)

    def until_busy(self, within_s: float = 120) -> None:
        """Wait until a request is with a predictor."""
        self.until(lambda s: any(x["in_flight"] for x in s["serving"]["services"]), within_s)

    def until_job(
        self, job_id: str, reached: Callable[[dict[str, Any]], bool], within_s: float = 120
    ) -> dict[str, Any]:
        """Ask for a job until it is as far; a store that is away (503) is asked again."""
        seen: list[dict[str, Any]] = []

        def asked() -> bool:
            answer = self.client.get(f"{self.http}/v1/jobs/{job_id}")
            assert answer.status_code in (200, 503), answer.text
            seen[:] = [answer.json()]
            return answer.status_code == 200 and reached(seen[0])

        self._poll(asked, within_s)
        return seen[0]

    def until_loading(self, name: str, within_s: float = 60) -> None:
        """Wait until a predictor is in a phase of its start."""
        self._poll(lambda: self.service(name)["phase"] is not None, within_s)

    def until_zero(self, name: str, within_s: float = 90) -> None:
        self._poll(lambda: self.service(name)["state"] == "zero", within_s)

    def _poll(self, reached: Callable[[], bool], within_s: float) -> None:
        until = time.monotonic() + within_s
        while not reached():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, f"not within {within_s} s\n{self.log.read_text()}"
            time.sleep(0.05)

    def child(self, name: str) -> psutil.Process:
        """The plane's child process of this name."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return next(c for c in children if name in c.name())

    def predictor_of(self, name: str, within_s: float = 60) -> int:
        """The pid of the only predictor, once one that still drains is gone."""
        self._poll(lambda: len(self.service(name)["pids"]) == 1, within_s)
        (pid,) = self.service(name)["pids"]
        return int(pid)

    def cold_starts(self, name: str) -> int:
        count: int = self.service(name)["cold_starts"]
        return count

    def cold_start_of(self, event_id: str, within_s: float = 60) -> dict[str, Any]:
        """The ledger's entry of the cold start that this event caused.

        The entry is complete only once the predictor was asked for its last phase, so it may come
        after the answer.
        """
        found: list[dict[str, Any]] = []

        def entered() -> bool:
            ledger = self.client.get(f"{self.http}/relume/coldstarts").json()
            found[:] = [entry for entry in ledger if entry["triggered_by"] == event_id]
            return bool(found)

        self._poll(entered, within_s)
        (entry,) = found
        return entry

    # Events.

    def post(self, broker: str, data: object, *, event_id: str | None = None, **more: str) -> str:
        """Post one event in binary mode and return its id; it must be accepted."""
        event_id = event_id or uuid.uuid4().hex
        headers = {
            "ce-specversion": "1.0",
            "ce-id": event_id,
            "ce-source": "/e2e",
            "ce-type": f"com.example.{broker}.request",
            "content-type": "application/json",
            **more,
        }
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        url = f"{self.broker}/default/{broker}"
        response = self.client.post(url, content=body, headers=headers)
        assert response.status_code == 202, response.text
        return event_id

    def answers(self, *ids: str) -> list[dict[str, Any]]:
        """The answers to these events that the Broker has stored, so far."""
        return [
            record["event"]
            for record in list(self.records)
            if record["stage"] == "accepted"
            and record["event"]["type"] in ANSWERS
            and record["event"].get("causationid") in ids
        ]

    def answers_to(self, *ids: str, within_s: float = 120) -> list[dict[str, Any]]:
        """One answer to each of these events, in their order; more than one is an error."""
        self._poll(lambda: {a["causationid"] for a in self.answers(*ids)} == set(ids), within_s)
        found = self.answers(*ids)
        counts = Counter(answer["causationid"] for answer in found)
        assert counts == Counter(ids), counts
        by_id = {answer["causationid"]: answer for answer in found}
        return [by_id[event_id] for event_id in ids]

    def attempts(self, event_id: str) -> int:
        """How often this event was sent to its subscriber."""
        return sum(
            record["stage"] == "delivering" and record["event"]["id"] == event_id
            for record in list(self.records)
        )

    def chat(self, text: str, **more: object) -> dict[str, object]:
        """The data of a request of the sample `summarize`."""
        messages = [{"role": "user", "content": text}]
        return {"messages": messages, "temperature": 0, "max_tokens": 12, **more}


def kill(pid: int) -> None:
    """SIGKILL: no warning."""
    os.kill(pid, signal.SIGKILL)
