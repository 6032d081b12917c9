"""Events that go to `K_SINK`, which a SinkBinding or the deployment sets.

Every function that emits events by itself holds the same copy of this file.
"""

import json
from collections.abc import Mapping

import httpx
from cloudevents.core.bindings.http import to_binary_event
from cloudevents.core.v1.event import CloudEvent


class SinkError(Exception):
    """The sink did not take the event; it may later."""


class Sink:
    """Posts events in binary mode. `K_CE_OVERRIDES` sets extensions on each (Knative sources)."""

    def __init__(self, cfg: Mapping[str, str]) -> None:
        """Raises ValueError where a variable is missing or wrong."""
        self.url = cfg.get("K_SINK", "")
        if not self.url.startswith(("http://", "https://")):
            raise ValueError("K_SINK is not set; it is the URL that events are posted to")
        self._extensions = overrides(cfg.get("K_CE_OVERRIDES", ""))
        self._client: httpx.AsyncClient | None = None

    async def post(self, event: CloudEvent) -> None:
        """Post one event; what the sink answers with is not an event for us. Raises SinkError."""
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=30)
        changed = CloudEvent({**event.get_attributes(), **self._extensions}, event.get_data())
        message = to_binary_event(changed)
        try:
            response = await self._client.post(
                self.url, headers=message.headers, content=message.body
            )
        except httpx.TransportError as error:
            raise SinkError(f"K_SINK does not answer: {type(error).__name__}") from None
        if not response.is_success:
            raise SinkError(f"K_SINK answered {response.status_code}")


def overrides(text: str) -> dict[str, str]:
    """The extensions of K_CE_OVERRIDES. Raises ValueError."""
    if not text:
        return {}
    try:
        extensions = json.loads(text).get("extensions") or {}
        return {str(name): str(value) for name, value in extensions.items()}
    except (ValueError, AttributeError):
        raise ValueError('K_CE_OVERRIDES must be JSON: {"extensions": {…}}') from None
