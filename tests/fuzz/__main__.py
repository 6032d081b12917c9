"""100,000 generated requests to the ingress, then a coverage-guided run: `make fuzz`.

    python -m tests.fuzz [--requests 100000] [--runs 300000] [--seconds 180]

Ends with 1 when the ingress did what it must never do; the request is printed, made small.
"""

import argparse
import asyncio
import gc
import logging
import subprocess
import sys
import time
import tracemalloc

from hypothesis import HealthCheck, given, seed, settings

from .door import Door
from .messages import VOLLEY, Request, volleys

# Hypothesis remembers what it tried: a round each keeps its memory, and its choices, fresh.
ROUND = 1000


def post(door: Door, requests: int) -> tuple[Request, ...]:
    """Post that many generated requests; the last round of them. Raises what escapes."""
    last: list[Request] = []
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        for number in range(max(1, requests // (ROUND * VOLLEY))):
            last.clear()

            @seed(number)
            @settings(
                max_examples=ROUND,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(volleys())
            def round_of_volleys(volley: tuple[Request, ...]) -> None:
                last.extend(volley)
                for request in volley:
                    loop.run_until_complete(door.try_out(request))

            round_of_volleys()
    return tuple(last)


def growth(door: Door, requests: tuple[Request, ...]) -> tuple[int, int]:
    """Bytes and objects that a replay leaves behind, after one that filled all there is to fill."""

    async def replay() -> tuple[int, int]:
        for request in requests:
            await door.try_out(request)
        gc.collect()
        return tracemalloc.get_traced_memory()[0], len(gc.get_objects())

    async def thrice() -> tuple[int, int]:
        await replay()
        before, after = await replay(), await replay()
        return after[0] - before[0], after[1] - before[1]

    tracemalloc.start()
    try:
        return asyncio.run(thrice())
    finally:
        tracemalloc.stop()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=300_000)
    parser.add_argument("--seconds", type=int, default=180)
    asked = parser.parse_args()
    door = Door()
    logging.getLogger().addHandler(door)
    began = time.monotonic()
    last = post(door, asked.requests)
    print(f"{sum(door.seen.values()):,} requests in {time.monotonic() - began:.0f} s")
    for answer, count in sorted(door.seen.items()):
        print(f"  {count:8,}  {answer}")
    size, objects = growth(door, last)
    print(f"{len(last):,} of them again: {size:,} bytes and {objects:,} objects more in memory")
    guided = [sys.executable, "-m", "tests.fuzz.coverage_guided"]
    limits = [f"-runs={asked.runs}", f"-max_total_time={asked.seconds}"]
    done = subprocess.run([*guided, *limits], check=False)
    return 1 if done.returncode or size > 1_000_000 or objects > 1000 else 0


if __name__ == "__main__":
    sys.exit(main())
