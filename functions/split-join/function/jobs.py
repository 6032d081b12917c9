"""A document in work, as it lies in the key-value store.

    job.<id>                  whose document, the number of parts of each round, the deadline
    part.<id>.<round>.<n>     the answer for one part, created once
    done.<id>                 how the job ended, created once
    told.<id>                 its time was over and its result was posted

Every write is a create or a compare-and-set, and every step can be repeated: whoever is killed
between two of them leaves a state from which the same event, delivered again, goes on.
"""

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from .store import Store


@dataclass(frozen=True)
class Job:
    """`rounds[0]` is the number of parts of the document; each further round has fewer."""

    id: str
    request: dict[str, str]  # attributes of the document's event
    rounds: tuple[int, ...]
    deadline: float  # seconds since 1970
    revision: int = 0

    @property
    def round(self) -> int:
        """The round that is in work, from 0."""
        return len(self.rounds) - 1


@dataclass(frozen=True)
class Part:
    """What came back for a part: a text, a vector, or the reason of an error."""

    text: str | None = None
    vector: tuple[float, ...] | None = None
    error: str | None = None


@dataclass(frozen=True)
class End:
    """`by` is the event that ended the job: when it is delivered again, the result leaves again.

    `missing` are the parts of the document without an answer; `reduced` says that the text is that
    of the last round.
    """

    by: str
    missing: tuple[int, ...]
    reduced: bool


class Jobs:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def begin(self, job: Job) -> Job:
        """The job as it is stored; the same document that comes again finds the first one."""
        await self._store.create(f"job.{job.id}", _pack(job))
        found = await self.find(job.id)
        assert found is not None, "was just written"
        return found

    async def find(self, id_: str) -> Job | None:
        entry = await self._store.get(f"job.{id_}")
        if entry is None:
            return None
        read: dict[str, Any] = json.loads(entry.value)
        return Job(id_, read["request"], tuple(read["rounds"]), read["deadline"], entry.revision)

    async def next_round(self, job: Job, parts: int) -> bool:
        """Begin another round. False: somebody else did."""
        changed = replace(job, rounds=(*job.rounds, parts))
        return await self._store.update(f"job.{job.id}", _pack(changed), job.revision)

    async def settle(self, id_: str, round_: int, number: int, part: Part) -> None:
        """Keep the answer for a part, unless there is one already."""
        key = f"part.{id_}.{round_}.{number}"
        await self._store.create(key, json.dumps(asdict(part)).encode())

    async def answered(self, job: Job) -> set[int]:
        """The parts of the round in work that have an answer, by number."""
        keys = await self._store.keys(f"part.{job.id}.{job.round}.*")
        return {int(key.rsplit(".", 1)[1]) for key in keys}

    async def parts(self, job: Job, round_: int) -> list[Part | None]:
        """The answers of a round, in order; None where there is none yet."""
        return [await self._part(job.id, round_, n) for n in range(job.rounds[round_])]

    async def _part(self, id_: str, round_: int, number: int) -> Part | None:
        entry = await self._store.get(f"part.{id_}.{round_}.{number}")
        if entry is None:
            return None
        read = json.loads(entry.value)
        vector = read["vector"]
        return Part(read["text"], None if vector is None else tuple(vector), read["error"])

    async def end(self, id_: str, end: End) -> End:
        """Decide once how the job ended; the first decision holds and is returned."""
        await self._store.create(f"done.{id_}", json.dumps(asdict(end)).encode())
        found = await self.ended(id_)
        assert found is not None, "was just written"
        return found

    async def ended(self, id_: str) -> End | None:
        entry = await self._store.get(f"done.{id_}")
        if entry is None:
            return None
        read = json.loads(entry.value)
        return End(read["by"], tuple(read["missing"]), read["reduced"])

    async def told(self, id_: str) -> None:
        """Note that nothing more is to be told of a job whose time was over."""
        await self._store.create(f"told.{id_}", b"1")

    async def untold(self) -> list[str]:
        """The jobs that are not noted as told."""
        jobs = {key.split(".")[1] for key in await self._store.keys("job.*")}
        told = {key.split(".")[1] for key in await self._store.keys("told.*")}
        return sorted(jobs - told)


def _pack(job: Job) -> bytes:
    told = {"request": job.request, "rounds": job.rounds, "deadline": job.deadline}
    return json.dumps(told).encode()
