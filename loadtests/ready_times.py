"""How well ready times are predicted: recorded starts, each predicted from all the others.

    python loadtests/ready_times.py                      replay loadtests/recorded/coldstarts.jsonl
    python loadtests/ready_times.py FILE                 replay a ledger of your own
    python loadtests/ready_times.py --record 22          record 22 starts and 11 fresh ones anew
    python loadtests/ready_times.py FILE --record 22     add them to a ledger of your own

Each start is predicted before it begins and after each of its phases. The error of a prediction is
the difference between the moment at which the process was ready and the one that was predicted, as
a share of the whole start.
"""

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median

import click
import orjson
from running import run, steps
from servers import POLL_S, SAMPLE

from relume.base.vocabulary import PREDICTOR_PHASES, Json
from relume.cli.screen import Screen
from relume.config import InferenceService, load
from relume.plane.launch import LocalLauncher
from relume.runtimes.models.store import ModelStore, default_root
from relume.runtimes.spawn import FreshLauncher, Launcher, Template, TemplateLauncher
from relume.serving.ledger import ColdStart, read
from relume.serving.plane import ServingPlane
from relume.serving.prediction import Progress, Subject, left_ms

RECORDED = Path(__file__).resolve().parent / "recorded" / "coldstarts.jsonl"
TARGET = 0.15
BEFORE = "before it begins"


def moments(entry: ColdStart) -> Iterator[tuple[str, Progress]]:
    """Yield each moment at which a start is predicted: its name, and how far the start is then."""
    yield BEFORE, Progress()
    over = [name for name in PREDICTOR_PHASES[:-1] if name in entry.phases]
    assert entry.ready is not None
    # What no phase names comes first: the process is asked for and forked.
    elapsed = max(entry.ready - sum(entry.phases[name] for name in over), 0.0)
    known: dict[str, float] = {}
    for name, following in zip(over, (*over[1:], ""), strict=True):
        known[name] = entry.phases[name]
        elapsed += entry.phases[name]
        if following:
            yield f"after {name}", Progress(entry.started, elapsed, following, dict(known))


def errors(entries: Sequence[ColdStart]) -> dict[str, list[float]]:
    """Return the errors of all predictions by their moment, as shares of the whole start."""
    found: dict[str, list[float]] = {}
    started = [entry for entry in entries if entry.outcome == "ready" and entry.ready]
    for i, entry in enumerate(started):
        assert entry.ready is not None
        others = [*started[:i], *started[i + 1 :]]
        # Rotated, so that the newest of the others are those that came just before.
        others = [*others[i:], *others[:i]]
        subject = Subject(entry.namespace, entry.service)
        for name, progress in moments(entry):
            kind = Progress(entry.started, progress.elapsed, progress.phase, progress.phases)
            predicted = left_ms(others, subject, kind)
            if predicted is not None:
                error = abs(progress.elapsed + predicted - entry.ready) / entry.ready
                found.setdefault(name, []).append(error)
    return found


async def record(count: int, file: Path) -> None:
    """Make `count` starts from the template and half as many fresh ones; append them to `file`."""
    services = load([SAMPLE]).services
    store = ModelStore(default_root())
    file.parent.mkdir(parents=True, exist_ok=True)
    kinds = {"template": count, "fresh": count // 2}
    total = sum(kinds.values())
    with tempfile.TemporaryDirectory(prefix="relume-ready-") as name, steps(total) as progress:
        folder = Path(name)
        (folder / "logs").mkdir()
        async with AsyncExitStack() as stack:
            template = Template(folder / "template.sock", folder / "template.log")
            await stack.enter_async_context(template)
            launchers: dict[str, Launcher] = {
                "template": TemplateLauncher(template),
                "fresh": FreshLauncher(),
            }
            for kind, of_kind in kinds.items():
                for number in range(of_kind):
                    progress.begin(f"{kind}: start {number + 1} of {of_kind}")
                    launcher = LocalLauncher(store, launchers[kind], folder)
                    made = await _start_once(services[0], launcher, folder)
                    with file.open("ab") as kept:
                        kept.write(orjson.dumps(made) + b"\n")


async def _start_once(service: InferenceService, launcher: LocalLauncher, folder: Path) -> Json:
    """Bring a service from nothing to ready, take it away again, and return the ledger's entry."""
    plane = ServingPlane([service], launcher, log_dir=folder / "logs")
    await plane.start()
    try:
        plane.warm(service.namespace, service.name)
        async with asyncio.timeout(120):
            while True:
                if found := plane.coldstarts():
                    return found[0]
                await asyncio.sleep(POLL_S)
    finally:
        await plane.stop(0)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default=RECORDED)
@click.option("--record", "count", type=click.IntRange(min=1), metavar="N", help="Starts to make.")
def main(*, file: Path, count: int | None) -> None:
    """Print the median error of the predicted ready times, for each moment and kind of start."""
    if count is not None:
        # What an aborted run has made replaces nothing.
        made = file.with_suffix(".new") if file == RECORDED else file
        if made != file:
            made.unlink(missing_ok=True)
        run("ready_times", record(count, made))
        made.replace(file)
    entries = read(file)
    screen = Screen.stdout()
    kinds = sorted({entry.started or "" for entry in entries})
    for kind in kinds:
        chosen = [entry for entry in entries if (entry.started or "") == kind]
        screen.title(f"{len(chosen)} starts, {kind}")
        table = [
            (name, f"{median(found):.1%}", f"{max(found):.1%}", str(len(found)))
            for name, found in errors(chosen).items()
        ]
        screen.table(("predicted", "median error", "largest", "starts"), table)
    every = [error for found in errors(entries).values() for error in found]
    if every:
        screen.line(f"all predictions: {median(every):.1%} (target: below {TARGET:.0%})")


if __name__ == "__main__":
    main()
