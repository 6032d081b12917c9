"""A load test of a plane, and one page that shows it: `make load`.

    python loadtests/load.py                                   a plane of its own, four minutes
    python loadtests/load.py --trace code --minutes 8
    python loadtests/load.py --url http://127.0.0.1:8080       a plane that runs

Starts `relume up` with the sample on free loopback ports and a folder of its own, runs
`locustfile.py` against it, looks at `/relume/status` once a second meanwhile, and reads the ledger
of cold starts at the end.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import click
import yaml
from azure_traces import TRACES
from figures import Machine
from load_figures import summary
from load_plan import (
    DEFAULT_LONGEST,
    DEFAULT_MINUTES,
    DEFAULT_RATE,
    DEFAULT_USERS,
    SHAPES,
    Plan,
    plan_of,
)
from load_progress import Progress, progress
from load_record import ColdStart, Record, Sample, asked_in
from load_report import write_report
from processes import MeasurementFailed, kept_on_failure, started
from running import run
from servers import SAMPLE, environment, plane, sample_workload

from relume.cli.errors import NoPlane
from relume.cli.machine.client import PlaneClient, find_plane
from relume.cli.screen import Screen

RESULTS = Path(__file__).resolve().parent / "results"
LOCUSTFILE = Path(__file__).resolve().parent / "locustfile.py"
SAMPLE_EVERY_S = 1.0
TEMPLATE_WITHIN_S = 120.0
#: Seconds that requests which are under way at the end of the plan may take.
DRAIN_S = 60
ZERO_WITHIN_S = 40.0
#: So that a burst needs a second replica: the sample allows one, which takes 16 requests at once.
REPLICAS, AT_ONCE = 2, 6


@dataclass(frozen=True, slots=True)
class Target:
    """What the load is for: service, Broker and type of event."""

    model: str
    broker: str
    event_type: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """One load test, as the options say."""

    plan: Plan
    options: tuple[str, ...]
    """The options of the plan, as locust takes them."""
    target: Target
    url: str | None


def sample_with_replicas(folder: Path) -> Path:
    """The sample with up to two replicas, each for six requests at once, so that a burst needs
    both. Its scale-to-zero window of 10 s stays as it is."""
    documents = list(yaml.safe_load_all(SAMPLE.read_text(encoding="utf-8")))
    for document in documents:
        if document["kind"] == "InferenceService":
            predictor = document["spec"]["predictor"]
            predictor |= {"maxReplicas": REPLICAS, "containerConcurrency": AT_ONCE}
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / SAMPLE.name
    written.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    return written


@asynccontextmanager
async def _plane(wanted: Wanted, folder: Path, shown: Progress) -> AsyncIterator[PlaneClient]:
    """The plane that is asked: a running one, or one that runs as long as the block."""
    if wanted.url is not None:
        async with PlaneClient(find_plane(wanted.url)) as client:
            await client.status()
            yield client
        return
    shown.say("starting a plane of its own, and its warm template")
    workload = sample_workload(sample_with_replicas(folder / "manifest"))
    async with plane(workload, folder / "plane") as running:
        deadline = time.monotonic() + TEMPLATE_WITHIN_S
        while (await running.client.status()).template.state == "loading":
            running.server.check_alive()
            if time.monotonic() > deadline:
                raise MeasurementFailed(f"no warm template within {TEMPLATE_WITHIN_S:g} s")
            await asyncio.sleep(0.5)
        yield running.client


async def _watch(client: PlaneClient, plan: Plan, shown: Progress) -> list[tuple[float, Sample]]:
    """Sample the plane until this is cancelled; pairs of monotonic seconds and sample.

    A plane that does not answer in time is a sample less, and no end.
    """
    found: list[tuple[float, Sample]] = []
    begun = time.monotonic()
    try:
        while True:
            due = begun + (len(found) + 1) * SAMPLE_EVERY_S
            try:
                moment = time.monotonic()
                found.append((moment, Sample.of(await client.status(), moment - begun)))
                shown.sample(found[-1][1], plan)
            except NoPlane as error:
                shown.say(f"no sample: {error}")
            await asyncio.sleep(max(due - time.monotonic(), 0.05))
    except asyncio.CancelledError:
        return found


async def _test(wanted: Wanted, client: PlaneClient, folder: Path, shown: Progress) -> Record:
    """Run locust beside the sampler, and put together what both have found."""
    machine, file, target = Machine.now(), folder / "requests.jsonl", wanted.target
    argv = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary"]
    argv += ["--host", client.url, "--stop-timeout", str(DRAIN_S), "--loglevel", "WARNING"]
    argv += ["--record", str(file), "--broker", target.broker, "--model", target.model]
    argv += ["--event-type", target.event_type, *wanted.options]
    # With another plane's events and cold starts nothing of before the test may be counted.
    before = {(entry.at, entry.service) for entry in await client.cold_starts()}
    async with started("locust", argv, env=environment(), log=folder / "locust.log") as locust:
        watching = asyncio.create_task(_watch(client, wanted.plan, shown))
        try:
            code = await asyncio.wait_for(locust.ended(), wanted.plan.seconds + 2 * DRAIN_S + 60)
            if wanted.url is None:
                await _until_zero(client)
        except TimeoutError:
            raise MeasurementFailed(f"locust did not end: {locust.last_words()}") from None
        finally:
            watching.cancel()
            samples = await watching
        if code not in (0, 1) or not file.exists():
            raise MeasurementFailed(f"locust ended with {code}: {locust.last_words()}")
    origin, asked = asked_in(file.read_text(encoding="utf-8").splitlines())
    if code == 1 and all(each.error is None for each in asked):  # an error of the locust file
        raise MeasurementFailed(f"a user of the load test failed: {locust.last_words()}")
    zero = time.time() - (time.monotonic() - origin)
    starts = [
        entry for entry in await client.cold_starts() if (entry.at, entry.service) not in before
    ]
    return Record(
        about=_about(wanted, client.url, machine),
        stages=wanted.plan.stages,
        samples=tuple(_since(origin, samples)),
        asked=asked,
        cold_starts=tuple(
            ColdStart.of(entry, datetime.fromisoformat(entry.at).timestamp() - zero)
            for entry in starts
        ),
    )


async def _until_zero(client: PlaneClient) -> None:
    """Wait until no service has a replica, so that the record has the way to zero also where a
    slow machine was still busy at the end of the plan; for a bounded time."""
    deadline = time.monotonic() + ZERO_WITHIN_S
    while time.monotonic() < deadline:
        services = (await client.status()).serving.services
        if all(service.replicas == 0 and service.desired == 0 for service in services):
            break
        await asyncio.sleep(SAMPLE_EVERY_S)
    await asyncio.sleep(2 * SAMPLE_EVERY_S)


def _since(origin: float, samples: list[tuple[float, Sample]]) -> list[Sample]:
    """The samples on the clock of the test, the counters from where it found them."""
    if not samples:
        return []
    first = samples[0][1]
    return [sample.counted_from(first, moment - origin) for moment, sample in samples]


def _about(wanted: Wanted, url: str, machine: Machine) -> tuple[tuple[str, str], ...]:
    plan, options = wanted.plan, dict(zip(wanted.options[::2], wanted.options[1::2], strict=True))
    own = (
        f"config/samples/{SAMPLE.name} with maxReplicas {REPLICAS}, containerConcurrency {AT_ONCE}"
    )
    shape = f"{options['--shape']} of the {plan.trace.name} trace, {plan.seconds / 60:g} minutes"
    load = (
        f"open loop {options['--rate']}/s on average while busy, "
        f"closed loop up to {options['--closed-users']} users, "
        f"up to {plan.longest} tokens a request, seed {plan.seed}"
    )
    where = f"the plane at {url}" if wanted.url else f"a plane of its own: {own}"
    return (("load", shape), ("requests", load), ("plane", where), *machine.facts())


async def _run(wanted: Wanted) -> Record:
    with kept_on_failure("relume-load-") as folder, progress(wanted.plan) as shown:
        async with _plane(wanted, folder, shown) as client:
            return await _test(wanted, client, folder, shown)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--shape", type=click.Choice(SHAPES), default="bursts", show_default=True)
@click.option(
    "--trace", type=click.Choice(sorted(TRACES)), default="conversation", show_default=True
)
@click.option(
    "--minutes", type=click.FloatRange(0.5, 1440), default=DEFAULT_MINUTES, show_default=True
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0),
    default=DEFAULT_RATE,
    show_default=True,
    help="Requests a second of the open loop while there is load.",
)
@click.option(
    "--users",
    type=click.IntRange(min=0),
    default=DEFAULT_USERS,
    show_default=True,
    help="Users of the closed loop in a burst.",
)
@click.option(
    "--longest",
    type=click.IntRange(8, 1_000_000),
    default=DEFAULT_LONGEST,
    show_default=True,
    metavar="TOKENS",
    help="The trace's lengths are scaled so that its 99th percentile fits.",
)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--url", metavar="URL", help="A plane that runs. Default: one is started.")
@click.option("--model", default="summarize", show_default=True, help="The service of the chats.")
@click.option("--broker", default="default/summarize", show_default=True, metavar="NS/NAME")
@click.option("--event-type", default="com.example.summarize.request", show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=RESULTS / "load.html",
    metavar="FILE",
    help="The report; its record is kept beside it as .json. Default: loadtests/results/load.html.",
)
@click.option(
    "--again",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="RECORD",
    help="Draw the report of a record that was kept, and run nothing.",
)
def main(
    *,
    shape: str,
    trace: str,
    minutes: float,
    rate: float,
    users: int,
    longest: int,
    seed: int,
    url: str | None,
    model: str,
    broker: str,
    event_type: str,
    out: Path,
    again: Path | None,
) -> None:
    """Put load on a plane and draw what it did, as one HTML file that needs nothing beside it.

    The exit code is 1 when a request failed or an event was left over.

    \b
    Examples:
      python loadtests/load.py
      python loadtests/load.py --trace code --rate 2 --minutes 8
      python loadtests/load.py --shape week --trace code --minutes 15
      python loadtests/load.py --shape steady --rate 0 --users 16 --minutes 2
      python loadtests/load.py --url http://127.0.0.1:8080 --out /tmp/mine.html
      python loadtests/load.py --again loadtests/results/load.json
    """

    async def asked_for() -> Record:
        if again is not None:
            return Record.read(again)
        plan = plan_of(
            shape, trace, minutes=minutes, rate=rate, users=users, longest=longest, seed=seed
        )
        options: dict[str, object] = {"--shape": shape, "--trace": trace, "--minutes": minutes}
        options |= {"--rate": rate, "--closed-users": users, "--longest": longest, "--seed": seed}
        words = tuple(word for name, value in options.items() for word in (name, str(value)))
        return await _run(Wanted(plan, words, Target(model, broker, event_type), url))

    record = run("load", asked_for())
    if again is None:
        out.parent.mkdir(parents=True, exist_ok=True)
        record.write(out.with_suffix(".json"))
    write_report(record, out)
    told, screen = summary(record), Screen.stdout()
    screen.pairs([(figure.name, f"{figure.value}  {figure.note}") for figure in told.figures])
    screen.line(told.verdict, "bold green" if told.well else "bold red")
    screen.line(told.ways)
    screen.line(f"report: {os.path.relpath(out)}")
    if not told.well:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
