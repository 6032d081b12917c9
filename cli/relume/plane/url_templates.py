"""Addresses of services and Brokers, written with `{name}` and `{namespace}`.

Where there is one service, or one Broker, its address may be written as it is.
"""

import string
from urllib.parse import urlsplit

from relume.base.errors import InvalidInput

#: Where KServe serves an InferenceService, and where Knative's own Broker takes events.
SERVICE_URL = "http://{name}.{namespace}.svc.cluster.local"
BROKER_URL = "http://broker-ingress.knative-eventing.svc.cluster.local/{namespace}/{name}"

_FIELDS = frozenset({"name", "namespace"})


class BadTemplate(InvalidInput):
    """A template cannot become a URL; the message names the option and the fix."""

    reason = "bad-template"


class UrlTemplate:
    """A URL for each name; raises BadTemplate when the text is none. `option` is named in errors.

    Both fields must be in it: else two services, or two Brokers, would have one address. `only`
    says that there is one alone; then a plain URL without them will do.
    """

    def __init__(self, option: str, text: str, *, only: bool = False) -> None:
        self._text = text.rstrip("/")
        try:
            fields = {name for _, name, *_ in string.Formatter().parse(text) if name is not None}
        except ValueError as error:
            raise BadTemplate(f"{option} {text}: {error}") from None
        #: Whether each name has a URL of its own.
        self.tells_apart = fields == _FIELDS
        if not (self.tells_apart or (only and not fields)):
            raise BadTemplate(
                f"{option} {text}: write {{name}} and {{namespace}} into it, once each"
            )
        parts = urlsplit(self.url("ns", "n"))
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise BadTemplate(
                f"{option} {text}: write a URL such as http://{{name}}.{{namespace}}.example.com"
            )

    def url(self, namespace: str, name: str) -> str:
        """The URL without a slash at the end."""
        return self._text.format(namespace=namespace, name=name)
