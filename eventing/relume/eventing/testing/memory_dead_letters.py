"""Dead letters in memory, for tests: the same contract, nothing survives the process."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime

from relume.eventing.dead_letters import Letter, NoSuchDeadLetter, UnknownTrigger
from relume.eventing.envelope import Envelope, burial
from relume.eventing.event_log import BrokerKey

# Stores an event for one of the Broker's Triggers; False when there is no such Trigger.
PutBack = Callable[[BrokerKey, Envelope], bool]


@dataclass(slots=True)
class _Kept:
    letters: dict[int, Letter] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    last: int = 0
    put_back: set[int] = field(default_factory=set)


class MemoryDeadLetters:
    """The dead letters of a MemoryLog."""

    def __init__(self, put_back: PutBack) -> None:
        self._kept: dict[BrokerKey, _Kept] = {}
        self._put_back = put_back

    def bury(self, broker: BrokerKey, trigger: str, envelope: Envelope, at: datetime) -> None:
        kept, key = self._of(broker), burial(envelope, trigger)
        if key not in kept.known:
            kept.known.add(key)
            kept.last += 1
            kept.letters[kept.last] = Letter(broker, kept.last, at, envelope)

    def count(self, broker: BrokerKey) -> int:
        return len(self._of(broker).letters)

    async def letters(self, broker: BrokerKey, after: int = 0) -> AsyncIterator[Letter]:
        for letter in list(self._of(broker).letters.values()):
            if letter.sequence > after:
                yield letter

    async def get(self, broker: BrokerKey, sequence: int) -> Letter:
        if (letter := self._of(broker).letters.get(sequence)) is None:
            raise NoSuchDeadLetter(f"{broker} has no dead letter {sequence}")
        return letter

    async def put_back(self, letter: Letter) -> bool:
        done = self._of(letter.broker).put_back
        if letter.sequence in done:
            return False
        if not self._put_back(letter.broker, letter.restored()):
            raise UnknownTrigger(f"{letter.broker} has no Trigger {letter.trigger} any more")
        done.add(letter.sequence)
        return True

    async def remove(self, broker: BrokerKey, sequence: int) -> None:
        await self.get(broker, sequence)
        del self._of(broker).letters[sequence]

    def _of(self, broker: BrokerKey) -> _Kept:
        return self._kept.setdefault(broker, _Kept())
