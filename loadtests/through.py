"""Tokens per second through a plane, beside its own predictor when it is asked directly.

    python loadtests/through.py                       5 repetitions, about four minutes
    python loadtests/through.py --runs 9 -o json      every sample, for a program

The plane is `relume up` with one model. A chat goes through its HTTP port, its gateway by the name
of the model, the activator and the runtime; the peer is the same process of the model, asked at its
own port. Each repetition gives both the same prompts, one right after the other.
"""

from collections import defaultdict
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median

import aiohttp
import click
import psutil  # type: ignore[import-untyped]
import yaml
from client import Json, session, together
from figures import Machine, print_notes, spread, verdict
from processes import MeasurementFailed, kept_on_failure
from running import Steps, run, steps
from servers import Plane, Workload, plane, sample_workload
from throughput import Pair, Sample, added_ms, prompts, ratio_of, runs_and_tokens, sample_of

from relume.cli.screen import Screen

STREAMS = (1, 4, 16)
TARGET = 0.97


def always_one(workload: Workload, folder: Path) -> Workload:
    """The workload with one replica that stays: the peer is asked behind the back of the plane."""
    documents = list(yaml.safe_load_all(workload.manifest.read_text(encoding="utf-8")))
    for document in documents:
        if document["kind"] == "InferenceService":
            document["spec"]["predictor"]["minReplicas"] = 1
    written = folder / "one.yaml"
    written.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    return replace(workload, manifest=written)


async def predictor_url(at: Plane) -> str:
    """The URL of the model's own process. Raises MeasurementFailed."""
    for pid in (await at.service_status()).pids:
        for each in psutil.Process(pid).connections("tcp"):
            if each.status == psutil.CONN_LISTEN:
                return f"http://{each.laddr.ip}:{each.laddr.port}"
    raise MeasurementFailed("the plane has no predictor that listens")


async def load(http: aiohttp.ClientSession, url: str, bodies: list[Json], tokens: int) -> Sample:
    """All chats at once; raises MeasurementFailed where one is shorter than it should be."""
    return sample_of(await together(http, url, bodies), tokens, url)


async def measure(runs: int, tokens: int, folder: Path, show: Steps) -> Mapping[int, list[Pair]]:
    """Start the plane and take `runs` pairs for each number of streams."""
    workload = always_one(sample_workload(), folder)
    pairs: defaultdict[int, list[Pair]] = defaultdict(list)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(session())
        show.begin("start relume up")
        at = await stack.enter_async_context(plane(workload, folder / "state"))
        ours = at.openai_url
        await together(http, ours, prompts(workload.service, 0, 1, tokens))  # it waits for a start
        direct = await predictor_url(at)
        show.begin("warm-up")
        for url in (direct, ours):
            await together(http, url, prompts(workload.service, 0, max(STREAMS), tokens))
        for repetition in range(1, runs + 1):
            for streams in STREAMS:
                show.begin(f"repetition {repetition} of {runs}: {streams} streams")
                # Each way has prompts of its own, so that none finds its prefix in the cache.
                mine = prompts(workload.service, 2 * repetition, streams, tokens)
                its = prompts(workload.service, 2 * repetition + 1, streams, tokens)
                if repetition % 2:
                    theirs = await load(http, direct, its, tokens)
                    pairs[streams].append(Pair(await load(http, ours, mine, tokens), theirs))
                else:
                    through = await load(http, ours, mine, tokens)
                    pairs[streams].append(Pair(through, await load(http, direct, its, tokens)))
    return pairs


def display(screen: Screen, pairs: Mapping[int, list[Pair]], machine: Machine, tokens: int) -> None:
    """One row for each number of streams, and what to know about the machine."""
    runs = len(next(iter(pairs.values())))
    screen.title(f"output tokens per second: medians of {runs}, {tokens} tokens a stream")
    headers = ("streams", "through the plane", "direct", "ratio", "least … most", "target")
    screen.table(
        (*headers, "verdict", "first token"),
        [
            [
                str(streams),
                f"{median(p.ours.tokens_per_s for p in group):,.1f}",
                f"{median(p.vllm.tokens_per_s for p in group):,.1f}",
                f"{ratio_of(group):.3f}",
                spread([p.ratio for p in group], 3),
                f"≥ {TARGET}",
                verdict(ratio_of(group) >= TARGET),
                f"{added_ms(group):+.1f} ms",
            ]
            for streams, group in pairs.items()
        ],
    )
    print_notes(screen, machine.facts())


def to_json(pairs: Mapping[int, list[Pair]]) -> list[Json]:
    """Every sample, by the number of streams."""
    return [
        {
            "streams": streams,
            "ratio": round(ratio_of(group), 4),
            "ratios": [round(pair.ratio, 4) for pair in group],
            "target": TARGET,
            "holds": ratio_of(group) >= TARGET,
            "through_tokens_per_s": [round(p.ours.tokens_per_s, 2) for p in group],
            "direct_tokens_per_s": [round(p.vllm.tokens_per_s, 2) for p in group],
            "first_token_added_ms": round(added_ms(group), 2),
        }
        for streams, group in pairs.items()
    ]


async def _measured(runs: int, tokens: int) -> Mapping[int, list[Pair]]:
    with (
        kept_on_failure("relume-through-") as folder,
        steps(2 + runs * len(STREAMS)) as progress,
    ):
        return await measure(runs, tokens, folder, progress)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@runs_and_tokens
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def main(*, runs: int, tokens: int, output: str) -> None:
    """Measure tokens per second through `relume up`, beside its predictor without it.

    A missed target is shown and is not a failure: the exit code is 1 only when something could not
    be measured.

    \b
    Examples:
      python loadtests/through.py
      python loadtests/through.py --runs 1 --tokens 32     a quick look
      python loadtests/through.py --runs 9 -o json > through.json
    """
    machine = Machine.now()
    pairs = run("through", _measured(runs, tokens))
    screen = Screen.stdout()
    if output == "text":
        display(screen, pairs, machine, tokens)
    else:
        screen.json({"machine": machine.to_json(), "tokens": tokens, "loads": to_json(pairs)})


if __name__ == "__main__":
    main()
