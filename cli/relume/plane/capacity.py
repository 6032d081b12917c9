"""How many deliveries a Trigger's subscriber can take at once."""

from relume.config import InferenceService, Plan, Trigger
from relume.serving.settings import ServingSettings


class Capacity:
    """Answers for the Triggers of one plan.

    Eventing that knows what Serving can take at once does not flood it: what is beyond stays in the
    Broker, where it is safe, and not in a held request.
    """

    def __init__(self, plan: Plan) -> None:
        self._services = {(s.namespace, s.name): s for s in plan.services}

    def of(self, trigger: Trigger) -> int | None:
        """containerConcurrency × the most replicas of an InferenceService; None: not known."""
        ref = trigger.subscriber.ref
        if ref is None or ref.kind != "InferenceService":
            return None
        service = self._services.get((ref.namespace, ref.name))
        return None if service is None else _capacity(service)


def _capacity(service: InferenceService) -> int | None:
    replicas = service.max_replicas or ServingSettings().unlimited_replicas
    return service.container_concurrency * replicas or None
