"""Where the subscribers and dead letter sinks of a plan are on this machine, and what they take."""

from urllib.parse import urlsplit

from relume.base.errors import InvalidInput
from relume.config import Destination, Plan, Ref, Trigger
from relume.config.channels import REQUEST_REPLY_PATH, entry_of
from relume.config.head import API_VERSIONS
from relume.serving.predictor import ServedService
from relume.serving.settings import ServingSettings


class Destinations:
    """Turns references into URLs of the plane's two ports.

    `http` and `broker` are their base URLs, without a slash at the end. `plan` says which services
    are here, so that a URL that names one of them inside a cluster leads to it.
    """

    def __init__(self, http: str, broker: str, plan: Plan | None = None) -> None:
        self._http = http
        self._broker = broker
        self._served = {} if plan is None else _served(plan)

    def resolve(self, destination: Destination, namespace: str) -> str:
        """The URL that events for `destination` are posted to.

        An InferenceService or a function is its path on the HTTP port followed by `uri`; a Broker
        is its ingress, a flow that of its first channel, a RequestReply its path followed by `uri`;
        a `uri` alone is itself, unless its host is that of a service of the plan inside a cluster
        (`NAME.NAMESPACE.svc.cluster.local`). A reference without a namespace means `namespace`.
        Raises InvalidInput for a kind that has no address here.
        """
        ref = destination.ref
        if ref is None:
            if destination.uri is None:
                raise InvalidInput("a destination needs a ref or a uri")
            return self._here(destination.uri)
        full_name = f"{ref.namespace or namespace}/{ref.name}"
        if ref.kind in ("InferenceService", "Service"):
            return self.service(full_name) + (destination.uri or "/")
        if ref.kind == "RequestReply":
            return f"{self._broker}{REQUEST_REPLY_PATH}/{full_name}{destination.uri or ''}"
        if (entry := entry_of(ref.kind, ref.name)) is not None:
            return self.ingress(f"{ref.namespace or namespace}/{entry}")
        raise InvalidInput(f"a destination of kind {ref.kind} has no address on this machine")

    def _here(self, uri: str) -> str:
        parts = urlsplit(uri)
        name, _, rest = (parts.hostname or "").partition(".")
        namespace, _, domain = rest.partition(".")
        if domain not in ("svc", "svc.cluster.local") or (namespace, name) not in self._served:
            return uri
        query = f"?{parts.query}" if parts.query else ""
        return self.service(f"{namespace}/{name}") + (parts.path or "/") + query

    def service(self, full_name: str) -> str:
        """The URL of the service `NAMESPACE/NAME`, without a slash at the end."""
        return f"{self._http}/serving/{full_name}"

    def ingress(self, full_name: str) -> str:
        """The URL of the Broker `NAMESPACE/NAME`."""
        return f"{self._broker}/{full_name}"

    def flow(self, kind: str, namespace: str, name: str) -> str:
        """Where a Sequence, Parallel or RequestReply takes events."""
        to = Destination(ref=Ref(kind, namespace, name, API_VERSIONS[kind]))
        return self.resolve(to, namespace)


def _served(plan: Plan) -> dict[tuple[str, str], ServedService]:
    """Every service by namespace and name; no two have one name, as they would have one address."""
    services: list[ServedService] = [*plan.services, *plan.functions]
    return {(service.namespace, service.name): service for service in services}


class SubscriberCapacity:
    """How many deliveries the subscriber of a Trigger can take at once, for one plan.

    Eventing that knows it does not flood Serving: further events stay in the Broker, where they are
    safe, and not in held requests.
    """

    def __init__(self, plan: Plan) -> None:
        self._services = _served(plan)

    def of(self, trigger: Trigger) -> int | None:
        """containerConcurrency × the most replicas of its service; None: not known."""
        ref = trigger.subscriber.ref
        if ref is None or ref.kind not in ("InferenceService", "Service"):
            return None
        service = self._services.get((ref.namespace, ref.name))
        if service is None:
            return None
        replicas = service.max_replicas or ServingSettings().unlimited_replicas
        return service.container_concurrency * replicas or None
