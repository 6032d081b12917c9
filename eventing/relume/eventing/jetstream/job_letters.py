"""Dead letters of a gateway: events of settled jobs that no sink took, in a stream of their own.

Any number of gateways keep theirs here, and each of them shows all. One that is put back is parked
(`relume.eventing.jobs.unsent`), so that any gateway sends it. `relume up` has the log of its
Brokers for them, and leaves this stream empty.
"""

from collections.abc import AsyncIterator
from functools import partial

from relume.base.vocabulary import Json
from relume.cloudevents.event import InvalidEvent
from relume.eventing.dead_letters import Letter, NoSuchDeadLetter, UnknownTrigger
from relume.eventing.envelope import Envelope
from relume.eventing.event_log import BrokerKey, StoreUnavailable
from relume.eventing.jetstream.dead_letters import each_letter
from relume.eventing.jetstream.job_api import JobApi, Refused
from relume.eventing.jetstream.job_streams import (
    LETTER_SUBJECTS,
    LETTERS,
    UNSENT,
    letter_subject,
    unsent_subject,
)
from relume.eventing.jobs.unsent import Outgoing


class JobLetters:
    """A DeadLetterStore; all letters belong to one Broker, whichever is named."""

    def __init__(self, api: JobApi) -> None:
        self._api = api

    async def bury(self, job_id: str, name: str, event: bytes) -> None:
        """See `JobStore.bury`."""
        subject = letter_subject(job_id, name)
        await self._api.put(subject, event, {"Nats-Expected-Stream": LETTERS})

    def letters(self, broker: BrokerKey, after: int = 0) -> AsyncIterator[Letter]:
        """See `DeadLetterStore.letters`."""
        return each_letter(partial(self._read, broker), LETTER_SUBJECTS, after)

    async def get(self, broker: BrokerKey, sequence: int) -> Letter:
        """See `DeadLetterStore.get`."""
        if (letter := await self._read(broker, {"seq": sequence})) is None:
            raise NoSuchDeadLetter(broker, sequence)
        return letter

    async def put_back(self, letter: Letter) -> bool:
        """See `DeadLetterStore.put_back`. Put back twice, it replaces itself."""
        try:
            outgoing = Outgoing.from_envelope(letter.restored())
        except KeyError:
            # A fault of ours has stopped a whole record: there is no event to send.
            raise UnknownTrigger(
                f"dead letter {letter.sequence} holds a record and names no sink: it can be shown "
                "and purged only"
            ) from None
        subject = unsent_subject(outgoing.job, outgoing.name)
        stored = await self._api.put(
            subject, outgoing.parked().pack(), {"Nats-Expected-Stream": UNSENT}
        )
        return stored.new

    async def remove(self, broker: BrokerKey, sequence: int) -> None:
        """See `DeadLetterStore.remove`."""
        await self.get(broker, sequence)
        try:
            which = {"seq": sequence, "no_erase": True}
            await self._api.ask(f"STREAM.MSG.DELETE.{LETTERS}", which)
        except Refused as refusal:
            # nats-server has one error code for whatever went wrong: look whether it is gone.
            await self.get(broker, sequence)
            raise StoreUnavailable(str(refusal)) from None

    async def _read(self, broker: BrokerKey, which: Json) -> Letter | None:
        message = await self._api.read(LETTERS, which)
        if message is None:
            return None
        try:
            envelope = Envelope.unpack(message.payload)
        except InvalidEvent as error:
            raise StoreUnavailable(str(error), reason="damaged-letter") from None
        return Letter(broker, message.sequence, message.at, envelope)
