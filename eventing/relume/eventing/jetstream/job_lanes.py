"""The lanes of all services: one durable pull consumer each, made before its first job.

All gateways share the consumers. A gateway that makes or removes one tells the others at once, and
each lists all of them from time to time, in case it was not told. A lane that had no job for an
hour is removed, so that many tenants do not make many consumers for ever. Where it ended is noted:
the next consumer of the lane begins there, and does not get again what was done long ago.

Whoever makes sure that a lane is there notes when (to ten minutes) and may trust it for half an
hour. Nobody removes a lane that somebody may trust.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import orjson
from nats.aio.msg import Msg
from nats.js.api import ConsumerInfo

from relume.eventing.event_log import StoreUnavailable
from relume.eventing.jetstream.job_api import (
    NO_CONSUMER,
    TOO_MANY_CONSUMERS,
    JobApi,
    Refused,
)
from relume.eventing.jetstream.job_cursors import SharedCursor
from relume.eventing.jetstream.job_streams import (
    CONTROL,
    MOST_LANES,
    WORK,
    lane_consumer,
    lane_token,
    ttl,
)
from relume.eventing.jetstream.store import NATS_ERRORS
from relume.eventing.jobs.job import Priority, ServiceName
from relume.eventing.jobs.settings import JobSettings
from relume.eventing.jobs.store import Lane

log = logging.getLogger(__name__)

_NOTICES = "relume.lanes"
# What is noted of a removed lane: longer than the jobs that it was noted for.
_END_NOTED_S = 30 * 86_400.0
_ASKED_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class LaneInfo:
    """What nats-server says of a lane. `delivered` is the last place that a worker ever got."""

    lane: Lane
    waiting: int
    on_lease: int
    delivered: int
    settled_up_to: int
    active: float  # when it last was, in seconds since 1970
    ensured: float


class Lanes:
    """The lanes that this process knows, and the cursors that it has opened on them."""

    def __init__(self, api: JobApi, settings: JobSettings) -> None:
        self._api = api
        self._settings = settings
        # The note of who trusts a lane may be so old, and nobody removes the lane by mistake.
        self._noted_s = (settings.lane_idle_s - settings.lane_trusted_s) / 3
        self._known: dict[Lane, float] = {}  # when this process last made sure of it
        self._making: dict[Lane, asyncio.Task[None]] = {}
        self._cursors: dict[Lane, set[SharedCursor]] = {}
        # Told to be there since the last list, or since this process set out to remove it.
        self._noticed: set[Lane] = set()
        self._changed = asyncio.Event()
        self._asking = asyncio.Semaphore(_ASKED_AT_ONCE)
        self._listing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Learn which lanes there are. Raises StoreUnavailable."""
        try:
            await self._api.client.subscribe(_NOTICES, cb=self._on_notice)
        except NATS_ERRORS as error:
            raise StoreUnavailable(f"nats-server does not answer: {error}") from None
        await self._list()
        self._api.listeners.append(self._connection_changed)
        self._listing = asyncio.create_task(self._keep_listing(), name="job-lanes")

    async def close(self) -> None:
        if self._listing is not None:
            self._listing.cancel()
            await asyncio.wait([self._listing])

    async def ensure(self, lane: Lane) -> None:
        """Return when the consumer of the lane is there. Raises StoreUnavailable."""
        now = self._api.clock.monotonic()
        if now - self._known.get(lane, -math.inf) < self._settings.lane_trusted_s:
            return
        if (making := self._making.get(lane)) is None:
            making = self._making[lane] = asyncio.create_task(self._make(lane))
            making.add_done_callback(lambda _: self._making.pop(lane, None))
        # Whoever leaves does not take the others' answer away.
        await asyncio.shield(making)

    async def opened(self, lane: Lane) -> SharedCursor:
        """A new cursor of this process on a lane. Raises StoreUnavailable."""
        await self.ensure(lane)
        while (info := await self._info(lane)) is None:
            self._known.pop(lane, None)
            await self.ensure(lane)
        found = ConsumerInfo.from_response(info)
        cursor = SharedCursor(self._api, found, self._forget_cursor(lane), self._settings.lease_s)
        self._cursors.setdefault(lane, set()).add(cursor)
        return cursor

    async def of(self, service: ServiceName) -> Sequence[LaneInfo]:
        """What nats-server says of the lanes of a service. Raises StoreUnavailable."""
        mine = [lane for lane in self._known if lane.service == service]
        # A TaskGroup would raise a group of errors, which nobody expects of a store.
        asked = await asyncio.gather(*(self.info(lane) for lane in mine))
        return [info for info in asked if info is not None]

    async def info(self, lane: Lane) -> LaneInfo | None:
        """What nats-server says of a lane; None where it has none. Raises StoreUnavailable."""
        async with self._asking:
            told = await self._info(lane)
        return None if told is None else _read(told)

    async def each(self, service: ServiceName) -> AsyncIterator[Lane]:
        """See `JobStore.each_lane`."""
        told: set[Lane] = set()
        while True:
            changed = self._changed
            told &= self._known.keys()  # a lane that was removed may come again
            for lane in [each for each in self._known if each.service == service]:
                if lane not in told:
                    told.add(lane)
                    yield lane
            await changed.wait()

    async def _info(self, lane: Lane) -> dict[str, Any] | None:
        try:
            return await self._api.ask(f"CONSUMER.INFO.{WORK}.{lane_token(lane)}", {})
        except Refused as refusal:
            if refusal.code == NO_CONSUMER:
                return None
            raise StoreUnavailable(str(refusal)) from None

    async def _make(self, lane: Lane) -> None:
        made = await self._info(lane)
        now = self._api.clock.now().timestamp()
        if made is None:
            done = await self._ended(lane)
            first = done + 1 if done else 0
            await self._send_config(lane, lane_consumer(lane, first, now, self._settings))
            await self._tell(lane, there=True)
        elif (known := _read(made)) is None or now - known.ensured > self._noted_s:
            config = made["config"]
            config["metadata"] = (config.get("metadata") or {}) | {"relume.ensured": f"{now:.0f}"}
            await self._send_config(lane, config)
            await self._tell(lane, there=True)
        self._add(lane, self._api.clock.monotonic())

    async def _send_config(self, lane: Lane, config: dict[str, Any]) -> None:
        name, subjects = lane_token(lane), config["filter_subject"]
        asked = {"stream_name": WORK, "config": config, "action": ""}
        try:
            await self._api.ask(f"CONSUMER.CREATE.{WORK}.{name}.{subjects}", asked)
        except Refused as refusal:
            if refusal.code == TOO_MANY_CONSUMERS:
                raise StoreUnavailable(
                    f"{MOST_LANES:,} lanes of tenants had a job in the last hour, and no more can "
                    "be made now: try again later, or let fewer tenants send jobs",
                    reason="too-many-lanes",
                ) from None
            # Another gateway may have made it in this moment, with another start.
            if await self._info(lane) is None:
                raise StoreUnavailable(str(refusal)) from None

    async def _ended(self, lane: Lane) -> int:
        """The place up to which the lane was done when it was removed; 0 where nobody knows."""
        noted = await self._api.last_at_leader(CONTROL, _end_key(lane))
        return int(noted.payload) if noted is not None and noted.payload.isdigit() else 0

    def _add(self, lane: Lane, at: float) -> None:
        new = lane not in self._known
        self._known[lane] = max(at, self._known.get(lane, at))
        if new:
            for cursor in self._cursors.get(lane, ()):
                cursor.there(True)
            self._wake()

    def _drop(self, lane: Lane) -> None:
        if self._known.pop(lane, None) is not None:
            for cursor in self._cursors.get(lane, ()):
                cursor.there(False)
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _tell(self, lane: Lane, *, there: bool) -> None:
        """Tell the other gateways; if it is lost, they learn of it when they list."""
        service = lane.service
        told = (there, service.namespace, service.name, lane.priority, lane.tenant)
        with contextlib.suppress(*NATS_ERRORS):
            await self._api.client.publish(_NOTICES, orjson.dumps(told))

    async def _on_notice(self, message: Msg) -> None:
        there, namespace, name, priority, tenant = orjson.loads(message.data)
        lane = Lane(ServiceName(namespace, name), priority, tenant)
        if there:
            self._noticed.add(lane)
            # It is there, but this process has not made sure of it: a job of its own asks first.
            self._add(lane, -math.inf)
        else:
            self._drop(lane)

    def _connection_changed(self) -> None:
        for cursors in self._cursors.values():
            for cursor in cursors:
                cursor.connection_changed()

    def _forget_cursor(self, lane: Lane) -> Callable[[SharedCursor], None]:
        def forget(cursor: SharedCursor) -> None:
            if (cursors := self._cursors.get(lane)) is not None:
                cursors.discard(cursor)
                if not cursors:
                    del self._cursors[lane]

        return forget

    async def _keep_listing(self) -> None:
        while True:
            await self._api.clock.sleep(self._settings.lanes_listed_s)
            try:
                for info in await self._list():
                    await self._remove_idle(info)
            except StoreUnavailable as error:
                log.warning("the lanes of jobs are listed later: %s", error)

    async def _list(self) -> Sequence[LaneInfo]:
        """Every lane that there is; this process knows these and no others from then on."""
        before = set(self._known)
        self._noticed.clear()
        found: list[LaneInfo] = []
        offset = 0
        while True:
            try:
                page = await self._api.ask(f"CONSUMER.LIST.{WORK}", {"offset": offset})
            except Refused as refusal:
                raise StoreUnavailable(str(refusal)) from None
            consumers = page.get("consumers") or []
            offset += len(consumers)
            found += [info for each in consumers if (info := _read(each)) is not None]
            if not consumers or offset >= page.get("total", 0):
                break
        # What was told while the list was on its way is newer than the list.
        for lane in before - {info.lane for info in found} - self._noticed:
            self._drop(lane)
        for info in found:
            self._add(info.lane, -math.inf)
        return found

    async def _remove_idle(self, listed: LaneInfo) -> None:
        """Remove a lane that nobody has used for long, and that nobody may trust to be there."""
        if not self._idle(listed):
            return
        self._noticed.discard(listed.lane)
        info = await self.info(listed.lane)
        if info is None or not self._idle(info):
            return
        log.info("%s: no job for long, its lane is removed", lane_token(info.lane))
        await self._api.put(_end_key(info.lane), b"%d" % info.settled_up_to, ttl(_END_NOTED_S))
        with contextlib.suppress(Refused):  # another gateway was faster
            await self._api.ask(f"CONSUMER.DELETE.{WORK}.{lane_token(info.lane)}", {})
        self._drop(info.lane)
        await self._tell(info.lane, there=False)
        if info.lane in self._noticed:
            await self.ensure(info.lane)  # somebody made sure of it in this moment

    def _idle(self, info: LaneInfo) -> bool:
        now = self._api.clock.now().timestamp()
        used = max(info.active, info.ensured)
        return not info.waiting and not info.on_lease and now - used > self._settings.lane_idle_s


def _end_key(lane: Lane) -> str:
    return f"$KV.relume_control.lane.{lane_token(lane)}"


def _read(info: dict[str, Any]) -> LaneInfo | None:
    """A lane from what nats-server tells of its consumer; None where it is none of ours."""
    metadata = info["config"].get("metadata") or {}
    try:
        service = ServiceName(metadata["relume.namespace"], metadata["relume.service"])
        priority = cast(Priority, metadata["relume.priority"])
        lane = Lane(service, priority, metadata["relume.tenant"])
        ensured = float(metadata["relume.ensured"])
    except (KeyError, ValueError):
        return None
    delivered, settled = info["delivered"], info["ack_floor"]
    times = (delivered.get("last_active"), settled.get("last_active"), info["created"])
    return LaneInfo(
        lane=lane,
        waiting=info.get("num_pending", 0),
        on_lease=info.get("num_ack_pending", 0),
        delivered=delivered["stream_seq"],
        settled_up_to=settled["stream_seq"],
        active=max(datetime.fromisoformat(each).timestamp() for each in times if each),
        ensured=ensured,
    )
