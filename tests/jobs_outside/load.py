"""The jobs that come in while something fails."""

import asyncio
import contextlib

import httpx

from tests.jobs_outside.client import Client, request_of
from tests.jobs_outside.script import Script


async def submit_once(client: Client, name: str, gateway_url: str | None = None) -> int | None:
    """The status of one submission, None where nobody answers; what is accepted is noted."""
    script = Script(name, 3)
    body = request_of(script, chat=True, stream=True)
    with contextlib.suppress(httpx.TransportError):
        answer = await client.http.post(
            f"{gateway_url or client.next()}/serving/default/stub/v1/chat/completions",
            json=body,
            headers={"Prefer": "respond-async", "Idempotency-Key": name},
            timeout=30,
        )
        if answer.status_code == 202:
            client.note(id=answer.json()["id"], prompt=script.prompt())
        return answer.status_code
    return None


async def flow(client: Client, until: asyncio.Event) -> None:
    """Jobs of every kind, one after the other, until the fault is over."""
    number = 0
    while not until.is_set():
        number += 1
        name = f"f{number}"
        match number % 4:
            case 0:
                await client.send(Script(name, 6, 20))
            case 1:
                await client.submit(Script(name, 100, 20, die=40))
            case 2:
                await client.submit(Script(name, 8, 20), chat=False)
            case _:
                await client.submit(Script(name, 6, busy=1), stream=False)
        await asyncio.sleep(0.1)
