"""The streams and consumers of one Broker: made, found again, kept small.

Settled events stay for the duplicate window, because nats-server builds its memory of message ids
from what is stored when it starts again; `sweep` removes them after that.
"""

import logging
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    ConsumerInfo,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    StreamState,
)

from relume.eventing.event_log import RECALLED, BrokerKey, StoreUnavailable
from relume.eventing.observer import WHOLE_BYTES
from relume.eventing.settings import EventingSettings

if TYPE_CHECKING:
    from relume.eventing.jetstream.cursor import JetStreamCursor
    from relume.eventing.jetstream.store import Stored

log = logging.getLogger(__name__)

# What a message has on the disk beside its payload: subject, id, sequence, checksum.
_OVERHEAD_BYTES = 120
# err_code of nats-server: it cannot read the file in which it keeps the state of a consumer.
_DAMAGED_CURSOR = 10012


@dataclass(slots=True)
class BrokerStreams:
    """What this process knows of one Broker's streams, and its cursors by Trigger name."""

    stream: str
    subject: str
    dead_stream: str
    dead_subject: str
    redrive_subject: str
    first_sequence: int = 0
    last_sequence: int = 0
    events: int = 0  # that lie in the stream, and their bytes
    bytes: int = 0
    buried: int = 0
    # Keys of dead letters that were put back, and that this process knows to be gone.
    removed: set[str] = field(default_factory=set)
    cursors: "dict[str, JetStreamCursor]" = field(default_factory=dict)
    # (when, last sequence then): tells which events are older than the duplicate window.
    marks: deque[tuple[float, int]] = field(default_factory=deque)
    looked: float = -math.inf  # when a full log was swept last
    # The sequences of the last events with long data, by identity.
    places: dict[str, int] = field(default_factory=dict)

    @classmethod
    def named(cls, broker: BrokerKey) -> "BrokerStreams":
        token = f"{_token(broker.namespace)}_{_token(broker.name)}"
        return cls(
            stream=f"broker_{token}",
            subject=f"relume.broker.{token}",
            dead_stream=f"deadletters_{token}",
            dead_subject=f"relume.deadletters.{token}",
            redrive_subject=f"relume.redrive.{token}",
        )

    def stored(self, stored: "Stored", key: str | None = None) -> None:
        """An event was stored: every Trigger has one more waiting. `key` is its identity."""
        if key is not None and stored.size > WHOLE_BYTES:
            self.places[key] = stored.sequence
            if len(self.places) > RECALLED:
                del self.places[next(iter(self.places))]
        if stored.new:
            self.events += 1
            self.bytes += stored.size + _OVERHEAD_BYTES
        if stored.sequence > self.last_sequence:
            self.last_sequence = stored.sequence
            for cursor in self.cursors.values():
                cursor.last_sequence = stored.sequence

    def found(self, state: StreamState) -> None:
        """What nats-server says of the stream."""
        self.first_sequence = state.first_seq
        self.last_sequence = max(self.last_sequence, state.last_seq)
        self.events, self.bytes = state.messages, state.bytes

    def mark(self, now: float) -> None:
        """What was stored until now is this old."""
        self.marks.append((now, self.last_sequence))


async def ensure_streams(
    jetstream: JetStreamContext, streams: BrokerStreams, settings: EventingSettings
) -> None:
    """Both streams exist as we want them; what they hold is read into `streams`."""
    subjects = [streams.subject, f"{streams.redrive_subject}.>"]
    streams.found(await _ensure_stream(jetstream, streams.stream, subjects, settings))
    subjects = [f"{streams.dead_subject}.>"]
    dead = await _ensure_stream(jetstream, streams.dead_stream, subjects, settings)
    streams.buried = dead.messages


