"""A plane with one function that can do everything wrong: what the plane makes of each fault.

The function is tests/function/all; its environment is the one with the fake of func-python, which
`test_server.py` holds to the same contract as the real one.
"""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from relume.config import load
from relume.plane.launch import check
from relume.plane.local import LocalPlane, PlaneSettings
from relume.runtimes.function.environments import EnvironmentNotMade
from relume.runtimes.models.store import ModelStore

from .conftest import ALL

MANIFESTS = """\
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {{name: b}}
spec:
  delivery:
    retry: 2
    backoffDelay: PT0.05S
    deadLetterSink: {{ref: {{apiVersion: eventing.knative.dev/v1, kind: Broker, name: dead}}}}
---
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {{name: dead}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: ask}}
spec:
  broker: b
  filters:
  - not: {{any: [{{exact: {{type: told}}}}, {{exact: {{type: survived}}}}]}}
  subscriber: {{ref: {{apiVersion: serving.knative.dev/v1, kind: Service, name: all}}}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: answers}}
spec:
  broker: b
  filters: [{{any: [{{exact: {{type: told}}}}, {{exact: {{type: survived}}}}]}}]
  subscriber: {{uri: {collector}}}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {{name: dead}}
spec:
  broker: dead
  subscriber: {{uri: {collector}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: keys}}
stringData: {{token: s3cret}}
---
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {{name: all}}
spec:
  template:
    metadata:
      annotations: {{autoscaling.knative.dev/max-scale: "1"}}
    spec:
      containerConcurrency: 8
      timeoutSeconds: {timeout}
      containers:
      - image: dev.local/all
        resources: {{limits: {{memory: 150Mi}}}}
        env:
        - {{name: SECRETS, value: /etc/keys}}
        - {{name: SCRATCH, value: {scratch}}}
        - {{name: TOKEN, valueFrom: {{secretKeyRef: {{name: keys, key: token}}}}}}
---
apiVersion: sources.knative.dev/v1
kind: SinkBinding
metadata: {{name: all-to-b}}
spec:
  subject: {{apiVersion: serving.knative.dev/v1, kind: Service, name: all}}
  sink: {{ref: {{apiVersion: eventing.knative.dev/v1, kind: Broker, name: b}}}}
"""
VOLUMES = """\
run:
  volumes:
  - secret: keys
    path: /etc/keys
"""


class Stage:
    """A plane that runs, and the events that its Triggers brought to the collector."""

    def __init__(self, plane: LocalPlane, collected: asyncio.Queue[dict[str, Any]]) -> None:
        self.plane, self.collected = plane, collected

    async def send(self, kind: str, number: str = "1", **more: str) -> None:
        headers = {"ce-id": number, "ce-source": "test", "ce-type": kind, "ce-specversion": "1.0"}
        headers |= {f"ce-{name}": value for name, value in more.items()}
        async with httpx.AsyncClient(timeout=60) as client:
            answer = await client.post(f"{self.plane.broker}/default/b", headers=headers)
        assert answer.status_code == 202, answer.text

    async def warm(self) -> None:
        """Start the function, so that a short timeout is about its work alone."""
        event = {"ce-id": "0", "ce-source": "s", "ce-type": "tell", "ce-specversion": "1.0"}
        url = f"{self.plane.http}/serving/default/all/"
        async with httpx.AsyncClient(timeout=60) as client, asyncio.timeout(60):
            while (await client.post(url, headers=event)).status_code != 200:
                await asyncio.sleep(0.1)

    async def came(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.collected.get(), 60)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():
                await asyncio.sleep(0.02)

    def service(self) -> dict[str, Any]:
        status: Any = self.plane.status()
        return status["serving"]["services"][0]

    def trigger(self, name: str) -> dict[str, Any]:
        status: Any = self.plane.status()
        return next(t for t in status["eventing"]["triggers"] if t["name"] == name)


Staging = Callable[..., Any]


