"""A gateway on a real nats-server and real sockets, in front of the double of a predictor."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from relume.cli.main import run
from relume.config import Broker, InferenceService, Plan
from relume.eventing.jetstream.keys import key_store
from relume.eventing.jetstream.server import NatsServer
from relume.eventing.jobs.access import OpenToAll
from relume.eventing.jobs.keys import new_key
from relume.plane.gateway import Gateway, GatewaySettings, NoServices
from relume.plane.nats_servers import NatsServers
from relume.plane.url_templates import BadTemplate, UrlTemplate
from tests.eventing.jobs.loopback import WORDS, Predictor, client, served

PLAN = Plan(
    services=(
        InferenceService("ns", "it", model_format="vLLM", storage_uri="hf://org/it"),
        InferenceService("ns", "other", model_format="vLLM", storage_uri="hf://org/other"),
    )
)
CHAT = {"messages": [{"role": "user", "content": "What?"}]}
ROUTE = "/serving/ns/it/v1/chat/completions"
ASYNC = {"Prefer": "respond-async"}
NOWHERE = NatsServers(("nats://127.0.0.1:9",), replicas=1)


@asynccontextmanager
async def gateway(
    nats: str, predictor_url: str = "http://127.0.0.1:9", **changes: object
) -> AsyncIterator[Gateway]:
    settings = GatewaySettings(
        NatsServers((nats,), replicas=1),
        port=0,
        service_url=predictor_url + "/{namespace}/{name}",
        broker_url=predictor_url + "/brokers/{namespace}/{name}",
        grace_s=5.0,
    )
    async with Gateway(PLAN, replace(settings, **changes)).running() as running:  # type: ignore[arg-type]
        yield running


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[str]:
    async with NatsServer(tmp_path) as server:
        yield server.url


async def test_a_job_of_one_gateway_is_seen_and_done_by_the_other(nats: str) -> None:
    predictor = Predictor()
    predictor.gate.set()
    async with (
        served(predictor.app) as predictor_url,
        gateway(nats, predictor_url) as one,
        gateway(nats, predictor_url) as two,
        client(one.url) as first,
        client(two.url) as second,
    ):
        body = CHAT | {"model": "it"}
        answer = await first.post("/openai/v1/chat/completions", json=body, headers=ASYNC)
        assert answer.status_code == 202, answer.text
        job_id = answer.json()["id"]
        done = (await second.get(f"/v1/jobs/{job_id}?wait=60")).json()
        assert done["status"] == "completed"
        result = (await second.get(f"/v1/jobs/{job_id}/result")).json()
        assert result["choices"][0]["message"]["content"] == "".join(WORDS)
        assert len(predictor.asked) == 1


async def test_what_a_stopped_gateway_left_is_done_by_the_next(nats: str) -> None:
    predictor = Predictor()
    async with served(predictor.app) as predictor_url:
        async with gateway(nats, predictor_url, grace_s=0.2) as one, client(one.url) as http:
            job_id = (await http.post(ROUTE, json=CHAT, headers=ASYNC)).json()["id"]
            while not predictor.asked:
                await asyncio.sleep(0.01)
        predictor.gate.set()
        async with gateway(nats, predictor_url) as two, client(two.url) as http:
            done = (await http.get(f"/v1/jobs/{job_id}?wait=60")).json()
            assert done["status"] == "completed"


async def test_an_event_is_answered_at_its_broker_in_the_namespaces_of_the_services(
    nats: str,
) -> None:
    predictor = Predictor()
    predictor.gate.set()
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/me", "ce-type": "t"}
    async with (
        served(predictor.app) as predictor_url,
        gateway(nats, predictor_url) as one,
        client(one.url) as http,
    ):
        where = "/events/ns/it/v1/chat/completions?broker="
        refused = await http.post(f"{where}elsewhere/b", json=CHAT, headers=headers)
        assert (refused.status_code, refused.json()["reason"]) == (403, "broker-not-allowed")
        taken = await http.post(f"{where}ns/b", json=CHAT, headers=headers)
        assert taken.status_code == 202
        async with asyncio.timeout(60):  # the request, and its answer at the Broker
            while len(predictor.asked) < 2:
                await asyncio.sleep(0.01)
        assert len(predictor.asked) == 2


async def test_one_service_and_one_broker_have_plain_urls(nats: str) -> None:
    predictor = Predictor()
    predictor.gate.set()
    plan = Plan(services=PLAN.services[:1], brokers=(Broker("ns", "b"),))
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/me", "ce-type": "t"}
    async with served(predictor.app) as url:
        settings = GatewaySettings(
            NatsServers((nats,), replicas=1), port=0, service_url=url, broker_url=f"{url}/b"
        )
        async with Gateway(plan, settings).running() as one, client(one.url) as http:
            where = "/events/ns/it/v1/chat/completions?broker="
            refused = await http.post(f"{where}ns/other", json=CHAT, headers=headers)
            assert (refused.status_code, refused.json()["reason"]) == (403, "broker-not-allowed")
            taken = await http.post(f"{where}ns/b", json=CHAT, headers=headers)
            assert taken.status_code == 202
            async with asyncio.timeout(60):
                while predictor.paths != ["/v1/chat/completions", "/b"]:
                    await asyncio.sleep(0.01)


@pytest.mark.parametrize("option", ["service_url", "broker_url"])
def test_several_of_a_kind_need_urls_that_tell_them_apart(option: str) -> None:
    one = Plan(services=PLAN.services[:1], brokers=(Broker("ns", "b"),))
    two = Plan(services=PLAN.services, brokers=(Broker("ns", "b"), Broker("ns", "c")))
    settings = GatewaySettings(NOWHERE, **{option: "http://127.0.0.1:8000"})  # type: ignore[arg-type]
    Gateway(one, settings)
    for plan in (two, replace(two, brokers=()), replace(two, services=one.services)):
        if option == "service_url" and len(plan.services) == 1:
            continue
        with pytest.raises(BadTemplate, match=f"--{option.replace('_', '-')} .*write {{name}}"):
            Gateway(plan, settings)


async def test_models_are_listed_and_what_is_no_job_is_told_how_to_be_one(nats: str) -> None:
    async with gateway(nats) as one, client(one.url) as http:
        listed = (await http.get("/openai/v1/models")).json()
        assert [model["id"] for model in listed["data"]] == ["it", "other"]
        answer = await http.post(ROUTE, json=CHAT)
        assert (answer.status_code, answer.json()["reason"]) == (404, "not-a-job")
        for path, reason in (
            ("/serving/ns/none/v1/x", "service-unknown"),
            ("/serving/ns/it", "service-unknown"),
        ):
            refused = await http.post(path, json=CHAT, headers=ASYNC)
            assert (refused.status_code, refused.json()["reason"]) == (404, reason)
        unknown = await http.post(
            "/openai/v1/chat/completions", json=CHAT | {"model": "x"}, headers=ASYNC
        )
        assert (unknown.status_code, unknown.json()["reason"]) == (404, "model-unknown")
        queues = (await http.get("/v1/queues")).json()["data"]
        assert [each["service"] for each in queues] == ["ns/it", "ns/other"]


async def test_an_error_of_whoever_uses_the_store_of_keys_is_not_one_of_nats(nats: str) -> None:
    with pytest.raises(FileNotFoundError, match="no such list"):
        async with key_store([nats], None, 1):
            raise FileNotFoundError("no such list")


async def test_with_keys_each_owner_sees_their_own_jobs_and_operators_pause(nats: str) -> None:
    async with key_store([nats], None, 1) as keys:
        made = {}
        for owner in ("team-a", "team-b", "ops"):
            made[owner], stored = new_key(owner, None, datetime.now(UTC))
            await keys.put(stored)
    auth = {owner: {"Authorization": f"Bearer {key}"} for owner, key in made.items()}
    options = {"keys": True, "open_events": True, "operators": ("ops",)}
    async with gateway(nats, **options) as one, client(one.url) as http:
        assert (await http.post(ROUTE, json=CHAT, headers=ASYNC)).status_code == 401
        assert (await http.get("/healthz")).text == "ok\n"
        assert (await http.get("/readyz")).text == "ready\n"
        job = (await http.post(ROUTE, json=CHAT, headers=ASYNC | auth["team-a"])).json()
        assert job["tenant"] == "team-a"
        path = f"/v1/jobs/{job['id']}"
        assert (await http.get(path, headers=auth["team-a"])).status_code == 200
        assert (await http.get(path, headers=auth["team-b"])).status_code == 404
        pause = "/v1/queues/ns/it/pause"
        assert (await http.post(pause, headers=auth["team-a"])).status_code == 403
        assert (await http.post(pause, headers=auth["ops"])).status_code == 200
        event = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/me", "ce-type": "t"}
        taken = await http.post("/events/ns/it/v1/chat/completions", json=CHAT, headers=event)
        assert taken.status_code == 202
        where = taken.headers["location"]
        assert (await http.get(where)).status_code == 401
        assert (await http.get(where, headers=auth["team-a"])).status_code == 404


async def test_dead_letters_of_a_gateway_are_shown_redriven_and_purged_by_its_operators(
    nats: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with key_store([nats], None, 1) as keys:
        made = {}
        for owner in ("team-a", "ops"):
            made[owner], stored = new_key(owner, None, datetime.now(UTC))
            await keys.put(stored)
    sink = Predictor(failures=[400, 400])

    async def dlq(*line: str, owner: str = "ops", code: int = 0) -> str:
        monkeypatch.setenv("RELUME_KEY", made[owner])
        assert await asyncio.to_thread(run, ["dlq", *line, "--url", one.url]) == code
        shown = capsys.readouterr()
        return shown.out or shown.err

    async with (
        served(sink.app) as sink_url,
        gateway(nats, keys=True, operators=("ops",), sink=f"{sink_url}/sink") as one,
        client(one.url) as http,
    ):
        http.headers["Authorization"] = f"Bearer {made['team-a']}"
        jobs = [(await http.post(ROUTE, json=CHAT, headers=ASYNC)).json()["id"] for _ in range(2)]
        for job_id in jobs:
            assert (await http.post(f"/v1/jobs/{job_id}/cancel")).status_code == 200
        async with asyncio.timeout(10):
            while len(letters := json.loads(await dlq("list", "-o", "json"))) < 2:
                await asyncio.sleep(0.05)
        assert {each["type"] for each in letters} == {"relume.inference.usage"}
        assert {each["reason"] for each in letters} == {"rejected"}
        first, second = (str(each["sequence"]) for each in letters)
        shown = json.loads(await dlq("show", first, "-o", "json"))
        assert shown["event"]["subject"] in jobs
        assert json.loads(await dlq("list", "-o", "json", owner="team-a")) == []
        assert "only an operator" in await dlq("redrive", first, owner="team-a", code=1)
        assert await dlq("redrive", first) == "1 redriven\n"
        async with asyncio.timeout(10):
            while len(sink.asked) < 3:
                await asyncio.sleep(0.01)
        assert sink.asked[2]["job"] == shown["event"]["subject"]
        assert await dlq("purge", second, "--yes") == "1 purged\n"
        assert json.loads(await dlq("list", "-o", "json")) == []


async def test_without_nats_the_probes_tell_it_and_nothing_is_accepted() -> None:
    settings = GatewaySettings(NOWHERE, port=0)
    waiting = Gateway(PLAN, settings)
    task = asyncio.create_task(_run(waiting))
    while not waiting.url:
        await asyncio.sleep(0.01)
    async with client(waiting.url) as http:
        assert (await http.get("/healthz")).status_code == 200
        assert (await http.get("/readyz")).status_code == 503
        refused = await http.post(ROUTE, json=CHAT, headers=ASYNC)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _run(each: Gateway) -> None:
    async with each.running():
        pass


SERVICES = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: it, namespace: ns}
spec: {predictor: {model: {modelFormat: {name: vLLM}, storageUri: "hf://org/it"}}}
"""


