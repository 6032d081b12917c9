"""When a predictor is forked from a loaded engine, and when an engine is built."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relume.runtimes import model_templates
from relume.runtimes.model_templates import ModelTemplates
from relume.runtimes.spawn import Template
from relume.runtimes.template import NOT_LOADABLE

ARGV = ("--model", "/m", "--port", "20001")
LATER = ("--model", "/m", "--port", "20002")


class Stand:
    """A template that builds engines when a test says so, with the protocol of the real one."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "template.sock"
        self.requests: list[dict[str, object]] = []
        self.writers: list[asyncio.StreamWriter] = []
        self._servers: list[asyncio.Server] = []

    async def ready(self) -> bool:
        return True

    async def listen(self, path: Path) -> None:
        self._servers.append(await asyncio.start_unix_server(self._serve, path))

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for writer in self.writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append(json.loads(await reader.readline()))
        self.writers.append(writer)
        self.say(-1, {"pid": 1000 + len(self.requests)})

    def say(self, which: int, message: Mapping[str, object]) -> None:
        self.writers[which].write(json.dumps(message).encode() + b"\n")

    async def asked(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.requests) < count:
                await asyncio.sleep(0.001)


class Started:
    """A predictor of another launcher."""

    pid = 7
    started = "template"

    def __init__(self) -> None:
        self.is_ready = asyncio.Event()

    async def wait(self) -> int:
        await self.is_ready.wait()
        return 0

    async def announced(self) -> None:
        await self.is_ready.wait()

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


class Otherwise:
    def __init__(self) -> None:
        self.started: list[Started] = []

    async def start(
        self, *, argv: Sequence[str], env: Mapping[str, str], log_path: Path
    ) -> Started:
        self.started.append(Started())
        return self.started[-1]


class Trial:
    """Engines over a stand-in, with the pauses between two builds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stand = Stand(folder)
        self.otherwise = Otherwise()
        self.pauses: list[float] = []
        template: Template = self.stand  # type: ignore[assignment]
        self.engines = ModelTemplates(
            template, self.otherwise, folder, folder, now=lambda: 5.0, pause=self._pause
        )

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    async def start(self, argv: Sequence[str] = ARGV, **env: str) -> str:
        process = await self.engines.start(
            "ns/it", argv=argv, env=env, log_path=self.folder / "log"
        )
        return process.started

    async def built(self, which: int = -1) -> None:
        """The engine that was asked for is there."""
        await self.stand.listen(Path(str(self.stand.requests[which]["template"])))
        self.stand.say(which, {"ready": True})
        async with asyncio.timeout(5):
            while [engine["state"] for engine in self.engines.status()] != ["ready"]:
                await asyncio.sleep(0.001)


@asynccontextmanager
async def _trial(folder: Path) -> AsyncIterator[Trial]:
    trial = Trial(folder)
    await trial.stand.listen(trial.stand.socket)
    try:
        async with trial.engines:
            yield trial
    finally:
        await trial.stand.close()


@pytest.fixture(autouse=True)
def signals(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """No test here signals a process; what would have been sent, by pid."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(model_templates.os, "kill", lambda *call: sent.append(call))
    monkeypatch.setattr("relume.runtimes.spawn.os.killpg", lambda *call: sent.append(call))
    return sent


async def test_the_first_start_is_as_without_an_engine_and_the_next_is_a_fork_of_it(
    tmp_path: Path,
) -> None:
    async with _trial(tmp_path) as trial:
        assert await trial.start() == "template"
        assert trial.stand.requests == []  # somebody waits for the predictor
        trial.otherwise.started[0].is_ready.set()
        await trial.stand.asked(1)
        assert await trial.start() == "template"  # it is not built yet
        await trial.built()
        assert await trial.start(LATER, PORT="20002") == "engine"
        assert trial.stand.requests[-1]["argv"] == list(LATER)
        (held,) = trial.engines.held()
        assert (held.service, held.last_used, held.in_use) == ("ns/it", 5.0, True)


async def test_an_engine_is_built_before_anybody_asks_where_it_is_wanted(tmp_path: Path) -> None:
    async with _trial(tmp_path) as trial:
        trial.engines.want("ns/it", ARGV, {})
        await trial.stand.asked(1)
        await trial.built()
        assert await trial.start() == "engine"
        assert trial.otherwise.started == []


