"""What of the plane's status a page is told. Pure.

Prompts and the data of events are left out: the end of a log and what a subscriber or predictor
said may quote them, so they too are told only where `--show-prompts` was given.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from relume.base.vocabulary import COLD_START_PHASES, LAUNCH_PHASES, MEMORY_PHASE, Json
from relume.plane.page.board import Items
from relume.plane.page.history import MOST_EACH

#: The phases in the order in which a bar stacks them.
PHASES = (COLD_START_PHASES[0], MEMORY_PHASE, *LAUNCH_PHASES, *COLD_START_PHASES[1:])
_OF_SERVICE = (
    *("namespace", "name", "revision", "state", "reason", "phase", "ready_in_s", "replicas"),
    *("desired", "held", "in_flight", "refused", "warm_at", "cold_starts", "url", "memory"),
    *("start", "rollout"),
)
# Of each of two revisions that share the requests of a service.
_OF_SHARE = ("tag", "percent", "revision", "state", "replicas", "in_flight")
_OF_BROKER = ("namespace", "name", "profile", "accepted", "duplicates", "dead_letters", "of", "url")
_OF_TRIGGER = (
    *("namespace", "name", "broker", "subscriber", "pending", "in_flight", "delivered"),
    *("replied", "retried", "filtered", "dead_lettered", "dropped"),
)
_OF_QUEUE = ("service", "waiting", "running", "paused")


def sections(
    status: Mapping[str, Any], cold_starts: Sequence[Json], *, prompts: bool
) -> Mapping[str, Items]:
    """The sections of the board; `prompts`: whether texts that may quote prompts are told."""
    serving, eventing = status["serving"], status["eventing"]
    services = serving.get("services", ())
    brokers, triggers = eventing.get("brokers", ()), eventing.get("triggers", ())
    queues = status["jobs"].get("queues", ())
    of_service = (*_OF_SERVICE, "log_tail") if prompts else _OF_SERVICE
    hidden = sum(max(0, len(each) - MOST_EACH) for each in (services, brokers, triggers))
    return {
        "plane": [("plane", {**_plane(status), "hidden": hidden})],
        "services": [
            (name, {**shown, "traffic": _shares(each)})
            for (name, shown), each in zip(_named(services, of_service), services, strict=False)
        ],
        "brokers": _named(brokers, _OF_BROKER),
        "triggers": _named(triggers, _OF_TRIGGER),
        "queues": [(str(each["service"]), _part(each, _OF_QUEUE)) for each in queues[:MOST_EACH]],
        "coldstarts": [_cold_start(entry) for entry in cold_starts],
    }


def _plane(status: Mapping[str, Any]) -> Json:
    names = ("version", "pid", "started_at", "http", "broker", "state_dir")
    nats = status["eventing"].get("nats") or {}
    return {
        **_part(status, names),
        "memory": status["serving"].get("memory"),
        "template": _part(status.get("template") or {}, ("state", "rss_mb")),
        "nats": nats.get("state"),
        "unpublished": status["jobs"].get("unpublished", 0),
    }


def _cold_start(entry: Json) -> tuple[str, Json]:
    phases = {name: entry[name] for name in PHASES if entry.get(name) is not None}
    told = {
        "at": entry["at"],
        "service": f"{entry['namespace']}/{entry['service']}",
        "phases": phases,
        **_part(entry, ("started", "triggered_by", "ready", "total", "outcome", "reason")),
    }
    return f"{told['service']} {told['at']}", told


def _shares(service: Mapping[str, Any]) -> list[Json]:
    """The revisions that share the requests of a service; none where there is one."""
    return [_part(share, _OF_SHARE) for share in service.get("traffic") or ()]


def _named(found: Sequence[Mapping[str, Any]], names: Iterable[str]) -> Items:
    wanted = tuple(names)
    return [
        (f"{each['namespace']}/{each['name']}", _part(each, wanted)) for each in found[:MOST_EACH]
    ]


def _part(whole: Mapping[str, Any], names: Iterable[str]) -> dict[str, object]:
    return {name: whole[name] for name in names if whole.get(name) is not None}
