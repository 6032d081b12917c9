"""Requests to nats-server over one subscription, which fail at once when the connection is lost.

A request that was written to a dead connection is never answered; nats-py would let it run into
its timeout, and whoever waits would wait for nothing.
"""

import asyncio
import itertools
from collections.abc import Sequence

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

# What nats-py raises when it cannot send: the buffer of a lost connection is full, or all is over.
SEND_ERRORS = (nats.errors.Error, OSError)

# Payload and headers.
Outgoing = tuple[bytes, dict[str, str]]


class NoAnswer(Exception):
    """The connection was lost or nobody answered in time; the request may have been carried out."""


class Requests:
    """Sends requests and hands each answer to its sender."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = client.new_inbox()
        self._tokens = itertools.count()
        self._waiting: dict[str, asyncio.Future[Msg]] = {}

    async def open(self) -> None:
        await self._client.subscribe(f"{self._inbox}.*", cb=self._on_answer)

    async def send(
        self,
        subject: str,
        payload: bytes,
        *,
        timeout_s: float,
        headers: dict[str, str] | None = None,
    ) -> Msg:
        """The answer to one request. Raises NoAnswer, also when nobody listens on the subject."""
        token, answer = self._expect()
        try:
            await self._client.publish(
                subject, payload, reply=f"{self._inbox}.{token}", headers=headers
            )
            async with asyncio.timeout(timeout_s):
                return _answered(await answer)
        except TimeoutError:
            raise NoAnswer(f"no answer within {timeout_s:g} s") from None
        except SEND_ERRORS as error:
            raise NoAnswer(str(error)) from None
        finally:
            del self._waiting[token]

    async def send_all(
        self, subject: str, messages: Sequence[Outgoing], *, timeout_s: float
    ) -> list[Msg]:
        """The answers to many requests, which are under way together, in the same order.

        Raises NoAnswer when one of them is not answered.
        """
        expected = dict(self._expect() for _ in messages)
        try:
            for token, (payload, headers) in zip(expected, messages, strict=True):
                await self._client.publish(
                    subject, payload, reply=f"{self._inbox}.{token}", headers=headers
                )
            async with asyncio.timeout(timeout_s):
                return [_answered(await answer) for answer in expected.values()]
        except TimeoutError:
            raise NoAnswer(f"no answer within {timeout_s:g} s") from None
        except SEND_ERRORS as error:
            raise NoAnswer(str(error)) from None
        finally:
            for token, answer in expected.items():
                del self._waiting[token]
                answer.cancel()  # an error that nobody waits for any more is no error

    def fail_all(self) -> None:
        """The connection is lost: what was sent will not be answered."""
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(NoAnswer("the connection to nats-server was lost"))

    def _expect(self) -> tuple[str, asyncio.Future[Msg]]:
        token = str(next(self._tokens))
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._waiting[token] = answer
        return token, answer

    async def _on_answer(self, message: Msg) -> None:
        answer = self._waiting.get(message.subject.rpartition(".")[2])
        if answer is not None and not answer.done():
            answer.set_result(message)


def _answered(message: Msg) -> Msg:
    if not message.data and (message.headers or {}).get("Status") == "503":
        raise NoAnswer("JetStream is not ready")
    return message
