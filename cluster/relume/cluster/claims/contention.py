"""Whether what fits alone still fits beside the other workloads of the same files.

Each takes the devices of its witness, in the order of the files. The scheduler may take others, so
this says that somebody may have to wait, not who.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from relume.cluster.claims.inventory import Ident, Inventory
from relume.cluster.claims.workloads import Unit

if TYPE_CHECKING:
    from relume.cluster.claims.explain import Report


def beside_each_other(
    reports: Sequence["Report"],
    inventory: Inventory,
    shared: Collection[str],
    judge: Callable[[Unit, Inventory], "Report"],
) -> Iterator["Report"]:
    """The reports, with what is lacking for those that fit alone, but not beside the others.

    `shared` are the names of ResourceClaims: several workloads may use the devices of one.
    """
    used = dict(inventory.used)
    for report in reports:
        found = report
        if report.answer == "satisfiable" and len(used) > len(inventory.used):
            found = judge(report.unit, replace(inventory, used=used))
            if found.answer == "unsatisfiable":
                yield replace(report, beside=f"alone, but not beside the others: {found.sentence}")
                continue
        yield report
        used |= dict.fromkeys(_held(found, shared), report.unit.title)


def _held(report: "Report", shared: Collection[str]) -> Iterator[Ident]:
    """The devices of the witness that nobody else can have."""
    watching = {(one.claim, one.request) for one in report.asks if one.ask.admin_access}
    for claim, request, device in report.witness.devices if report.witness else ():
        if not device.shareable and claim not in shared and (claim, request) not in watching:
            yield device.ident
