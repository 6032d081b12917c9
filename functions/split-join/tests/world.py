"""A Broker, a model and split-join in one process; the state is in a real key-value store.

Events are delivered in an order that a seed chooses, again after a failure, and once more at the
end. An event with the same source and id as one before is taken once, as a Broker takes it.
"""

import json
import random
from collections.abc import Callable
from typing import Any

from cloudevents.core.v1.event import CloudEvent
from function import new
from function.func import SplitJoin
from function.sink import Sink
from function.store import Store

PART, RESULT = "com.example.document.part", "com.example.document.summarized"


class World:
    """`model` gives the data and type of the answer to a request, or None for no answer."""

    def __init__(
        self, url: str, config: str, model: Callable[[dict[str, Any]], Any], seed: int = 0
    ) -> None:
        self._cfg = {"NATS_URL": url, "K_SINK": "http://sink/", "CONFIG_DIR": config}
        self._model, self._chance = model, random.Random(seed)
        self.now = 1000.0
        self.waiting: list[CloudEvent] = []
        self.known: set[tuple[str, str]] = set()
        self.results: list[CloudEvent] = []
        self.requests: list[CloudEvent] = []
        self.delivered: list[CloudEvent] = []
        self._stores: list[Store] = []
        self.function = self.start()

    def start(self) -> SplitJoin:
        """A new process, which knows nothing of the one before."""
        function = new()
        function._now = lambda: self.now
        function.start(self._cfg)
        sink = function._sink
        sink.post = self.take
        assert isinstance(sink, Sink)
        self.function = function
        self._stores.append(function._jobs._store)
        return function

    async def close(self) -> None:
        """Close the connections of all processes that there were."""
        for store in self._stores:
            if store._client is not None:
                await store._client.close()

    async def take(self, event: CloudEvent) -> None:
        """What a Broker does with an event that is posted to it or comes as a reply."""
        if (event.get_source(), event.get_id()) in self.known:
            return
        self.known.add((event.get_source(), event.get_id()))
        if event.get_type() == PART:
            self.requests.append(event)
            answer = self._answer(event)
            if answer is not None:
                self.waiting.append(answer)
        elif event.get_type() in (RESULT, "relume.function.error"):
            self.results.append(event)
        else:
            self.waiting.append(event)

    def _answer(self, event: CloudEvent) -> CloudEvent | None:
        told = self._model(json.loads(event.get_data()))
        if told is None:
            return None
        type_, data = told
        attributes = {"id": f"answer {event.get_id()}", "source": "/model", "type": type_}
        attributes |= {"correlationid": event.get_attributes()["correlationid"]}
        return CloudEvent(attributes, data)

    async def deliver(self, event: CloudEvent) -> None:
        """One delivery. Raises AssertionError for a status that is not 200."""
        outcome = await self.function.outcome(event)
        assert outcome.status == 200, outcome
        if outcome.event is not None:
            await self.take(outcome.event)
        self.delivered.append(event)

    async def run(self) -> None:
        """Deliver what waits until nothing does; what is killed is delivered again."""
        while self.waiting:
            event = self.waiting[self._chance.randrange(len(self.waiting))]
            try:
                await self.deliver(event)
            except BaseException as error:
                if "killed" not in _names(error):
                    raise
                self.start()
                continue
            self.waiting.remove(event)


class Killed(BaseException):
    """The process is gone."""


def _names(error: BaseException) -> str:
    inner = getattr(error, "exceptions", ())
    return type(error).__name__.lower() + "".join(map(_names, inner))
