"""Everything that will not work, and why, before anything is applied.

`examine` reads manifest files and says of every document what admission does with it, what happens
to it afterwards, and where the times of one document do not go together with those of another.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import get_args

from relume.cluster.admission import SHIPPED, Cluster, admit
from relume.cluster.admission.after import after_admission
from relume.cluster.doctor.budgets import judge_budgets
from relume.cluster.doctor.devices import judge_devices
from relume.cluster.doctor.files import (
    DocumentHead,
    FileDocument,
    of_installed,
    read_files,
    with_settings_of,
)
from relume.cluster.doctor.filters import judge_filters
from relume.cluster.doctor.gateways import judge_gateways
from relume.cluster.doctor.references import judge_references
from relume.cluster.doctor.runtimes import judge_runtimes
from relume.cluster.findings import AdmissionVerdict, Finding, verdict
from relume.config.nodes import Table

__all__ = ["DEFAULT_COLD_START_S", "Diagnosis", "count_verdicts", "examine"]

DEFAULT_COLD_START_S = 60.0


@dataclass(frozen=True, slots=True)
class Diagnosis(DocumentHead):
    """One document, by its number among all that were read, counted from 0."""

    document: int
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> AdmissionVerdict:
        """What a cluster with those settings does with it, as far as it was judged."""
        return verdict(self.findings)

    @property
    def unreadable(self) -> bool:
        """Whether the text is not a manifest at all."""
        return any(f.reason in ("not-yaml", "not-a-manifest") for f in self.findings)


def examine(
    paths: Sequence[Path],
    cluster: Cluster = SHIPPED,
    *,
    cold_start_s: float = DEFAULT_COLD_START_S,
) -> list[Diagnosis]:
    """Examine every document of `paths` (files, and folders of files), in their order.

    `cold_start_s` is how long a replica takes from nothing to its first answer. Config maps of
    Knative among the documents count as the cluster's settings. Raises InvalidInput
    for a path that is not there or cannot be read, and for folders without manifests; a document
    that is not YAML is a finding.
    """
    read = read_files(paths)
    cluster = with_settings_of(read, cluster)
    found: dict[int, list[Finding]] = {}
    admitted: list[tuple[int, Table]] = []
    for number, one in enumerate(read):
        own = found[number] = list(one.findings)
        if one.root is None:
            continue
        own += (f for f in admit(one.root, cluster).findings if not of_installed(one, f))
        if isinstance(one.root, Table) and verdict(own) != "refused":
            if one.kind == "InferenceService":
                own += after_admission(one.root, cluster)
            admitted.append((number, one.root))
    together = chain(
        judge_budgets(admitted, cluster, cold_start_s),
        judge_filters(admitted),
        judge_devices(admitted, cluster),
        judge_references(admitted, cluster),
        judge_runtimes(admitted),
        judge_gateways(admitted),
    )
    for number, finding in together:
        found[number].append(finding)
    return [_diagnosis(number, one, found[number]) for number, one in enumerate(read)]


def count_verdicts(diagnoses: Iterable[Diagnosis]) -> dict[str, int]:
    """How many documents have each verdict, with 0 for one that none has."""
    counts = Counter(one.verdict for one in diagnoses)
    return {verdict: counts[verdict] for verdict in get_args(AdmissionVerdict)}


def _diagnosis(number: int, one: FileDocument, findings: Sequence[Finding]) -> Diagnosis:
    order = {"error": 0, "warning": 1, "info": 2}
    once = {(f.reason, f.field): f for f in findings}
    kept = sorted(once.values(), key=lambda f: (order[f.severity], f.line or 0))
    head = {field.name: getattr(one, field.name) for field in fields(DocumentHead)}
    return Diagnosis(**head, document=number, findings=tuple(kept))
