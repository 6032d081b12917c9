"""Which of the answers that this process writes somebody reads, here or at another gateway.

A reader says that it reads when it begins, when another worker goes on with the answer, and once
in SAID_AGAIN_S while parts come. Parts that nobody reads are stored together and a little later,
so a reader whose word gets lost only sees them later.
"""

import contextlib
from collections.abc import Callable, Iterator

SAID_AGAIN_S = 10.0
# A reader is believed for so long: one of its words may get lost.
BELIEVED_S = 25.0


class Readers:
    """The answers that are written in this process, and whom to tell that one is read.

    `ended` gets the id of a job whose answer is not written here any more.
    """

    def __init__(self, ended: Callable[[str], None] = lambda _: None) -> None:
        self._ended = ended
        self._writers: dict[str, Callable[[], None]] = {}

    @contextlib.contextmanager
    def of(self, job_id: str, told: Callable[[], None]) -> Iterator[None]:
        """Call `told` for each word of a reader of this answer while the block runs."""
        self._writers[job_id] = told
        try:
            yield
        finally:
            # A worker of a newer lease in this process may have taken the place.
            if self._writers.get(job_id) == told:
                del self._writers[job_id]
                self._ended(job_id)

    def are_of(self, job_id: str) -> bool:
        """Whether this answer is written here."""
        return job_id in self._writers

    def heard(self, job_id: str) -> None:
        """A reader of this answer has said that it reads."""
        if (told := self._writers.get(job_id)) is not None:
            told()


class Reader:
    """One reader of an answer: it knows when to say again that it reads."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._said_at = monotonic()
        self._fence = -1

    def is_due(self, fence: int) -> bool:
        """Whether to say it now that a part came which was stored under this fence."""
        now = self._monotonic()
        if fence == self._fence and now - self._said_at < SAID_AGAIN_S:
            return False
        self._fence, self._said_at = fence, now
        return True
