"""All that the manifests of one command mean together."""

from dataclasses import dataclass

from relume.config.function import ConfigObject, Function, ServiceSettings
from relume.config.resources import (
    Broker,
    CannotRun,
    InferenceService,
    NotHonoured,
    OtherDocument,
    ParallelFlow,
    PingSource,
    RequestReply,
    SequenceFlow,
    SinkBinding,
    Trigger,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the files say, in their order. Names are unique.

    `functions` are as their Knative Services configure them; `containers` are the Knative Services
    of no function, which only a cluster can run; `objects` are Secrets and ConfigMaps.
    `cannot_run` is what `relume.config.machine` refuses: with anything in it, references may lead
    nowhere, and a service may have no model (`storage_uri` is empty) or one that is not here.
    """

    services: tuple[InferenceService, ...] = ()
    brokers: tuple[Broker, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    others: tuple[OtherDocument, ...] = ()
    sequences: tuple[SequenceFlow, ...] = ()
    parallels: tuple[ParallelFlow, ...] = ()
    request_replies: tuple[RequestReply, ...] = ()
    ping_sources: tuple[PingSource, ...] = ()
    sink_bindings: tuple[SinkBinding, ...] = ()
    not_honoured: tuple[NotHonoured, ...] = ()
    cannot_run: tuple[CannotRun, ...] = ()
    functions: tuple[Function, ...] = ()
    containers: tuple[ServiceSettings, ...] = ()
    objects: tuple[ConfigObject, ...] = ()

    @property
    def runs_something(self) -> bool:
        """Whether there is anything that a plane can run."""
        events = (*self.brokers, *self.triggers, *self.request_replies, *self.ping_sources)
        return bool(self.services or self.functions or events or self.sequences or self.parallels)
