"""What whoever applies is told on the way."""

from collections.abc import Sequence
from typing import Literal, Protocol

from relume.cluster.claims.explain import ClaimReport

Tone = Literal["", "good", "bad", "worth a look"]


class Progress(Protocol):
    """Shows how far it is. `now` is what is waited for, the others are said once."""

    def now(self, doing: str) -> None:
        """What is going on."""

    def say(self, line: str, tone: Tone = "") -> None:
        """Something that happened."""

    def explain(self, reports: Sequence[ClaimReport]) -> None:
        """Why a claim cannot be allocated."""
