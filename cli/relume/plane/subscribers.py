"""Where the subscribers and dead letter sinks of a plan are on this machine, and what they take."""

from relume.base.errors import InvalidInput
from relume.config import Destination, Plan, Trigger
from relume.config.channels import REQUEST_REPLY_PATH, entry_of
from relume.serving.settings import ServingSettings


class Destinations:
    """Turns references into URLs of the plane's two ports.

    `http` and `broker` are their base URLs, without a slash at the end.
    """

    def __init__(self, http: str, broker: str) -> None:
        self._http = http
        self._broker = broker

    def resolve(self, destination: Destination, namespace: str) -> str:
        """The URL that events for `destination` are posted to.

        An InferenceService is its path on the HTTP port followed by `uri`; a Broker is its ingress,
        a flow that of its first channel, a RequestReply its path followed by `uri`; a `uri` alone
        is itself. A reference without a namespace means `namespace`. Raises
        InvalidInput for a kind that has no address here.
        """
        ref = destination.ref
        if ref is None:
            if destination.uri is None:
                raise InvalidInput("a destination needs a ref or a uri")
            return destination.uri
        full_name = f"{ref.namespace or namespace}/{ref.name}"
        if ref.kind == "InferenceService":
            return self.service(full_name) + (destination.uri or "/")
        if ref.kind == "RequestReply":
            return f"{self._broker}{REQUEST_REPLY_PATH}/{full_name}{destination.uri or ''}"
        if (entry := entry_of(ref.kind, ref.name)) is not None:
            return self.ingress(f"{ref.namespace or namespace}/{entry}")
        raise InvalidInput(f"a destination of kind {ref.kind} has no address on this machine")

    def service(self, full_name: str) -> str:
        """The URL of the InferenceService `NAMESPACE/NAME`, without a slash at the end."""
        return f"{self._http}/serving/{full_name}"

    def ingress(self, full_name: str) -> str:
        """The URL of the Broker `NAMESPACE/NAME`."""
        return f"{self._broker}/{full_name}"


class SubscriberCapacity:
    """How many deliveries the subscriber of a Trigger can take at once, for one plan.

    Eventing that knows it does not flood Serving: further events stay in the Broker, where they are
    safe, and not in held requests.
    """

    def __init__(self, plan: Plan) -> None:
        self._services = {(s.namespace, s.name): s for s in plan.services}

    def of(self, trigger: Trigger) -> int | None:
        """containerConcurrency × the most replicas of an InferenceService; None: not known."""
        ref = trigger.subscriber.ref
        if ref is None or ref.kind != "InferenceService":
            return None
        service = self._services.get((ref.namespace, ref.name))
        if service is None:
            return None
        replicas = service.max_replicas or ServingSettings().unlimited_replicas
        return service.container_concurrency * replicas or None
