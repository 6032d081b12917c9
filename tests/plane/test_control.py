"""The control API, asked without a plane behind it."""

from typing import cast

import httpx
import pytest
from starlette.applications import Starlette

from relume.cloudevents.event import InvalidEvent
from relume.eventing.dead_letters import DeadLetters
from relume.plane.control import DeadLetterRoutes


class DamagedStore:
    """A store in which no dead letter can be read any more."""

    async def get(self, *_: object) -> None:
        raise InvalidEvent("the stored event is damaged: x")

    redrive = get


@pytest.mark.parametrize(("method", "path"), [("GET", "b/1"), ("POST", "b/1/redrive")])
async def test_a_damaged_dead_letter_is_said_and_is_no_fault_of_the_request(
    method: str, path: str
) -> None:
    routes = DeadLetterRoutes(lambda: cast(DeadLetters, DamagedStore())).routes
    transport = httpx.ASGITransport(Starlette(routes=routes))
    async with httpx.AsyncClient(transport=transport, base_url="http://plane") as client:
        answer = await client.request(method, f"/relume/dlq/default/{path}")
    assert answer.status_code == 503
    said = {"error": "the stored event is damaged: x", "reason": "invalid-event"}
    assert answer.json() == said