@pytest.fixture
def stage(tmp_path: Path, fake_environments: Path) -> Staging:
    @asynccontextmanager
    async def run(requirement: str | None = None, timeout: int = 30) -> AsyncIterator[Stage]:
        folder = shutil.copytree(ALL, tmp_path / "all")
        with (folder / "func.yaml").open("a") as file:
            file.write(VOLUMES)
        if requirement is not None:
            project = folder / "pyproject.toml"
            text = project.read_text()
            project.write_text(text.replace("= []", f'= ["{requirement}"]'))
        collected: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

        async def collect(request: web.Request) -> web.Response:
            attributes = {
                k.lower(): v for k, v in request.headers.items() if k.lower()[:3] == "ce-"
            }
            collected.put_nowait({**attributes, "data": await request.text()})
            return web.Response(status=202)

        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/", collect)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        collector = "http://{}:{}/".format(*runner.addresses[0][:2])
        manifests = tmp_path / "m.yaml"
        manifests.write_text(
            MANIFESTS.format(collector=collector, scratch=tmp_path, timeout=timeout)
        )
        plan = load([manifests, folder])
        store = ModelStore(fake_environments.with_name("models"))
        environments = store.root.with_name("functions")
        if not environments.exists():
            environments.symlink_to(fake_environments)
        check(plan, store)
        settings = PlaneSettings(tmp_path / "state", port=0, broker_port=0, grace_s=5)
        try:
            async with LocalPlane(plan, settings, store).running() as plane:
                yield Stage(plane, collected)
        finally:
            await runner.cleanup()

    return run


async def test_its_first_event_starts_it_and_its_start_is_in_the_ledger(
    stage: Staging, tmp_path: Path
) -> None:
    async with stage() as s:
        assert s.service()["state"] == "zero"
        await s.send("tell")
        answer = await s.came()
        told = json.loads(answer["data"])
        assert (answer["ce-type"], answer["ce-source"]) == ("told", "/all")
        assert told["K_SERVICE"] == told["K_CONFIGURATION"] == "all"
        assert told["K_REVISION"] == "all-00001"
        assert told["TOKEN"] == "s3cret"
        assert told["NATS_URL"].startswith("nats://")
        assert told["K_SINK"] == f"{s.plane.broker}/default/b"
        assert told["LISTEN_ADDRESS"] == f"127.0.0.1:{told['PORT']}"
        assert s.service()["state"] == "ready"
    (line,) = (tmp_path / "state" / "coldstarts.jsonl").read_text().splitlines()
    entry = json.loads(line)
    assert (entry["service"], entry["outcome"], entry["started"]) == ("all", "ready", "fresh")
    assert entry["triggered_by"] == "1"
    assert entry["process"] > entry["environment"] >= 0
    assert entry["ready"] >= entry["process"]


async def test_a_secret_is_a_folder_of_files_that_goes_with_the_plane(
    stage: Staging, tmp_path: Path
) -> None:
    async with stage() as s:
        await s.send("files")
        answer = await s.came()
        assert json.loads(answer["data"]) == {"token": "s3cret"}
        (file,) = (tmp_path / "state" / "mounts").rglob("token")
        assert file.stat().st_mode & 0o077 == 0
    assert not (tmp_path / "state" / "mounts").exists()


async def test_it_answers_over_http_by_its_path_and_by_its_host(stage: Staging) -> None:
    event = {"ce-id": "1", "ce-source": "s", "ce-type": "tell", "ce-specversion": "1.0"}
    async with stage() as s, httpx.AsyncClient(timeout=30) as client:
        by_path = await client.post(f"{s.plane.http}/serving/default/all/", headers=event)
        hosted = {**event, "host": "all.default.svc.cluster.local"}
        by_host = await client.post(s.plane.http, headers=hosted)
        models = (await client.get(f"{s.plane.http}/openai/v1/models")).json()
    assert by_path.status_code == by_host.status_code == 200
    assert models["data"] == []


@pytest.mark.parametrize(
    ("kind", "code"),
    [("raise", "500"), ("hang", "504"), ("no-event", "200"), ("flood", "200")],
    ids=["it raises", "it hangs", "it answers what is no event", "its answer is too large"],
)
async def test_what_it_does_wrong_is_tried_again_and_ends_as_a_dead_letter(
    stage: Staging, kind: str, code: str
) -> None:
    async with stage(timeout=3 if kind == "hang" else 30) as s:
        await s.warm()
        await s.send(kind)
        letter = await s.came()
        assert (letter["ce-type"], letter["ce-id"]) == (kind, "1")
        assert letter["ce-knativeerrorcode"] == code
        assert letter["ce-knativeerrordest"].endswith("/serving/default/all/")
        # The letter may come before the plane has the answer of the Broker that took it.
        await s.until(lambda: s.trigger("ask")["dead_lettered"] == 1)
        # It still answers: none of these faults takes the process with it.
        await s.send("tell", "2")
        assert (await s.came())["ce-type"] == "told"


