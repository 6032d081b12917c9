"""The last hour in samples: a few numbers for each service, Broker and Trigger.

A sample is one line of JSON, `[seconds, {name: numbers}]`, encoded once when it is taken. What is
all zero is left out, so that an idle hour takes 15 kB. The names and numbers are

    s:NS/NAME   replicas, requests in flight, requests held, MiB of memory
    b:NS/NAME   events accepted since the sample before, dead letters that lie there
    t:NS/NAME   deliveries, retries and dead letters since the sample before, events that wait
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import orjson

#: Seconds between two samples, and how many are kept: an hour.
EVERY_S = 5.0
KEPT = 720
KEPT_BYTES = 4 * 2**20
#: So many services, Brokers and Triggers each are sampled and shown; more are counted.
MOST_EACH = 200
MIB = 1 << 20


class History:
    """The newest samples, within their number and their bytes."""

    def __init__(self, most: int = KEPT, most_bytes: int = KEPT_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._samples: deque[bytes] = deque()
        self.bytes = 0
        self.count = 0
        """How many there were since the start."""

    def add(self, sample: bytes) -> None:
        """Keep a sample; the oldest ones make room."""
        self._samples.append(sample)
        self.count += 1
        self.bytes += len(sample)
        while len(self._samples) > self._most or (
            self.bytes > self._most_bytes and len(self._samples) > 1
        ):
            self.bytes -= len(self._samples.popleft())

    def since(self, count: int) -> list[orjson.Fragment]:
        """The samples after the first `count` that there were, as far as they are kept."""
        new = min(self.count - count, len(self._samples))
        kept = islice(self._samples, len(self._samples) - new, None)
        return [orjson.Fragment(sample) for sample in kept]


class Sampler:
    """Makes a sample of a status; what only grows becomes what was added since the last one."""

    def __init__(self) -> None:
        self._counted: dict[str, tuple[int, ...]] = {}

    def sample(self, at: float, status: Mapping[str, Any], memory: Mapping[str, int]) -> bytes:
        """`at`: seconds since 1970; `memory`: bytes by the name of a service, in `s:NS/NAME`."""
        counted: dict[str, tuple[int, ...]] = {}
        numbers: dict[str, list[int]] = {}
        for name, now, grown in _numbers(status, memory):
            counted[name] = grown
            # A first look at a counter tells nothing of the last seconds.
            before = self._counted.get(name, grown)
            added = [max(new - old, 0) for new, old in zip(grown, before, strict=True)]
            if any(added) or any(now):
                numbers[name] = [*added, *now]
        self._counted = counted
        return orjson.dumps([round(at), numbers])


def _numbers(
    status: Mapping[str, Any], memory: Mapping[str, int]
) -> Iterator[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Name, numbers as they are now, and numbers that only grow, of everything in a status."""
    eventing = status["eventing"]
    for each in _first(status["serving"].get("services", ())):
        name = f"s:{each['namespace']}/{each['name']}"
        held = -(-memory.get(name, 0) // MIB)
        sums = (_sum(each, field) for field in ("replicas", "in_flight", "held"))
        yield name, (*sums, held), ()
    for each in _first(eventing.get("brokers", ())):
        name = f"b:{each['namespace']}/{each['name']}"
        yield name, (each["dead_letters"],), (each["accepted"],)
    for each in _first(eventing.get("triggers", ())):
        name = f"t:{each['namespace']}/{each['name']}"
        grown = (each["delivered"], each["retried"], each["dead_lettered"])
        yield name, (each["pending"] + each["in_flight"],), grown


def _sum(service: Mapping[str, Any], field: str) -> int:
    """A number of a service, of both its revisions where two share its requests."""
    return sum(share[field] for share in service.get("traffic") or (service,))


def _first(found: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    return islice(found, MOST_EACH)
