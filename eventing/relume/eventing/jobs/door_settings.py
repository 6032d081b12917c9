"""How much the door of jobs takes in, and for how long it lets callers wait."""

from dataclasses import dataclass, field

from relume.base.limits import KIB, MIB
from relume.eventing.jobs.job import Limits

_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """Durations in seconds, sizes in bytes; JobSettings say what is inline and what fits at all."""

    # JSON is read as a whole, to check it and to find the model; as much as serving reads for that.
    max_json_bytes: int = 64 * MIB
    # What all requests hold together that are on their way in; small ones are always let in.
    intake_bytes: int = 256 * MIB
    small_bytes: int = 64 * KIB
    # How long a caller may wait for an answer in one request.
    max_wait_s: int = 300
    # What holds for a job whose request says nothing, and the longest time that one may ask for.
    defaults: Limits = field(default_factory=Limits)
    longest_s: float = 30 * _DAY_S
    max_attempts: int = 20
    # The idempotency key, and the headers that are stored for the predictor.
    max_key_bytes: int = 512
    max_header_bytes: int = 16 * KIB
