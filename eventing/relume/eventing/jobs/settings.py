"""What can be tuned in the jobs plane; every default says where it comes from."""

from dataclasses import dataclass

from relume.base.limits import EVENT_BYTES, KIB, MIB
from relume.eventing.jobs.job import Limits

# The longest that an attempt is put off when a predictor says so (Retry-After).
LONGEST_PAUSE_S = 300.0
_OUTAGE_S = 7 * 86_400.0


@dataclass(frozen=True, slots=True)
class JobSettings:
    """Durations in seconds, sizes in bytes."""

    # Copies of every stream: 1 on one machine, 3 on a cluster of three nats-servers or more.
    replicas: int = 1
    # A leased job belongs to this process for so long without a sign of life.
    lease_s: float = 10.0
    # Three signs of life per lease: one may get lost.
    heartbeat_s: float = 3.0
    # So long nats-server knows the id of a message by itself, whatever has become of the message.
    duplicate_window_s: float = 120.0
    # How long a write waits for a store that restarts, or for a new leader of its stream.
    store_patience_s: float = 10.0

    # A larger body of a request goes to the object store.
    inline_bytes: int = 1 * MIB
    # A larger body of an answer goes to the object store.
    result_inline_bytes: int = 1 * MIB
    # The largest body of a request, and of an answer, that is taken at all.
    max_body_bytes: int = 256 * MIB
    # A part of a large body in the object store: what the object stores of NATS clients use.
    payload_part_bytes: int = 128 * KIB
    # The largest record: the result, the reply event and the description of a job.
    max_record_bytes: int = EVENT_BYTES
    # Chunks and large bodies whose writer does not say how long they are needed.
    parts_keep_s: float = 7 * 86_400.0

    # Jobs under way per service when nothing better is known: the gate of a Broker's Trigger.
    in_flight: int = 50
    # Parts of an answer that nobody reads are stored at once after so much silence; those that come
    # sooner wait, and are stored together after this time or when they are so many. It is how much
    # of an answer the death of its worker takes back at most, and its next worker makes it again.
    unread_hold_s: float = 0.5
    unread_hold_parts: int = 64
    # Chunks of one answer that wait to be stored: above this, the predictor is not read.
    unstored_bytes: int = 4 * MIB
    # Chunks of one answer that wait for one reader. A slower reader reads them from the store.
    unread_bytes: int = 1 * MIB

    # The waiting jobs of one tenant at one service, and the prompt tokens in them (a token is
    # taken for four bytes of the body).
    tenant_jobs: int = 1_000_000
    tenant_tokens: int = 10_000_000_000
    # A tenant's lane that had no job for so long is removed from nats-server.
    lane_idle_s: float = 3600.0
    # A lane that this process has seen is trusted to be there. It must be well below `lane_idle_s`.
    lane_trusted_s: float = 1800.0
    # How often the lanes of other gateways are listed; they also tell of each new one at once.
    lanes_listed_s: float = 30.0


def lifetime_s(limits: Limits) -> float:
    """How long the request of a job may still be needed after it was queued, in seconds.

    No clock of a job runs while all gateways are away: an outage of a week ends no job.
    """
    running_s = limits.max_attempts * (limits.start_s + limits.run_s + LONGEST_PAUSE_S)
    return limits.queue_s + running_s + limits.keep_s + _OUTAGE_S