async def ensure_consumers(
    jetstream: JetStreamContext,
    streams: BrokerStreams,
    triggers: Sequence[str],
    settings: EventingSettings,
) -> Mapping[str, ConsumerInfo]:
    """One durable consumer per Trigger name and no others; a new one starts with what comes now.

    Its first sequence is part of its configuration: should nats-server lose its place, it goes
    back to that, and not to the end of the stream.
    """
    stream = streams.stream
    wanted = {_token(trigger): trigger for trigger in triggers}
    known: dict[str, ConsumerConfig] = {}
    for present in await _consumers(jetstream, stream):
        if present.name in wanted and present.config is not None:
            known[present.name] = present.config
        else:
            waiting = (present.num_pending or 0) + (present.num_ack_pending or 0)
            level = logging.WARNING if waiting else logging.INFO
            words = "%s: Trigger %s is gone, and %d events go with it that waited for it"
            log.log(level, words, stream, present.name.replace("=", "."), waiting)
            await jetstream.delete_consumer(stream, present.name)
    consumers = {}
    for name, trigger in wanted.items():
        before = known.get(name)
        config = ConsumerConfig(
            durable_name=name,
            deliver_policy=before.deliver_policy if before else DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=before.opt_start_seq if before else streams.last_sequence + 1,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=settings.lease_s,
            max_deliver=-1,
            max_ack_pending=settings.held,
        )
        consumers[trigger] = await _ensure_consumer(jetstream, stream, config)
    return consumers


async def _ensure_consumer(
    jetstream: JetStreamContext, stream: str, config: ConsumerConfig
) -> ConsumerInfo:
    try:
        return await jetstream.add_consumer(stream, config)
    except nats.js.errors.ServerError as error:
        if error.err_code != _DAMAGED_CURSOR:
            raise
        name = config.durable_name
        raise StoreUnavailable(
            f"the place of a Trigger is damaged: remove streams/{stream}/obs/{name}/o.dat in the "
            "state folder, and the Trigger gets again what is still stored",
            reason="cursor-damaged",
        ) from None


async def sweep(
    jetstream: JetStreamContext, streams: BrokerStreams, now: float, window_s: float
) -> None:
    """Remove what every Trigger has settled and is older than the duplicate window.

    Age is known from the marks, so nothing goes in the first window of a process.
    """
    old = 0
    while streams.marks and streams.marks[0][0] <= now - window_s:
        old = streams.marks.popleft()[1]
    consumers = await _consumers(jetstream, streams.stream)
    settled = [each.ack_floor.stream_seq for each in consumers if each.ack_floor]
    # A purge that finds nothing to remove would remove nats-server's index of the stream, and its
    # next start would read the whole log.
    if (done := min([old, *settled])) >= max(1, streams.first_sequence):
        await jetstream.purge_stream(streams.stream, seq=done + 1)
    streams.found((await jetstream.stream_info(streams.stream)).state)


async def _consumers(jetstream: JetStreamContext, stream: str) -> list[ConsumerInfo]:
    """All consumers; nats-server lists 256 at a time."""
    found: list[ConsumerInfo] = []
    while page := await jetstream.consumers_info(stream, offset=len(found)):
        found += page
    return found


async def _ensure_stream(
    jetstream: JetStreamContext, name: str, subjects: list[str], settings: EventingSettings
) -> StreamState:
    config = StreamConfig(
        name=name,
        subjects=subjects,
        storage=StorageType.FILE,
        retention=RetentionPolicy.LIMITS,
        # If somebody sets a limit on the stream, new events are refused; stored ones are kept.
        discard=DiscardPolicy.NEW,
        duplicate_window=settings.duplicate_window_s,
        allow_direct=True,  # dead letters are read as they lie, without base64
    )
    try:
        info = await jetstream.add_stream(config)
    except nats.js.errors.BadRequestError:
        info = await jetstream.update_stream(config)
    return info.state


def _token(name: str) -> str:
    # Names of Kubernetes objects may hold dots, which separate the tokens of a NATS subject; they
    # never hold `=` or `_`.
    return name.replace(".", "=")
