"""What an event that has not come to its end waits for, in words."""

from collections.abc import Sequence
from datetime import datetime

from relume.cli.machine.deliveries import MS, Delivery, deliveries, note_pause
from relume.cli.machine.reports import DeliveryKey, EventRecord, ServiceStatus, Status


def still(records: Sequence[EventRecord], status: Status | None, now: datetime) -> str | None:
    """Say what an event waits for, and for how long it has; None where it waits for nothing.

    An event that no Trigger wants waits for nothing either.
    """
    try:
        here = [each for each in deliveries(records) if each.ended is None]
        if here:
            return f"still {_where(here[0], status)}, for {_ms(here[0].began, now)} so far"
        pausing: dict[DeliveryKey, EventRecord] = {}
        for record in sorted(records, key=_time):
            note_pause(pausing, record)
        if pausing:
            since = min(map(_time, pausing.values()))
            return f"still before its next attempt, for {_ms(since, now)} so far"
    except ValueError:
        pass  # a plane of another version writes its times in another way
    return None


def _time(record: EventRecord) -> datetime:
    return datetime.fromisoformat(record.at)


def _ms(began: datetime, now: datetime) -> str:
    return f"{max((now - began) / MS, 0.0):,.0f} ms"


def _where(delivery: Delivery, status: Status | None) -> str:
    if delivery.service is None:
        return "at the subscriber"
    services = () if status is None else status.serving.services
    service = next((each for each in services if each.full_name == delivery.service), None)
    return f"with {delivery.service}" + ("" if service is None else _doing(service))


def _doing(service: ServiceStatus) -> str:
    """What a service does while somebody waits for its answer."""
    ready = "" if service.ready_in is None else f", {service.ready_in}"
    match service.state:
        case "ready":
            return f" (requests that it answers: {service.in_flight}, that wait: {service.held})"
        case "starting" if service.memory.waiting_s is not None:
            holders = " and ".join(service.memory.waits_for) or "others"
            return f" (waiting for memory that {holders} hold{ready})"
        case "starting":
            return f" (starting{f': {service.phase}' if service.phase else ''}{ready})"
        case state:
            reason = f": {service.reason}" if service.reason else ""
            return f" ({state}{reason})"
