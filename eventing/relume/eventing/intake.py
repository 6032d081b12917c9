"""How much a Broker's door holds of requests that are on their way in, all producers together."""

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

    def reading(self, receive: Receive) -> "_Reading":
        """A block with a `receive` that counts, and raises DoorFull without room for more."""
        return _Reading(self, receive)

    def take(self, size: int, taken: int) -> None:
        """Count `size` more bytes of a request that has `taken` with them. Raises DoorFull."""
        self.bytes += size
        if self.bytes > self._most and taken > self._small:
            words = f"{self._most} bytes of other requests are on their way in"
            raise DoorFull(f"{words}: send this one again")


class _Reading:
    """One request on its way in, from the start of the block to its end."""

    __slots__ = ("_intake", "_receive", "_taken")

    def __init__(self, intake: Intake, receive: Receive) -> None:
        self._intake = intake
        self._receive = receive
        self._taken = 0

    def __enter__(self) -> Receive:
        return self._counted

    def __exit__(self, *_: object) -> None:
        self._intake.bytes -= self._taken

    async def _counted(self) -> Message:
        message = await self._receive()
        size = len(message.get("body", b""))
        self._taken += size
        self._intake.take(size, self._taken)
        return message
