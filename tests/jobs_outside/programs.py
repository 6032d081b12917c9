"""The processes around a trial of jobs: they can be killed, stopped, woken and started again."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx

from relume.base.parent import die_with_parent
from tests.ports import own_port

HERE = Path(__file__).parent
_READY_WITHIN_S = 60.0
_LOOK_S = 0.02


class Program:
    """A program that serves HTTP on a port of its own, the same one at each start."""

    def __init__(self, argv: Sequence[object], log: Path, port: int, ready: str) -> None:
        self.port = port
        self.argv = [str(each) for each in argv]
        self._log = log
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process; returns before it serves."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    async def ready(self) -> None:
        """Wait until it answers. Raises TimeoutError, or AssertionError where it has ended."""
        async with asyncio.timeout(_READY_WITHIN_S), httpx.AsyncClient(trust_env=False) as http:
            while True:
                try:
                    answer = await http.get(self.url + self._ready)
                    if answer.status_code < 500:
                        return
                except httpx.TransportError:
                    assert self.alive, self.last_words()
                await asyncio.sleep(_LOOK_S)

    def send(self, number: signal.Signals) -> None:
        """A signal to this process alone."""
        if self.alive:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def restart(self) -> None:
        """Kill it and start it again; returns when it answers."""
        self.kill()
        self.start()
        await self.ready()

    def last_words(self) -> str:
        return self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""


def stub_predictor(folder: Path) -> Program:
    """The predictor; its journal is `predictor.jsonl` in the folder."""
    port = own_port()
    argv = [sys.executable, HERE / "stub_predictor.py", port, folder / "predictor.jsonl"]
    return Program(argv, folder / "predictor.log", port, "/health")


def sink(folder: Path) -> Program:
    """The sink for replies and usage; its journal is `events.jsonl` in the folder."""
    port = own_port()
    argv = [sys.executable, HERE / "sink.py", port, folder / "events.jsonl"]
    return Program(argv, folder / "sink.log", port, "/")


NAMES = "/{namespace}/{name}"  # the stub and the sink take any prefix
MANIFEST = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: stub, namespace: default}
spec:
  predictor:
    model:
      modelFormat: {name: vLLM}
      storageUri: hf://stub/stub
"""


def gateway(
    folder: Path, name: str, nats: Sequence[str], predictor: str, sink_url: str, replicas: int
) -> Program:
    """`relume gateway` as its users start it; its log is `NAME.log` in the folder."""
    manifest = folder / "stub.yaml"
    manifest.write_text(MANIFEST)
    port = own_port()
    argv: list[object] = [sys.executable, "-m", "relume.cli.main", "gateway", manifest]
    argv += ["--port", port]
    for url in nats:
        argv += ["--nats", url]
    argv += ["--replicas", replicas, "--grace", "2s", "--sink", sink_url]
    argv += ["--service-url", predictor + NAMES, "--broker-url", sink_url + NAMES]
    return Program(argv, folder / f"{name}.log", port, "/v1/queues")
