"""The modules that a plane needs and that take long to import, in the order of their need.

The HTTP port needs its modules first. Those of the Brokers and of jobs are imported when that port
answers, because an import in a thread and an event loop take turns with one interpreter.
"""

import asyncio
from contextlib import suppress

#: Seconds that the second part waits for the first answer. A nats-server that reads a long log
#: takes more than that, and the imports are over before it is.
_AT_MOST_S = 0.3


def import_servers() -> None:
    """Import what serves the HTTP port, in a thread while nats-server starts."""
    import relume.eventing.jobs.front
    import relume.plane.control
    import relume.plane.known_names
    import relume.plane.llm_d
    import relume.plane.local_page
    import relume.plane.server
    import relume.serving.cross_origin
    import relume.serving.plane  # noqa: F401


def import_brokers() -> None:
    """Import what the Brokers and jobs need beside that."""
    import relume.eventing.jetstream.log
    import relume.eventing.plane
    import relume.eventing.registry.documents
    import relume.plane.local_jobs  # noqa: F401


async def import_brokers_after(servers: asyncio.Task[None], answers: asyncio.Event) -> None:
    """Import the second part in a thread, after the first one and when the HTTP port answers."""
    await servers
    with suppress(TimeoutError):
        async with asyncio.timeout(_AT_MOST_S):
            await answers.wait()
    await asyncio.to_thread(import_brokers)
