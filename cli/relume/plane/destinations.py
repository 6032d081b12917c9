"""Where a Trigger's subscriber or a dead letter sink is on this machine."""

from relume.base.errors import InvalidInput
from relume.config import Destination


class Destinations:
    """Turns references into URLs of the two ports (base URLs without a slash at the end)."""

    def __init__(self, http: str, broker: str) -> None:
        self._http = http
        self._broker = broker

    def resolve(self, destination: Destination, namespace: str) -> str:
        """The URL that events for `destination` are posted to.

        An InferenceService is its path on the HTTP port and then `uri`; a Broker is its ingress; a
        `uri` alone is itself. A reference without a namespace means `namespace`. Raises
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
        if ref.kind == "Broker":
            return self.ingress(full_name)
        raise InvalidInput(f"a destination of kind {ref.kind} has no address on this machine")

    def service(self, full_name: str) -> str:
        """The URL of the InferenceService `NAMESPACE/NAME`, without a slash at the end."""
        return f"{self._http}/serving/{full_name}"

    def ingress(self, full_name: str) -> str:
        """The URL of the Broker `NAMESPACE/NAME`."""
        return f"{self._broker}/{full_name}"
