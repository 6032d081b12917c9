"""An open loop: something is due so many times a second, whatever became of the last one."""

import asyncio
import time
from array import array
from collections.abc import Callable

# The timers of event loops count in milliseconds. Shorter sleeps would only spin.
_SHORTEST_SLEEP_S = 0.001


async def paced(rate: float, seconds: float, due: Callable[[int], None]) -> float:
    """Call `due` with 0, 1, 2, … so many times a second, for so long.

    Returns how late the calls were, in milliseconds (p99): on a busy machine several come at once.
    """
    count, number = max(1, round(rate * seconds)), 0
    late = array("d")
    started = time.monotonic()
    while number < count:
        now = time.monotonic()
        while number < count and (lateness := now - started - number / rate) >= 0:
            late.append(lateness * 1000)
            due(number)
            number += 1
        left = started + number / rate - time.monotonic()
        await asyncio.sleep(max(_SHORTEST_SLEEP_S, left))
    return sorted(late)[int(count * 0.99)]
