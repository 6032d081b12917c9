"""The page of a plane on one machine, over what the plane tells of itself."""

from collections.abc import Sequence
from typing import Any, Protocol

from starlette.types import ASGIApp

from relume.base.clock import SystemClock
from relume.base.vocabulary import Json
from relume.config import Plan
from relume.eventing.observer import Observer
from relume.plane.page.door import Page
from relume.plane.page.feed import Feed
from relume.serving.predictor import ServiceKey


class WatchedPlane(Protocol):
    """A plane, as its page sees it; `plan` is that of now."""

    @property
    def plan(self) -> Plan: ...
    @property
    def ingress(self) -> ASGIApp | None:
        """Where the Brokers take events; None while they take none."""
        ...

    def status(self) -> Json: ...


class ColdStarts(Protocol):
    """What knows the cold starts of the plane."""

    def coldstarts(self) -> Sequence[dict[str, Any]]:
        """The last ones that ended, oldest first."""
        ...


def local_page(
    plane: WatchedPlane, serving: ColdStarts, observer: Observer, prompts: bool
) -> tuple[Page, Feed]:
    """The page, and the feed, which somebody must run for it."""
    clock = SystemClock()

    def services() -> list[ServiceKey]:
        models, functions = plane.plan.services, plane.plan.functions
        return [
            *(ServiceKey(each.namespace, each.name) for each in models),
            *(ServiceKey(each.namespace, each.name) for each in functions),
        ]

    feed = Feed(plane.status, serving.coldstarts, clock, prompts=prompts)
    page = Page(
        feed,
        observer,
        clock,
        services=services,
        ingress=lambda: plane.ingress,
        prompts=prompts,
    )
    return page, feed
