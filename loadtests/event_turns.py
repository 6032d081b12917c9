"""One turn: every side in each kind of load, one right after the other, then raw JetStream.

The speed of a machine that is shared changes within seconds. So the sides take turns within each
kind of load, and the one that begins changes each time.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from event_latency import Latency
from event_programs import program
from event_stands import FEW, MANY, Closed, Http, Open, Stand
from processes import kept_on_failure

RATES = (200.0, 1000.0)
HALF = "half of its rate"
CLOSED_S, OPEN_S = 2.0, 2.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of each load of a turn."""

    closed: float = CLOSED_S
    open: float = OPEN_S
    ceiling: float = 1.5


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side did: a closed loop with 16 and with 64 producers, and open loops by rate.

    `http` is its ceiling without a Broker.
    """

    few: Closed
    many: Closed
    open: Mapping[str, Open]
    http: Http

    @property
    def half(self) -> float:
        """The third open loop's rate."""
        return half_of(self.few)


@dataclass(frozen=True, slots=True)
class Raw:
    """Raw JetStream: events a second, and publish → fetch by rate."""

    published_per_s: float
    consumed_per_s: float
    open: Mapping[str, Latency]


async def turn(stands: Sequence[Stand], number: int, times: Times) -> list[Turn]:
    """What each of the stands did in the turn of that number, in their order."""
    order = Order(stands, number)
    http = await order.each(lambda at: stands[at].http.closed(times.ceiling))
    few = await order.each(lambda at: stands[at].plane.closed(times.closed, FEW))
    many = await order.each(lambda at: stands[at].plane.closed(times.closed, MANY))
    rates = [_named(half_of(closed)) for closed in few]
    opened: dict[str, list[Open]] = {}
    for name in rates[0]:

        async def at_rate(at: int, name: str = name) -> Open:
            return await stands[at].plane.open(times.open, rates[at][name])

        opened[name] = await order.each(at_rate)
    return [
        Turn(few[at], many[at], {name: found[at] for name, found in opened.items()}, http[at])
        for at in range(len(stands))
    ]


class Order:
    """Who goes first: another one each time."""

    def __init__(self, stands: Sequence[Stand], number: int) -> None:
        self._order = list(range(len(stands)))
        if number % 2:
            self._order.reverse()

    async def each(self, load: Callable[[int], Awaitable[T]]) -> list[T]:
        """Load one after the other; what they found, by their index."""
        found = {at: await load(at) for at in self._order}
        self._order.reverse()
        return [found[at] for at in range(len(self._order))]


def half_of(closed: Closed) -> float:
    """Half of what was delivered a second."""
    return closed.delivered_per_s / 2


def _named(half: float) -> dict[str, float]:
    """The rates of the open loops by their names."""
    return {f"{rate:,.0f}/s": rate for rate in RATES} | {HALF: half}


async def raw(half: float, times: Times) -> Raw:
    """Raw JetStream at the same rates; `half` is the third one."""
    rates = _named(half)
    with kept_on_failure("relume-eventing-") as folder:
        told = await program(
            "event_ceiling.py",
            *(folder, "--seconds", times.ceiling, "--open-seconds", times.open),
            *("--rates", ",".join(f"{rate:g}" for rate in rates.values())),
        )
    seen = {
        name: Latency(told[f"p50_ms {rate:g}"], told[f"p99_ms {rate:g}"])
        for name, rate in rates.items()
    }
    return Raw(told["published_per_s"], told["consumed_per_s"], seen)
