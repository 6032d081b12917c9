"""How much a Broker's door holds of requests that are on their way in, all producers together."""

import contextlib
from collections.abc import Iterator

from starlette.types import Message, Receive

from relume.base.errors import RelumeError


class DoorFull(RelumeError):
    """Too many large requests are on their way in."""

    reason = "too-much-at-once"
    retryable = True


class Intake:
    """Counts the bytes of bodies from their arrival until their request is answered.

    Bodies of up to `small` bytes are let in always, so that a few producers of large events do not
    turn all others away; how many there can be is bounded by the connections.
    """

    def __init__(self, most: int, small: int) -> None:
        self._most = most
        self._small = small
        self.bytes = 0

    @contextlib.contextmanager
    def reading(self, receive: Receive) -> Iterator[Receive]:
        """A `receive` that counts, and raises DoorFull when there is no room for more."""
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            size = len(message.get("body", b""))
            taken += size
            self.bytes += size
            if self.bytes > self._most and taken > self._small:
                words = f"{self._most} bytes of other requests are on their way in"
                raise DoorFull(f"{words}: send this one again")
            return message

        try:
            yield counted
        finally:
            self.bytes -= taken