async def test_a_leak_past_its_limit_kills_it_and_the_reason_is_told(
    stage: Staging, tmp_path: Path
) -> None:
    async with stage() as s:
        await s.send("leak")
        assert (await s.came())["ce-type"] == "leak"
        logs = "".join(f.read_text() for f in (tmp_path / "state" / "logs").glob("default.all.*"))
        assert "relume: killed: out-of-memory" in logs
        await s.send("tell", "2")
        assert (await s.came())["ce-type"] == "told"


async def test_a_function_that_is_killed_while_it_works_loses_no_event(stage: Staging) -> None:
    async with stage() as s:
        numbers = {str(n) for n in range(8)}
        for number in sorted(numbers):
            await s.send("die-once", number)
        answers = [await s.came() for _ in numbers]
        survived = {a["ce-id"] for a in answers if a["ce-type"] == "survived"}
        buried = {a["ce-id"] for a in answers if a["ce-type"] == "die-once"}
        assert survived | {f"reply-{number}" for number in buried} == {
            f"reply-{n}" for n in numbers
        }
        assert s.service()["cold_starts"] > 1


async def test_a_kill_from_outside_while_it_works_is_tried_again(stage: Staging) -> None:
    async with stage(timeout=3) as s:
        await s.warm()
        await s.send("hang", "1")
        await s.until(lambda: s.service()["in_flight"])
        (pid,) = s.service()["pids"]
        os.kill(pid, signal.SIGKILL)
        assert (await s.came())["ce-type"] == "hang"  # it hangs each time: a dead letter
        assert s.trigger("ask")["retried"] >= 2
        assert pid not in s.service()["pids"]


async def test_an_answer_of_its_own_type_goes_round_until_its_time_to_live_ends(
    stage: Staging,
) -> None:
    async with stage() as s:
        # A Broker gives an event 255 rounds; a producer may ask for fewer.
        await s.send("same", knativebrokerttl="20")
        await s.until(lambda: s.trigger("ask")["dead_lettered"])
        assert s.trigger("ask")["delivered"] == s.trigger("ask")["replied"] == 18
        await s.send("tell", "2")
        assert (await s.came())["ce-type"] == "told"


async def test_a_flood_of_its_own_events_is_stored_and_others_are_answered_meanwhile(
    stage: Staging,
) -> None:
    async with stage() as s:
        await s.warm()
        await s.send("storm")
        await s.send("tell", "2")
        came = [await s.came() for _ in range(302)]
        ids = [each["ce-id"] for each in came]
        assert sorted(ids) == sorted([*(f"drop-{n}" for n in range(300)), "reply-1", "reply-2"])
        assert ids.index("reply-2") < 300, "it did not wait for the end of the flood"


async def test_what_cannot_be_installed_fails_the_service_and_the_plane_serves_on(
    stage: Staging,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run(*command: str) -> None:  # venv, then pip; test_environments.py has the real one
        if "pip" in command:
            raise EnvironmentNotMade(f"pip failed: ERROR: no such thing | as {command[-1]}")

    monkeypatch.setattr("relume.runtimes.function.environments._run", run)
    async with stage(requirement="no-such-folder-here") as s:
        # The environment is made before any event.
        await s.until(lambda: "pip failed:" in caplog.text)
        await s.send("tell")
        letter = await s.came()
        assert letter["ce-knativeerrorcode"] == "503"
        service = s.service()
        assert service["state"] == "failed"
        assert "pip failed:" in service["reason"]
        assert service["log_tail"] == ["pip failed: ERROR: no such thing", "as no-such-folder-here"]
        entries = (tmp_path / "state" / "coldstarts.jsonl").read_text().splitlines()
        assert json.loads(entries[0])["outcome"] == "failed"
        async with httpx.AsyncClient(timeout=60) as client:
            assert (await client.get(f"{s.plane.http}/relume/status")).status_code == 200
