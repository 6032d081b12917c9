"""The whole checklist of one version, examined on one cluster or on none."""

from dataclasses import dataclass

from relume.cluster.apply.api import ClusterApi, Forbidden
from relume.cluster.conformance.checklist import Item, Level, items_of
from relume.cluster.conformance.evidence import Evidence, Recorder, Seen
from relume.cluster.conformance.probes import PROBES, not_tried

OFFLINE = Seen("unknown", "no cluster was named: say --context")


@dataclass(frozen=True, slots=True)
class Result:
    """One item, its verdict, and the file that it rests on (None: nothing was asked)."""

    item: Item
    level: Level
    seen: Seen
    evidence: Evidence | None


def examine(api: ClusterApi | None, version: str) -> tuple[Result, ...]:
    """Examine every item of `version`. Raises Unreachable where the cluster does not answer."""
    return tuple(_result(api, item, item.levels[version]) for item in items_of(version))


def _result(api: ClusterApi | None, item: Item, level: Level) -> Result:
    if api is None:
        return Result(item, level, OFFLINE, None)
    cluster = Recorder(api)
    try:
        seen = PROBES.get(item.id, not_tried)(cluster)
    except Forbidden as error:
        seen = Seen("unknown", str(error))
    return Result(item, level, seen, cluster.evidence(item.id, seen) if cluster.asked else None)
