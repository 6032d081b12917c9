"""Manifests as types: what the user wrote, validated, with file, line and field in every error.

`load(paths)` reads YAML files into a `Plan`.
"""

from collections.abc import Sequence
from pathlib import Path

from relume.config.function import Function
from relume.config.here import NOTHING, Machine
from relume.config.plan import Plan
from relume.config.resources import (
    All,
    Any_,
    Autoscaling,
    Branch,
    Broker,
    CannotRun,
    Cesql,
    Delivery,
    Destination,
    Exact,
    Filter,
    InferenceService,
    Mount,
    Negation,
    NotHonoured,
    Origin,
    OtherDocument,
    ParallelFlow,
    PingSource,
    Prefix,
    Ref,
    RequestReply,
    SequenceFlow,
    SinkBinding,
    Step,
    Suffix,
    Trigger,
)


def load(paths: Sequence[Path], machine: Machine = NOTHING) -> Plan:
    """Read, validate and cross-check every manifest in `paths` (files and folders of files).

    Raises InvalidManifest for the first thing that is wrong or that this machine cannot do, with
    its file, line and field, and InvalidInput for a path without manifests. `machine` is what the
    user gives beside the files.
    """
    from relume.config.loader import load_plan  # PyYAML only when there is something to read
    from relume.config.machine import require_runnable

    plan = load_plan(paths, machine)
    require_runnable(plan)
    return plan


__all__ = [
    "All",
    "Any_",
    "Autoscaling",
    "Branch",
    "Broker",
    "CannotRun",
    "Cesql",
    "Delivery",
    "Destination",
    "Exact",
    "Filter",
    "Function",
    "InferenceService",
    "Machine",
    "Mount",
    "Negation",
    "NotHonoured",
    "Origin",
    "OtherDocument",
    "ParallelFlow",
    "PingSource",
    "Plan",
    "Prefix",
    "Ref",
    "RequestReply",
    "SequenceFlow",
    "SinkBinding",
    "Step",
    "Suffix",
    "Trigger",
    "load",
]
