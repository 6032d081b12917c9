"""What `jobs.py` measures: a gateway, nats-server, a predictor and producers, a process each."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil  # type: ignore[import-untyped]
from event_programs import HERE, PRODUCERS, program
from processes import MeasurementFailed, Server, started
from servers import environment

from relume.eventing.jetstream.server import NatsServer
from relume.plane.launch import HOST, free_port

START_WITHIN_S = 60.0
SERVICE = "default/bench"
_LOOK_S = 0.005
_MANIFEST = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: bench, namespace: default}
spec:
  predictor:
    model:
      modelFormat: {name: huggingface}
      runtime: relume-vllm-cpu
      storageUri: hf://bench/bench
"""


@dataclass(frozen=True, slots=True)
class Posted:
    """What the producers of jobs did."""

    jobs: int
    seconds: float
    cpu_s: float
    p50_ms: float
    p99_ms: float
    longest_ms: float

    @property
    def rate(self) -> float:
        """Jobs accepted in a second."""
        return self.jobs / self.seconds


async def post_jobs(
    url: str, *, seconds: float = 3600.0, count: int | None = None, producers: int = PRODUCERS
) -> Posted:
    """Let producers post jobs to a route for so long, or so many."""
    options: list[object] = ["--producers", producers, "--seconds", seconds]
    if count is not None:
        options += ["--count", count]
    told = await program("job_load.py", url, *options)
    return Posted(**{**told, "jobs": int(told["jobs"])})


class Predictor:
    """The process of a predictor without a model."""

    def __init__(self, server: Server, url: str, http: aiohttp.ClientSession) -> None:
        self.server = server
        self.url = url
        self._http = http

    async def answered(self) -> int:
        """How many requests were answered to their end."""
        async with self._http.get(f"{self.url}/count") as response:
            told: Mapping[str, int] = json.loads(await response.read())
        return told["answered"]


class Gateway:
    """`relume gateway`, or the HTTP port of a `relume up`."""

    def __init__(self, server: Server, url: str, service: str, serving_s: float) -> None:
        self.server = server
        self.url = url
        self.service = service
        self.serving_s = serving_s

    @property
    def chat(self) -> str:
        """The route that takes chats as jobs."""
        return f"{self.url}/serving/{self.service}/v1/chat/completions"

    async def pause(self, http: aiohttp.ClientSession, paused: bool) -> None:
        """Let no job of the service begin, or let them again."""
        word = "pause" if paused else "resume"
        await self._expect(http, f"/v1/queues/{self.service}/{word}")

    async def purge(self, http: aiohttp.ClientSession) -> None:
        """Remove the jobs that wait."""
        await self._expect(http, f"/v1/queues/{self.service}/purge")

    async def _expect(self, http: aiohttp.ClientSession, path: str) -> None:
        async with http.post(self.url + path) as response:
            if response.status >= 300:
                text = (await response.text())[:300]
                raise MeasurementFailed(f"POST {path} answers {response.status}: {text}")

    def memory_mb(self) -> float:
        """Resident MB of the gateway's own process."""
        return float(psutil.Process(self.server.pid).memory_info().rss) / 1e6

    def cpu_s(self) -> float:
        """Seconds of CPU that the gateway's own process has used."""
        used = psutil.Process(self.server.pid).cpu_times()
        return float(used.user + used.system)


@asynccontextmanager
async def predictor(folder: Path) -> AsyncIterator[Predictor]:
    """The predictor without a model, from its first answer to its end."""
    port = free_port()
    argv = [sys.executable, str(HERE / "job_predictor.py"), str(port)]
    async with (
        aiohttp.ClientSession() as http,
        started("predictor", argv, env=environment(), log=folder / "predictor.log") as server,
    ):
        await _until(http, server, f"http://{HOST}:{port}/health")
        yield Predictor(server, f"http://{HOST}:{port}", http)


@asynccontextmanager
async def gateway(folder: Path, nats: NatsServer, predictor_url: str) -> AsyncIterator[Gateway]:
    """`relume gateway` beside a nats-server, from its start until it serves."""
    manifest = folder / "bench.yaml"
    manifest.write_text(_MANIFEST)
    port = free_port()
    url = f"http://{HOST}:{port}"
    argv = [sys.executable, "-m", "relume.cli.main", "gateway", str(manifest)]
    argv += ["--nats", nats.url, "--replicas", "1", "--port", str(port)]
    # Both names must be in it; as a name and a password they change no path.
    names = predictor_url.replace("://", "://{namespace}:{name}@")
    argv += ["--service-url", names]
    async with (
        started("relume gateway", argv, env=environment(), log=folder / "gateway.log") as server,
        aiohttp.ClientSession() as http,
    ):
        serving = await _until(http, server, f"{url}/v1/queues")
        yield Gateway(server, url, SERVICE, serving - server.started)


async def _until(http: aiohttp.ClientSession, server: Server, url: str) -> float:
    """The moment of the first good answer. Raises MeasurementFailed."""
    deadline = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline:
        server.check_alive()
        try:
            async with http.get(url) as response:
                if response.status == 200:
                    return time.monotonic()
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(_LOOK_S)
    raise MeasurementFailed(f"{server.name}: no answer within {START_WITHIN_S:g} s")
