"""The connection to nats-server: one server or the nodes of a cluster, kept for ever."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from relume.eventing.event_log import StoreUnavailable
from relume.eventing.jetstream.store import NATS_ERRORS, JetStreamStore

log = logging.getLogger(__name__)

_RECONNECT_EVERY_S = 0.05


async def connect(
    store: JetStreamStore,
    servers: Sequence[str],
    *,
    within_s: float,
    listeners: Sequence[Callable[[], None]] = (),
    credentials: Path | None = None,
    token: str | None = None,
    ping_s: int = 10,
) -> None:
    """Connect a store to one of the servers. Raises StoreUnavailable when none answers.

    Each of `listeners` is called when the connection was lost, and when it is there again; more
    may be added later. Of a cluster, some nodes are enough: they name the others. A server that is
    silent for two times `ping_s` is left for another one.
    """
    client = store.client

    async def on_lost() -> None:
        store.connected.clear()
        store.requests.fail_all()
        for listener in list(listeners):
            listener()

    async def on_back() -> None:
        store.connected.set()
        for listener in list(listeners):
            listener()

    try:
        async with asyncio.timeout(within_s):
            await client.connect(
                list(servers),
                name="relume",
                reconnect_time_wait=_RECONNECT_EVERY_S,  # type: ignore[arg-type]
                max_reconnect_attempts=-1,
                ping_interval=ping_s,
                max_outstanding_pings=1 if len(servers) > 1 else 2,
                user_credentials=None if credentials is None else str(credentials),
                token=token,
                disconnected_cb=on_lost,
                reconnected_cb=on_back,
                error_cb=_on_error,
            )
    except NATS_ERRORS as error:
        await client.close()
        raise StoreUnavailable(f"nats-server does not answer: {str(error) or 'timeout'}") from None
    await store.requests.open()
    store.connected.set()


async def _on_error(error: Exception) -> None:
    log.debug("nats: %r", error)
    # nats-py waits with wait_for, which in Python 3.11 forgets a cancellation that comes together
    # with the answer. A closed client would then look for its server for ever.
    if (task := asyncio.current_task()) is not None and task.cancelling():
        raise asyncio.CancelledError