@pytest.mark.parametrize(
    ("argv", "env"), [((*ARGV, "--seed=1"), {}), (ARGV, {"OWN": "1"})], ids=["flags", "environment"]
)
async def test_another_revision_gets_another_engine_and_the_old_one_stays_while_it_serves(
    tmp_path: Path, signals: list[tuple[int, int]], argv: tuple[str, ...], env: dict[str, str]
) -> None:
    async with _trial(tmp_path) as trial:
        trial.engines.want("ns/it", ARGV, {})
        await trial.stand.asked(1)
        await trial.built()
        assert await trial.start() == "engine"
        assert await trial.start(argv, **env) == "template"
        trial.otherwise.started[0].is_ready.set()
        await trial.stand.asked(3)
        assert trial.stand.requests[0]["template"] != trial.stand.requests[2]["template"]
        assert signals == []
        assert [each.former for each in trial.engines.held() if each.in_use] == [True]
        trial.stand.say(1, {"exit": 0})  # the last predictor of the old revision
        async with asyncio.timeout(5):
            while (1001, signal.SIGKILL) not in signals:
                await asyncio.sleep(0.001)


async def test_an_engine_that_is_wanted_again_outlives_the_one_that_is_on_its_way_out(
    tmp_path: Path, signals: list[tuple[int, int]]
) -> None:
    """A service is removed while a predictor of it answers, and comes back as it was."""
    async with _trial(tmp_path) as trial:
        trial.engines.want("ns/it", ARGV, {})
        await trial.stand.asked(1)
        await trial.built()
        assert await trial.start() == "engine"
        trial.engines.retire_all_but([])
        trial.engines.want("ns/it", ARGV, {})
        await trial.stand.asked(3)
        await trial.built()
        trial.stand.say(1, {"exit": 0})  # the last predictor of the first engine
        first = Path(str(trial.stand.requests[0]["template"]))
        async with asyncio.timeout(5):
            while (1001, signal.SIGKILL) not in signals or first.exists():
                await asyncio.sleep(0.001)
        assert await trial.start() == "engine"


async def test_an_engine_whose_process_dies_is_built_again_with_growing_pauses(
    tmp_path: Path,
) -> None:
    async with _trial(tmp_path) as trial:
        trial.engines.want("ns/it", ARGV, {})
        for number in range(1, 8):
            await trial.stand.asked(number)
            trial.stand.say(-1, {"exit": 1})
        await trial.stand.asked(8)
        assert trial.pauses == [5.0, 30.0, 120.0, 600.0, 600.0, 600.0, 600.0]
        await trial.built()
        trial.stand.say(-1, {"exit": -9})
        await trial.stand.asked(9)
        assert trial.pauses[-1] == 1.0


async def test_a_model_that_cannot_be_loaded_before_a_fork_is_not_tried_again(
    tmp_path: Path,
) -> None:
    async with _trial(tmp_path) as trial:
        trial.engines.want("ns/it", ARGV, {})
        await trial.stand.asked(1)
        trial.stand.say(-1, {"exit": NOT_LOADABLE})
        for _ in range(3):
            assert await trial.start() == "template"
        assert (len(trial.stand.requests), trial.pauses) == (1, [])


async def test_a_build_stops_while_a_predictor_starts(
    tmp_path: Path, signals: list[tuple[int, int]]
) -> None:
    async with _trial(tmp_path) as trial:
        trial.engines.want("ns/it", ARGV, {})
        await trial.stand.asked(1)
        other = Started()
        await asyncio.sleep(0)
        trial.engines.give_way_to(other)
        async with asyncio.timeout(5):
            while signals != [(1001, signal.SIGSTOP)]:
                await asyncio.sleep(0.001)
        other.is_ready.set()
        async with asyncio.timeout(5):
            while signals != [(1001, signal.SIGSTOP), (1001, signal.SIGCONT)]:
                await asyncio.sleep(0.001)


async def test_an_engine_that_was_dropped_comes_back_after_the_next_start(tmp_path: Path) -> None:
    async with _trial(tmp_path) as trial:
        trial.engines.want("ns/it", ARGV, {})
        await trial.stand.asked(1)
        await trial.built()
        await trial.engines.drop("ns/it")
        assert trial.engines.held() == []
        assert await trial.start() == "template"
        trial.otherwise.started[0].is_ready.set()
        await trial.stand.asked(2)
