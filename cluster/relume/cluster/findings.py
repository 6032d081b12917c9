"""What is wrong, or will be, with a manifest or a cluster: one finding, and how to fix it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from relume.cluster.reasons import REASONS, Effect, Severity
from relume.config.nodes import Node

AdmissionVerdict = Literal["accepted", "fields-only", "unchecked", "refused", "pruned"]
_PAGE = "cluster/DOCTOR.md"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    `reason` is a stable word of `relume.cluster.reasons`. `field` is a path as Kubernetes writes
    it, "" for the whole document or cluster. `message` says what is wrong and names the field's
    value; `fix` says what to write or do. `file` and `line` are None for what no file says.
    `gravity` is set where a finding is graver or milder than its reason usually is.
    """

    reason: str
    field: str
    message: str
    fix: str
    file: Path | None = None
    line: int | None = None
    gravity: Severity | None = None

    @property
    def severity(self) -> Severity:
        """`error`: it will not work; `warning`: it may not; `info`: worth knowing."""
        return self.gravity or REASONS[self.reason].severity

    @property
    def effect(self) -> Effect:
        """What admission does about it."""
        return REASONS[self.reason].effect

    @property
    def why(self) -> str:
        """Why it matters, in one sentence or two."""
        return REASONS[self.reason].why

    @property
    def docs(self) -> str:
        """The section of the documentation that explains the reason."""
        return f"{_PAGE}#{self.reason}"


def at(
    node: Node, reason: str, message: str, fix: str = "", *, field: str | None = None
) -> Finding:
    """A finding at the place of `node`. `field` is set where it names another path than that."""
    return Finding(
        reason=reason,
        field=node.path if field is None else field,
        message=message,
        fix=fix or REASONS[reason].fix,
        file=node.file,
        line=node.line,
    )


def verdict(findings: Iterable[Finding]) -> AdmissionVerdict:
    """What a cluster does with a document that has these findings, as far as it was judged.

    `fields-only`: nothing is wrong with its fields, and the rules of its kind were not asked;
    `unchecked`: not even the fields of its kind are known.
    """
    found = tuple(findings)
    effects, reasons = {one.effect for one in found}, {one.reason for one in found}
    if "refused" in effects:
        return "refused"
    if "pruned" in effects:
        return "pruned"
    if "unchecked-kind" in reasons:
        return "unchecked"
    return "fields-only" if "fields-only" in reasons else "accepted"
