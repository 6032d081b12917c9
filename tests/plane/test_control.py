"""The control API, asked without a plane behind it."""

from typing import cast

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from relume.cloudevents.event import InvalidEvent
from relume.eventing.dead_letters import DeadLetters
from relume.eventing.observer import Observer
from relume.plane.control import Control, DeadLetterRoutes


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


class Desk:
    """Dead letters that nobody may reach."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"{name} was asked for")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://plane:81"},
        {"sec-fetch-site": "cross-site"},
    ],
)
async def test_a_page_of_another_origin_changes_nothing_by_any_route(
    headers: dict[str, str],
) -> None:
    control = Control(
        status=dict,
        cold_starts=list,
        observer=Observer(),
        dead_letters=lambda: cast(DeadLetters, Desk()),
    )
    named = {"namespace": "default", "name": "b", "number": "1"}
    changes = [
        (method, route.path.format_map(named))
        for route in control.app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"GET", "HEAD"}
    ]
    assert ("POST", "/relume/dlq/default/b/1/redrive") in changes
    transport = httpx.ASGITransport(control.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://plane") as client:
        for method, path in changes:
            answer = await client.request(method, path, headers=headers)
            assert (answer.status_code, answer.json()["reason"]) == (403, "not-allowed")


async def test_a_page_of_the_plane_itself_and_a_program_may_change_dead_letters() -> None:
    routes = DeadLetterRoutes(lambda: cast(DeadLetters, DamagedStore())).routes
    transport = httpx.ASGITransport(Starlette(routes=routes))
    async with httpx.AsyncClient(transport=transport, base_url="http://plane") as client:
        for headers in ({}, {"origin": "http://plane"}):
            answer = await client.post("/relume/dlq/default/b/1/redrive", headers=headers)
            assert answer.status_code == 503  # it came to the store
