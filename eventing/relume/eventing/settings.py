"""What can be tuned in the eventing plane; every default says where it comes from."""

from dataclasses import dataclass

from relume.base.limits import EVENT_BYTES, KIB, MIB

# One message in the log, its attributes included; the largest that nats-server recommends.
MAX_MESSAGE_BYTES = 8 * MIB
# The largest stored event. The rest is kept for the headers of the message, and for the error
# extensions that the event gets as a dead letter.
MAX_STORED_BYTES = MAX_MESSAGE_BYTES - 64 * KIB


@dataclass(frozen=True, slots=True)
class EventingSettings:
    """Durations in seconds, sizes in bytes."""

    # A held event belongs to this process for so long without a sign of life.
    lease_s: float = 10.0
    # Three signs of life per lease: one may get lost.
    heartbeat_s: float = 3.0
    # The same (source, id, type) within this time is the same event.
    duplicate_window_s: float = 600.0
    # Deliveries under way per Trigger when nothing better is known: as many connections as the
    # filter of Knative's Broker keeps open to one subscriber. Where more producers than that post
    # as fast as they can, events come in faster than they go out.
    in_flight: int = 100
    # Events held per Trigger, those that wait for their next attempt included.
    held: int = 1000
    # And their bytes: above this, no more are fetched until some are settled.
    held_bytes: int = 128 * MIB
    # An event with its attributes must fit one message; they take up to 0.5 MiB.
    max_event_bytes: int = EVENT_BYTES
    # How long the deliveries of a Trigger that is removed may take to end.
    leave_s: float = 30.0
    # What all requests hold together that are on their way in; small ones are always let in.
    intake_bytes: int = 256 * MIB
    small_bytes: int = 64 * KIB
    # Whether an attribute in a header must be encoded as the HTTP binding says (§3.1.3.2).
    strict_events: bool = False
    # How long a request may take to come in: the read timeout of Knative's own ingress.
    upload_s: float = 10.0
    # How long the ingress waits for a store that restarts before it answers 503.
    store_patience_s: float = 10.0
    # How often events that every Trigger has settled are removed from the disk.
    sweep_s: float = 60.0
    # Producers must wait when so much lies in a Broker's log; None: as much as the disk holds.
    max_log_bytes: int | None = None
    max_log_events: int | None = None
    # One batch: what is read of its body, and how many events it may have.
    max_batch_bytes: int = 16 * MIB
    max_batch_events: int = 1000

    def log_is_full(self, events: int, size: int) -> bool:
        """Whether producers must wait, when so many events of `size` bytes lie in a Broker."""
        return (self.max_log_bytes is not None and size >= self.max_log_bytes) or (
            self.max_log_events is not None and events >= self.max_log_events
        )
