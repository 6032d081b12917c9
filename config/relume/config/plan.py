"""Everything that a set of manifest files asks for."""

from dataclasses import dataclass
from pathlib import Path

from relume.config.eventing import Broker, Trigger
from relume.config.services import InferenceService


@dataclass(frozen=True, slots=True)
class NotHonoured:
    """A field that this machine leaves out without changing an answer, and why it can.

    `field` is written as Kubernetes writes it; `kind` and `name` are the resource's.
    """

    file: Path
    line: int
    field: str
    kind: str
    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, in the order of the files. Names are unique and every reference is kept."""

    services: tuple[InferenceService, ...] = ()
    brokers: tuple[Broker, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    not_honoured: tuple[NotHonoured, ...] = ()
