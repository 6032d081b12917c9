"""Three models in memory for about one and a half: what a swap takes, and how long clients wait.

    python loadtests/swap.py                    three minutes
    python loadtests/swap.py --seconds 300      five minutes at once

First each model is asked in turn, then all are asked at once by twelve clients, four for each.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import aiohttp
import click
from client import chat, session
from figures import Figure, Machine, print_notes, rows
from processes import MeasurementFailed, Server, kept_on_failure, started
from running import Steps, run, steps
from servers import PLANE_WITHIN_S, SAMPLE, environment

from relume.base.sizes import written
from relume.cli.errors import NoPlane
from relume.cli.machine.client import PlaneClient
from relume.cli.machine.up import size
from relume.cli.screen import Screen
from relume.plane.launch import HOST, free_port

NAMES = ("one", "two", "three")
CLIENTS = 12
ROUNDS = 4
PAUSE_S = 1.0
ZERO_WITHIN_S = 60.0
TOKENS = 16
SWAP_TARGET = 1.2
_KERNEL = {"pswpout": "pages swapped out", "oom_kill": "processes killed by the kernel"}


@dataclass
class Found:
    """Seconds from a request to its whole answer, and what went wrong."""

    alone: list[float] = field(default_factory=list)
    """From zero, with nothing else in memory."""
    swaps: list[float] = field(default_factory=list)
    """From zero, where another model had to go first."""
    waits: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    took_s: float = 0.0
    kernel: dict[str, int] = field(default_factory=dict)
    starts: int = 0
    memory: str = ""


def manifest(folder: Path) -> Path:
    """The service of the sample, three times, each under a name of its own."""
    sample = SAMPLE.read_text(encoding="utf-8").split("\n---\n")[0]
    sample = sample.replace("window: 10s", "window: 6s")
    file = folder / "three.yaml"
    copies = (sample.replace("name: summarize", f"name: {name}") for name in NAMES)
    file.write_text("\n---\n".join(copies), encoding="utf-8")
    return file


class Trial:
    """A plane with three services, and clients that ask them."""

    def __init__(self, http: aiohttp.ClientSession, url: str, plane: PlaneClient) -> None:
        self.found = Found()
        self._http = http
        self._url = url
        self._plane = plane

    async def ask(self, name: str, tokens: int) -> float:
        """One chat; the seconds until its answer is complete. A failure is noted."""
        began = time.monotonic()
        body = {**chat(name, "Say a word.", tokens), "stream": False}
        del body["stream_options"]
        url = f"{self._url}/serving/default/{name}/v1/chat/completions"
        try:
            async with self._http.post(url, json=body) as response:
                answer = await response.read()
                if response.status != 200:
                    self.found.failed.append(f"{response.status} {answer[:200].decode()}")
        except (aiohttp.ClientError, TimeoutError) as error:
            self.found.failed.append(repr(error))
        return time.monotonic() - began

    async def alone(self) -> None:
        """Starts from zero with the memory free."""
        for number in range(ROUNDS):
            await self._at_zero()
            await asyncio.sleep(PAUSE_S)
            self.found.alone.append(await self.ask(NAMES[number % 3], 1))

    async def _at_zero(self) -> None:
        async with asyncio.timeout(ZERO_WITHIN_S):
            while True:
                status = await self._plane.status()
                if all(service.state == "zero" for service in status.serving.services):
                    return
                await asyncio.sleep(0.25)

    async def in_turn(self) -> None:
        """Each start takes the place of the model that was asked before."""
        for number in range(3 * ROUNDS):
            await asyncio.sleep(PAUSE_S)
            self.found.swaps.append(await self.ask(NAMES[(number + ROUNDS) % 3], 1))

    async def at_once(self, seconds: float) -> None:
        """Twelve clients that each ask one model again and again."""
        began = time.monotonic()

        async def client(name: str) -> None:
            while time.monotonic() - began < seconds:
                self.found.waits.append(await self.ask(name, TOKENS))

        await asyncio.gather(*(client(NAMES[number % 3]) for number in range(CLIENTS)))
        self.found.took_s = time.monotonic() - began
        status = await self._plane.status()
        self.found.starts = sum(service.cold_starts for service in status.serving.services)
        self.found.memory = status.serving.memory.words


def kernel_counts() -> dict[str, int]:
    """How often the kernel has swapped or killed since it was started."""
    lines = (line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return {name: int(count) for name, count in lines if name in _KERNEL}


async def _ready(server: Server, plane: PlaneClient) -> None:
    deadline = time.monotonic() + 4 * PLANE_WITHIN_S
    while time.monotonic() < deadline:
        server.check_alive()
        try:
            if (await plane.status()).template.state == "ready":
                return
        except NoPlane:
            pass
        await asyncio.sleep(0.1)
    raise MeasurementFailed("relume up: the warm template is not ready")


async def _measure(memory: int, wait_s: float, seconds: float) -> tuple[Found, Machine]:
    machine, before = Machine.now(), kernel_counts()
    with kept_on_failure("relume-swap-") as folder, steps(3) as progress:
        port = free_port()
        argv = [sys.executable, "-m", "relume.cli.main", "up", str(manifest(folder))]
        argv += ["--state", str(folder / "state"), "--port", str(port), "--broker-port", "0"]
        argv += ["--memory", str(memory), "--memory-wait", str(wait_s)]
        url = f"http://{HOST}:{port}"
        async with (
            started("relume up", argv, env=environment(), log=folder / "up.log") as server,
            PlaneClient(url) as plane,
            session() as http,
        ):
            await _ready(server, plane)
            trial = Trial(http, url, plane)
            await _run(trial, seconds, progress)
    after = kernel_counts()
    trial.found.kernel = {name: after[name] - before[name] for name in before}
    return trial.found, machine


async def _run(trial: Trial, seconds: float, progress: Steps) -> None:
    progress.begin("each alone, from zero")
    await trial.alone()
    progress.begin("in turn")
    await trial.in_turn()
    progress.begin(f"{CLIENTS} clients at once")
    await trial.at_once(seconds)


def bound_s(wait_s: float, found: Found) -> float:
    """What a request waits at most: its wait, then a start, a turn and a drain for each service."""
    answer = found.alone[0]
    return wait_s + len(NAMES) * (max(found.swaps) + min(5.0, wait_s) + answer) + answer


def quantile(samples: Sequence[float], part: float) -> float:
    """The sample below which `part` of them lie."""
    return sorted(samples)[min(int(len(samples) * part), len(samples) - 1)]


def show(screen: Screen, found: Found, machine: Machine, wait_s: float) -> None:
    """The tables."""
    alone = tuple(found.alone)
    figures = [
        Figure("a start from zero, memory free", "s", alone),
        Figure("a swap: another model goes first", "s", tuple(found.swaps)),
    ]
    screen.title("one model after the other")
    screen.table(("measure", "median", "least … most"), [row[:3] for row in rows(figures)])
    ratio = median(found.swaps) / median(found.alone)
    screen.line(f"a swap takes {ratio:.2f} of a start (target ≤ {SWAP_TARGET})")
    screen.line()
    screen.title(f"{CLIENTS} clients at once, for {found.took_s:.0f} s")
    asked = len(found.waits) + len(found.swaps) + len(found.alone)
    print_notes(
        screen,
        [
            ("requests", f"{asked}, answered {asked - len(found.failed)}"),
            ("evicted while busy", f"{len(found.failed)} requests were cut off or refused"),
            ("waits", f"p50 {quantile(found.waits, 0.5):.1f} s, most {max(found.waits):.1f} s"),
            ("bound of a wait", f"{bound_s(wait_s, found):.1f} s"),
            ("starts of predictors", str(found.starts)),
            ("memory", found.memory),
            *((_KERNEL[name], str(count)) for name, count in found.kernel.items()),
            *machine.facts(),
        ],
    )
    for words in found.failed[:5]:
        screen.line(words, "red")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--memory", callback=size, default="2400M", show_default=True, metavar="SIZE")
@click.option("--memory-wait", type=float, default=10.0, show_default=True, metavar="SECONDS")
@click.option("--seconds", type=float, default=90.0, show_default=True, help="How long at once.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def main(*, memory: int, memory_wait: float, seconds: float, output: str) -> None:
    """Ask three models that share memory for about one and a half, in turn and at once.

    The exit code is 1 when a request was not answered, or a wait was longer than its bound.
    """
    found, machine = run("swap", _measure(memory, memory_wait, seconds))
    screen = Screen.stdout()
    if output == "json":
        facts = {"budget": written(memory), "bound_s": bound_s(memory_wait, found)}
        screen.json({"machine": machine.to_json(), **facts, **vars(found)})
    else:
        show(screen, found, machine, memory_wait)
    late = max(found.waits) > bound_s(memory_wait, found)
    sys.exit(1 if found.failed or late else 0)


if __name__ == "__main__":
    main()
