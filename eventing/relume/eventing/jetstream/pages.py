"""Requests that are answered by several messages, as when a page of a stream is read.

Each has a subject of its own to be answered on. The last message of an answer has a status.
"""

import asyncio
import itertools

from nats.aio.client import Client
from nats.aio.msg import Msg

from relume.eventing.jetstream.store import NATS_ERRORS, RequestUnanswered


class Pages:
    """Sends such requests over one subscription."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = client.new_inbox()
        self._tokens = itertools.count()
        self._waiting: dict[str, tuple[list[Msg], asyncio.Future[None]]] = {}

    async def open(self) -> None:
        await self._client.subscribe(f"{self._inbox}.*", cb=self._on_message)

    async def ask(self, subject: str, payload: bytes, *, timeout_s: float) -> list[Msg]:
        """All messages of the answer. Raises RequestUnanswered."""
        token = str(next(self._tokens))
        whole = asyncio.get_running_loop().create_future()
        parts, _ = self._waiting[token] = ([], whole)
        try:
            await self._client.publish(subject, payload, reply=f"{self._inbox}.{token}")
            async with asyncio.timeout(timeout_s):
                await whole
        except TimeoutError:
            raise RequestUnanswered(f"no whole answer within {timeout_s:g} s") from None
        except NATS_ERRORS as error:
            raise RequestUnanswered(str(error)) from None
        finally:
            del self._waiting[token]
            whole.cancel()  # so that asyncio does not report an error that nobody awaits
        if (parts[-1].headers or {}).get("Status") == "503":
            raise RequestUnanswered("JetStream is not ready")
        return parts

    def fail_all(self) -> None:
        """The connection was lost: what was sent will not be answered."""
        for _, whole in self._waiting.values():
            if not whole.done():
                whole.set_exception(RequestUnanswered("the connection to nats-server was lost"))

    async def _on_message(self, message: Msg) -> None:
        waiting = self._waiting.get(message.subject.rpartition(".")[2])
        if waiting is None or waiting[1].done():
            return
        waiting[0].append(message)
        if "Status" in (message.headers or {}):
            waiting[1].set_result(None)
