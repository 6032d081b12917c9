"""What the memory budget is told, and what it decides: claims, loads, effects, and its times."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relume.serving.predictor import Kept


@dataclass(frozen=True, slots=True)
class Rules:
    """The times of the budget, in seconds."""

    wait_s: float = 20.0
    """How long a replica waits before a busy one has to make room for it."""
    turn_s: float = 5.0
    """How long a replica stays, once it is ready, before a busy one has to go, or before the
    service that it took the place of may take it back."""
    idle_s: float = 0.25
    """How long a replica must be without requests to go earlier: the client that has just had its
    answer may ask again."""

    @classmethod
    def for_wait(cls, wait_s: float) -> "Rules":
        """Return the rules with this wait; a turn is never longer than what others wait for it."""
        return cls(wait_s=wait_s, turn_s=min(cls().turn_s, wait_s))


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """One replica's place in memory."""

    service: str
    """The name of the tenant: `NS/NAME`, or `NS/NAME (LABEL)` for one of two revisions."""
    replica: int

    @property
    def of(self) -> str:
        """The service itself, `NS/NAME`: what is kept for it is for all its revisions."""
        return self.service.partition(" ")[0]


@dataclass(frozen=True, slots=True)
class Load:
    """What the requests of a replica are now."""

    in_flight: int
    used_at: float
    """When the last one ended; monotonic seconds."""


# A replica that this very step has granted is wanted, or it would not have been.
JUST_GRANTED = Load(in_flight=1, used_at=0.0)


@dataclass(frozen=True, slots=True)
class World:
    """What the budget does not keep itself: the load, and what is kept at zero."""

    loads: Mapping[Claim, Load]
    held: Mapping[str, int]
    """How many requests wait, by service."""
    kept: Sequence[Kept] = ()
    """Without what is being dropped already."""
    dropping: int = 0
    """The bytes of what is being dropped."""


@dataclass(frozen=True, slots=True)
class Grant:
    """This replica may start."""

    claim: Claim


@dataclass(frozen=True, slots=True)
class Evict:
    """This replica has to go, for a service that needs the room; None: it has grown too large.

    `turn`: it is busy, and its turn is over.
    """

    claim: Claim
    room_for: str | None
    turn: bool = False


@dataclass(frozen=True, slots=True)
class Drop:
    """This is no longer to be kept."""

    kept: Kept


@dataclass(frozen=True, slots=True)
class Refuse:
    """This replica would not fit if it were alone with what may never go, which leaves `most`."""

    claim: Claim
    need: int
    most: int


@dataclass(frozen=True, slots=True)
class LookAt:
    """Step again at this time (monotonic seconds), whatever happens until then."""

    at: float


Effect = Grant | Evict | Drop | Refuse | LookAt
