"""The programs of the benchmark that end by themselves: producers, and the ceiling."""

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from processes import MeasurementFailed

from relume.base.parent import die_with_parent

HERE = Path(__file__).resolve().parent
PRODUCERS = 64
BATCH = 100


@dataclass(frozen=True, slots=True)
class Posted:
    """What the producers did; `first` and `after` are their event numbers."""

    events: int
    seconds: float
    after: int
    cpu_s: float
    p50_ms: float
    p99_ms: float
    longest_ms: float
    #: How late an open loop posted (p99), because the machine was busy.
    late_p99_ms: float = 0.0

    @property
    def rate(self) -> float:
        """Events accepted in a second."""
        return self.events / self.seconds


async def program(name: str, *arguments: object) -> dict[str, float]:
    """Run one of the programs here to its end; the JSON that it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(HERE / name),
        *(str(each) for each in arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=die_with_parent,
    )
    try:
        output, words = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise MeasurementFailed(f"{name}: {words.decode(errors='replace').strip()[-500:]}")
    found: dict[str, float] = json.loads(output)
    return found


async def post(
    url: str,
    first: int,
    *,
    seconds: float | None = None,
    count: int | None = None,
    batch: int = 1,
    producers: int = PRODUCERS,
    rate: float | None = None,
    sent: Path | None = None,
) -> Posted:
    """Let producers post to a Broker for so long, or so many events, numbered from `first` on.

    With a `rate` they post so many a second in an open loop. The file `sent` gets the moment of
    each post.
    """
    options: list[object] = ["--producers", producers, "--first", first, "--batch", batch]
    if seconds is not None:
        options += ["--seconds", seconds]
    if count is not None:
        options += ["--count", count]
    if rate is not None:
        options += ["--rate", rate]
    if sent is not None:
        options += ["--sent", sent]
    told = await program("event_load.py", url, *options)
    return Posted(
        events=int(told["events"]),
        seconds=told["seconds"],
        after=int(told["next"]),
        cpu_s=told["cpu_s"],
        p50_ms=told["p50_ms"],
        p99_ms=told["p99_ms"],
        longest_ms=told["longest_ms"],
        late_p99_ms=told.get("late_p99_ms", 0.0),
    )
