"""What the activator costs a request whose model is ready, beside a plain proxy and no proxy.

    python loadtests/activator.py                        five turns, about a minute and a half
    python loadtests/activator.py --turns 9 -o json      every sample, for a program

Both servers are up all the time, and take turns within each kind of load. The predictor is a stub.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import aiohttp
import click
from event_programs import HERE, program
from event_scenes import cpu_s, until_it_answers
from figures import Json, Machine, print_notes, spread, verdict
from processes import Server, kept_on_failure, started
from running import Steps, run, steps
from servers import environment

from relume.cli.screen import Screen
from relume.plane.launch import HOST, free_port

PROGRAM = "activator.py"
PREFIX = "/serving/default/model"
CLIENTS = 32
#: Events of each stream, and seconds between them.
EVENTS, GAP_S = 20, 0.25
_WARM_S = 1.0
KINDS = ("activator", "proxy")


@dataclass(frozen=True, slots=True)
class Row:
    """A measure, turn by turn: of the activator, of the plain proxy, and without any of them."""

    name: str
    unit: str
    ours: tuple[float, ...]
    proxy: tuple[float, ...] = ()
    direct: tuple[float, ...] = ()
    at_least: float | None = None
    at_most: float | None = None

    @property
    def median(self) -> float:
        return median(self.ours)

    @property
    def holds(self) -> bool | None:
        """Whether the target holds; None without one."""
        if self.at_least is not None:
            return self.median >= self.at_least
        return None if self.at_most is None else self.median <= self.at_most

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:,g}"
        return "" if self.at_most is None else f"≤ {self.at_most:g}"

    def to_json(self) -> Json:
        """All of it, with every sample."""
        return {
            "name": self.name,
            "unit": self.unit,
            "median": round(self.median, 3),
            "samples": [round(each, 3) for each in self.ours],
            "proxy": [round(each, 3) for each in self.proxy],
            "direct": [round(each, 3) for each in self.direct],
            "target": self.target or None,
            "holds": self.holds,
        }


@dataclass(frozen=True, slots=True)
class Stand:
    """What runs: the two servers by their names, and the address of each, `direct` too."""

    servers: dict[str, Server]
    urls: dict[str, str]


@dataclass(slots=True)
class Samples:
    """What one way has given, a sample for each turn."""

    per_s: list[float]
    per_cpu_s: list[float]
    alone_ms: list[float]
    streams: list[float]
    event_p50_ms: list[float]
    event_p99_ms: list[float]

    @classmethod
    def none(cls) -> "Samples":
        return cls([], [], [], [], [], [])


@asynccontextmanager
async def stand(folder: Path) -> AsyncIterator[Stand]:
    """The stub, the activator and the proxy, from their first answers to their end."""
    ports = {name: free_port() for name in ("direct", *KINDS)}
    base = f"http://{HOST}:{ports['direct']}"
    urls = {name: f"http://{HOST}:{ports[name]}{PREFIX}" for name in KINDS}
    argv = [sys.executable, str(HERE / "activator_stub.py"), str(ports["direct"])]
    async with (
        aiohttp.ClientSession() as http,
        started("stub", argv, env=environment(), log=folder / "stub.log") as stub,
    ):
        await until_it_answers(stub, lambda: http.get(f"{base}/health"))
        async with AsyncExitStack() as stack:
            servers = {}
            for name in KINDS:
                argv = [sys.executable, str(HERE / "activator_server.py"), name, str(ports[name])]
                argv += [base, str(folder / name)]
                process = started(name, argv, env=environment(), log=folder / f"{name}.log")
                servers[name] = await stack.enter_async_context(process)
                ask = partial(http.get, f"{urls[name]}/health")
                await until_it_answers(servers[name], ask)
            yield Stand(servers, {**urls, "direct": base})


async def turn(at: Stand, seconds: float, streams: int, found: dict[str, Samples]) -> None:
    """Every way in each kind of load, one right after the other."""
    names = list(found)
    names = names if len(found["direct"].per_s) % 2 else names[::-1]
    for name in names:
        url, server = f"{at.urls[name]}/v1/completions", at.servers.get(name)
        before = 0.0 if server is None else cpu_s(server.tree()[0])
        told = await program("activator_load.py", "closed", url, CLIENTS, seconds)
        found[name].per_s.append(told["requests"] / told["seconds"])
        if server is not None:
            used = cpu_s(server.tree()[0]) - before
            found[name].per_cpu_s.append(told["requests"] / used)
    for name in names:
        url = f"{at.urls[name]}/v1/completions"
        told = await program("activator_load.py", "closed", url, 1, seconds)
        found[name].alone_ms.append(told["p50_ms"])
    for name in names:
        url = f"{at.urls[name]}/stream"
        told = await program("activator_load.py", "streams", url, streams, EVENTS, GAP_S)
        found[name].streams.append(told["streams"])
        found[name].event_p50_ms.append(told["p50_ms"])
        found[name].event_p99_ms.append(told["p99_ms"])


async def measure(turns: int, seconds: float, streams: int, show: Steps) -> list[Row]:
    """Take the turns; the rows of the table."""
    with kept_on_failure("relume-activator-") as folder:
        async with stand(folder) as at:
            show.begin("warm")
            for name in KINDS:
                url = f"{at.urls[name]}/v1/completions"
                await program("activator_load.py", "closed", url, CLIENTS, _WARM_S)
            found = {name: Samples.none() for name in (*KINDS, "direct")}
            for number in range(turns):
                show.begin(f"turn {number + 1} of {turns}")
                await turn(at, seconds, streams, found)
    return rows(found, streams)


def rows(found: dict[str, Samples], streams: int) -> list[Row]:
    """The table of what was found; differences and ratios are taken inside a turn."""
    ours, proxy, direct = (found[name] for name in (*KINDS, "direct"))

    def three(name: str, unit: str, field: str, at_least: float | None = None) -> Row:
        samples = (tuple(getattr(each, field)) for each in (ours, proxy, direct))
        return Row(name, unit, *samples, at_least=at_least)

    pairs = zip(ours.alone_ms, direct.alone_ms, strict=True)
    added = tuple(mine - without for mine, without in pairs)
    pairs = zip(proxy.alone_ms, direct.alone_ms, strict=True)
    by_proxy = tuple(mine - without for mine, without in pairs)
    pairs = zip(ours.per_cpu_s, proxy.per_cpu_s, strict=True)
    return [
        three(f"requests, {CLIENTS} clients", "/s", "per_s"),
        three("requests for a CPU second", "/s", "per_cpu_s", at_least=1500),
        Row("of the plain proxy's", "×", tuple(mine / its for mine, its in pairs)),
        three("one client, p50", "ms", "alone_ms"),
        Row("added to an answer, p50", "ms", added, by_proxy, at_most=1.5),
        three("streams at once that ended", "", "streams", at_least=min(streams, 500)),
        three("event of a stream to its reader, p50", "ms", "event_p50_ms"),
        three("the same, p99", "ms", "event_p99_ms"),
    ]


def display(screen: Screen, table: list[Row], machine: Machine) -> None:
    """The table, and what it was measured on."""
    screen.title(f"the activator, medians of {len(table[0].ours)} turns")
    headers = ("measure", "activator", "least … most", "proxy", "direct", "target", "verdict")
    screen.table(
        headers,
        [
            [
                row.name,
                _shown(row.ours, row.unit),
                spread(row.ours, _digits(row.unit)),
                _shown(row.proxy, row.unit),
                _shown(row.direct, row.unit),
                row.target,
                verdict(row.holds),
            ]
            for row in table
        ],
    )
    print_notes(screen, machine.facts())


def _digits(unit: str) -> int:
    return 2 if unit in ("ms", "×") else 0


def _shown(samples: tuple[float, ...], unit: str) -> str:
    if not samples:
        return ""
    return f"{median(samples):,.{_digits(unit)}f} {unit}".rstrip()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--turns", type=click.IntRange(min=1), default=5, show_default=True, metavar="N")
@click.option("--seconds", type=float, default=2.0, show_default=True, help="Of each closed loop.")
@click.option("--streams", type=click.IntRange(min=1), default=500, show_default=True, metavar="N")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def main(*, turns: int, seconds: float, streams: int, output: str) -> None:
    """Measure what the activator adds to a request, beside a plain proxy.

    The activator keeps to one core. Its requests for a CPU second are what it could answer with
    that core alone, whatever else the machine does. A missed target is shown and is not a failure.

    \b
    Examples:
      python loadtests/activator.py
      python loadtests/activator.py --turns 9 --streams 1000
      python loadtests/activator.py --turns 1 --seconds 1 -o json
    """
    machine = Machine.now()
    with steps(turns + 1) as progress:
        table = run(PROGRAM, measure(turns, seconds, streams, progress))
    screen = Screen.stdout()
    if output == "json":
        screen.json({"machine": machine.to_json(), "rows": [row.to_json() for row in table]})
    else:
        display(screen, table, machine)


if __name__ == "__main__":
    main()
