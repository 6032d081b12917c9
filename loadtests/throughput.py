"""Tokens per second of our runtime beside `vllm serve`, with the same flags.

    python loadtests/throughput.py                       5 repetitions, about 15 minutes
    python loadtests/throughput.py --runs 9 -o json      every sample, for a program

Both servers stay up, and the one without work is stopped (SIGSTOP) meanwhile. Each repetition
gives both the same prompts, one server right after the other (A B, then B A), so that the machine's
noise hits both alike; the ratio is taken inside each repetition, and the median of these ratios is
what counts.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import aiohttp
import click
from client import Json, Stream, chat, first_token, session, together
from figures import Machine, print_notes, spread, verdict
from processes import MeasurementFailed, kept_on_failure
from rich.text import Text
from running import Steps, run, steps
from servers import START_WITHIN_S, ModelServer, Workload, runtime, sample_workload, vllm_serve

from relume.cli.screen import Screen

STREAMS = (1, 4, 16, 64)
TARGET = 1.0
#: How much later than `vllm serve` the first token of a stream may come.
FIRST_TOKEN_MS = 3.0
TOPICS = (
    *("tides", "bridges", "bread", "volcanoes", "clocks", "maps", "glass", "bees"),
    *("rivers", "paper", "stars", "steam", "salt", "lenses", "roads", "wool"),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One server under one load: output tokens a second, and seconds to a stream's first token."""

    tokens_per_s: float
    first_token_s: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Both servers in one repetition."""

    ours: Sample
    vllm: Sample

    @property
    def ratio(self) -> float:
        return self.ours.tokens_per_s / self.vllm.tokens_per_s


def prompts(model: str, repetition: int, streams: int, tokens: int) -> list[Json]:
    """The chats of one load. Each begins with its own number, so that no prefix is cached."""
    return [
        chat(
            model,
            f"{repetition}.{streams}.{i}: Write a long text about {TOPICS[i % len(TOPICS)]}.",
            tokens,
        )
        for i in range(streams)
    ]


def sample_of(streams: list[Stream], tokens: int, name: str) -> Sample:
    """What a load of chats at once found; raises MeasurementFailed where one is not so long."""
    if any(s.tokens != tokens for s in streams):
        raise MeasurementFailed(
            f"{name} generated {[s.tokens for s in streams]} tokens, not {tokens} in each stream"
        )
    elapsed = max(s.ended for s in streams) - min(s.started for s in streams)
    return Sample(
        tokens_per_s=sum(s.tokens for s in streams) / elapsed,
        first_token_s=median(s.first_token - s.started for s in streams),
    )


class Throughput:
    """The pairs of samples by the number of streams."""

    def __init__(self, workload: Workload, tokens: int, progress: Steps) -> None:
        self.pairs: defaultdict[int, list[Pair]] = defaultdict(list)
        self._workload = workload
        self._tokens = tokens
        self._progress = progress

    async def measure(self, runs: int, folder: Path) -> None:
        """Start both servers and take `runs` pairs for each load. Raises MeasurementFailed."""
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(session())
            self._progress.begin("start vllm serve")
            vllm = await stack.enter_async_context(vllm_serve(self._workload, folder / "vllm.log"))
            await self._ready(http, vllm)
            self._progress.begin("start our runtime")
            ours = await stack.enter_async_context(runtime(self._workload, folder / "ours.log"))
            await self._ready(http, ours)
            self._progress.begin("warm-up")
            for server in (vllm, ours):
                await together(http, server.url, self._prompts(0, max(STREAMS)))
            for repetition in range(1, runs + 1):
                for streams in STREAMS:
                    self._progress.begin(f"repetition {repetition} of {runs}: {streams} streams")
                    self.pairs[streams].append(
                        await self._pair(http, ours, vllm, repetition, streams)
                    )

    async def _pair(
        self,
        http: aiohttp.ClientSession,
        ours: ModelServer,
        vllm: ModelServer,
        repetition: int,
        streams: int,
    ) -> Pair:
        bodies = self._prompts(repetition, streams)
        if repetition % 2:
            theirs = await self._load(http, vllm, ours, bodies)
            return Pair(await self._load(http, ours, vllm, bodies), theirs)
        return Pair(
            await self._load(http, ours, vllm, bodies), await self._load(http, vllm, ours, bodies)
        )

    async def _load(
        self,
        http: aiohttp.ClientSession,
        busy: ModelServer,
        idle: ModelServer,
        bodies: list[Json],
    ) -> Sample:
        with idle.server.paused():
            streams = await together(http, busy.url, bodies)
        return sample_of(streams, self._tokens, busy.server.name)

    async def _ready(self, http: aiohttp.ClientSession, server: ModelServer) -> None:
        name = self._workload.service
        await first_token(http, server.url, name, server.server, START_WITHIN_S)

    def _prompts(self, repetition: int, streams: int) -> list[Json]:
        return prompts(self._workload.service, repetition, streams, self._tokens)


def added_ms(pairs: list[Pair]) -> float:
    """How much later our first token comes, in the median of the repetitions."""
    return median(p.ours.first_token_s - p.vllm.first_token_s for p in pairs) * 1000


def ratio_of(pairs: list[Pair]) -> float:
    """Median over the repetitions of ours by theirs."""
    return median(pair.ratio for pair in pairs)


def show(screen: Screen, pairs: Mapping[int, list[Pair]], machine: Machine, tokens: int) -> None:
    """One row for each number of streams, and what to know about the machine."""
    runs = len(next(iter(pairs.values())))
    screen.title(f"output tokens per second: medians of {runs}, {tokens} tokens a stream")
    screen.table(
        ("streams", "relume", "vllm serve", "ratio", "least … most", "target", "verdict"),
        [_row(streams, group) for streams, group in pairs.items()],
    )
    screen.line()
    screen.title("to the first token of a stream, ms")
    screen.table(
        ("streams", "relume", "vllm serve", "later by", "target", "verdict"),
        [
            [
                str(streams),
                f"{median(p.ours.first_token_s for p in group) * 1000:,.0f}",
                f"{median(p.vllm.first_token_s for p in group) * 1000:,.0f}",
                f"{added_ms(group):+.1f}",
                f"≤ {FIRST_TOKEN_MS:g}",
                verdict(added_ms(group) <= FIRST_TOKEN_MS),
            ]
            for streams, group in pairs.items()
        ],
    )
    print_notes(screen, machine.facts())


def _row(streams: int, pairs: list[Pair]) -> list[str | Text]:
    ratio = ratio_of(pairs)
    return [
        str(streams),
        f"{median(p.ours.tokens_per_s for p in pairs):,.1f}",
        f"{median(p.vllm.tokens_per_s for p in pairs):,.1f}",
        f"{ratio:.3f}",
        spread([p.ratio for p in pairs], 3),
        f"≥ {TARGET}",
        verdict(ratio >= TARGET),
    ]


def to_json(pairs: Mapping[int, list[Pair]]) -> list[Json]:
    """Every sample, by the number of streams."""
    return [
        {
            "streams": streams,
            "ratio": round(ratio_of(group), 4),
            "ratios": [round(pair.ratio, 4) for pair in group],
            "target": TARGET,
            "holds": ratio_of(group) >= TARGET,
            "relume_tokens_per_s": [round(p.ours.tokens_per_s, 2) for p in group],
            "vllm_tokens_per_s": [round(p.vllm.tokens_per_s, 2) for p in group],
            "relume_first_token_s": [round(p.ours.first_token_s, 4) for p in group],
            "first_token_added_ms": round(added_ms(group), 2),
            "first_token_holds": added_ms(group) <= FIRST_TOKEN_MS,
            "vllm_first_token_s": [round(p.vllm.first_token_s, 4) for p in group],
        }
        for streams, group in pairs.items()
    ]


async def _measure(runs: int, tokens: int) -> tuple[dict[int, list[Pair]], Machine]:
    machine = Machine.now()
    workload = sample_workload()
    total = 3 + runs * len(STREAMS)
    with kept_on_failure("relume-throughput-") as folder, steps(total) as progress:
        found = Throughput(workload, tokens, progress)
        await found.measure(runs, folder)
    return dict(found.pairs), machine


def runs_and_tokens(command: Callable[..., None]) -> Callable[..., None]:
    """The options --runs and --tokens of a program that measures tokens per second."""
    runs = click.option(
        "--runs", type=click.IntRange(min=1), default=5, show_default=True, metavar="N"
    )
    tokens = click.option(
        "--tokens",
        type=click.IntRange(8, 256),
        default=128,
        show_default=True,
        metavar="N",
        help="Output tokens of each stream.",
    )
    return runs(tokens(command))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@runs_and_tokens
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def main(*, runs: int, tokens: int, output: str) -> None:
    """Measure tokens per second at 1, 4, 16 and 64 concurrent streams, beside `vllm serve`.

    Both serve the model of config/samples/summarize.yaml with its flags. A missed target is shown
    and is not a failure: the exit code is 1 only when something could not be measured.

    \b
    Examples:
      python loadtests/throughput.py
      python loadtests/throughput.py --runs 1 --tokens 32     a quick look
      python loadtests/throughput.py --runs 9 -o json > throughput.json
    """
    pairs, machine = run("throughput", _measure(runs, tokens))
    screen = Screen.stdout()
    if output == "text":
        show(screen, pairs, machine, tokens)
    else:
        screen.json({"machine": machine.to_json(), "tokens": tokens, "loads": to_json(pairs)})


if __name__ == "__main__":
    main()