async def test_the_command_says_where_it_serves_drains_on_sigterm_and_ends_with_0(
    nats: str, tmp_path: Path
) -> None:
    predictor = Predictor()
    file = tmp_path / "services.yaml"
    file.write_text(SERVICES)
    async with served(predictor.app) as predictor_url:
        template = predictor_url + "/{namespace}/{name}"
        words = ["gateway", str(file), "--nats", nats, "--replicas", "1", "--port", "0"]
        words += ["--service-url", template, "-o", "json", "--grace", "10s"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "relume.cli.main", *words, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        told = json.loads(await process.stdout.readline())
        assert told["services"] == ["ns/it"]
        async with client(told["url"]) as http:
            job_id = (await http.post(ROUTE, json=CHAT, headers=ASYNC)).json()["id"]
            while not predictor.asked:
                await asyncio.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            while (await http.get("/readyz")).status_code == 200:
                await asyncio.sleep(0.01)
            assert (await http.get("/healthz")).status_code == 200
            predictor.gate.set()
        assert await asyncio.wait_for(process.wait(), 90) == 0
        async with gateway(nats, predictor_url) as other, client(other.url) as http:
            assert (await http.get(f"/v1/jobs/{job_id}")).json()["status"] == "completed"
        assert len(predictor.asked) == 1, "it ended within the grace"


# ---- what could not work is refused before anything starts


def test_open_to_all_on_every_address_is_refused_with_the_fix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "services.yaml"
    file.write_text(SERVICES)
    line = ["gateway", str(file), "--nats", "nats://127.0.0.1:9"]
    assert run([*line, "--host", "0.0.0.0"]) == 2
    assert "relume keys create" in capsys.readouterr().err
    for more, words in (
        (["--oidc-issuer", "https://i"], "--oidc-audience"),
        (["--oidc-issuer", "http://i.example", "--oidc-audience", "a"], "https://"),
        (["--service-url", "http://{name}"], "--service-url"),
        (["--broker-url", "{namespace}/{name}"], "--broker-url"),
        (["--sink", "default"], "--sink default"),
        (["--grace", "soon"], "--grace"),
        (["--nats", "http://h"], "nats://HOST:PORT"),
        (["--nats-creds", str(tmp_path / "none")], "--nats-creds"),
    ):
        assert run([*line, *more]) == 2, more
        shown = capsys.readouterr().err
        assert words in shown and shown.count("\n") == 1, shown


def test_a_plan_without_a_model_is_refused() -> None:
    with pytest.raises(NoServices):
        Gateway(Plan(), GatewaySettings(NOWHERE))


def test_every_address_needs_somebody_to_say_who_may_call() -> None:
    with pytest.raises(OpenToAll):
        Gateway(PLAN, GatewaySettings(NOWHERE, host="0.0.0.0"))
    Gateway(PLAN, GatewaySettings(NOWHERE, host="0.0.0.0", keys=True))


@pytest.mark.parametrize(
    "text",
    [
        *("http", "http://h/{name}", "http://{}.{}", "{namespace}{name}"),
        "http://h/{namespace}/{name}/{other}",
        "http://h/{namespace}/{name",
        "ftp://{name}.{namespace}",
        "http:///{name}/{namespace}",
        "http://h/{namespace}/{name}?x",
    ],
)
def test_a_template_that_gives_no_url_is_refused(text: str) -> None:
    with pytest.raises(BadTemplate, match="--x"):
        UrlTemplate("--x", text)
    with pytest.raises(BadTemplate, match="--x"):
        UrlTemplate("--x", text, only=True)


def test_a_template_is_filled_in() -> None:
    template = UrlTemplate("--x", "http://{name}.{namespace}.svc.cluster.local/")
    assert template.url("ns", "it") == "http://it.ns.svc.cluster.local"
    assert httpx.URL(template.url("ns", "it")).host == "it.ns.svc.cluster.local"
