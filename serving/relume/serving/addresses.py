"""Which service a request's address names: by Host, or by KServe's path template. Pure.

`Host: <isvc>.<ns>[.<anything>]` is Knative's domain template, and `/serving/<ns>/<isvc>/…`
KServe's `pathTemplate`; the prefix is taken off, as its ingress rewrite does.
"""

from collections.abc import Iterable

from starlette.types import Scope

from relume.serving.predictor import ServiceKey
from relume.serving.traffic import Tag

ROUTED_TO = "relume.service"
"""In the state of a scope, which its copies share: the ServiceKey that a request is for."""
_SERVING = b"/serving/"
TAGS: tuple[Tag, ...] = ("latest", "prev")


def header(scope: Scope, name: bytes) -> str | None:
    """Return the first value of a header; `name` in lower case."""
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found.decode("latin-1")
    return None


def raw_path_of(scope: Scope) -> bytes:
    """Return the path as the client sent it, still percent-encoded, without the query."""
    raw: bytes | None = scope.get("raw_path")
    return scope["path"].encode() if raw is None else raw.partition(b"?")[0]


def by_host(host: str, known: Iterable[ServiceKey]) -> ServiceKey | None:
    """Return the known service that a Host header names.

    The predictor's own host of KServe (`<isvc>-predictor.<ns>…`) names it too, and so do both with
    a tag (`tag_of`).
    """
    labels = host.rsplit(":", 1)[0].lower().split(".")
    if len(labels) < 2:
        return None
    in_namespace = [key for key in known if key.namespace == labels[1]]
    if not in_namespace:
        return None
    plain = labels[0].removesuffix("-predictor")
    names = (labels[0], plain, *(plain.removeprefix(f"{tag}-") for tag in TAGS))
    return next((key for name in names for key in in_namespace if key.name == name), None)


def tag_of(host: str, key: ServiceKey) -> Tag | None:
    """Return the tag by which a Host that names `key` asks for one of its revisions.

    Knative's tag template is `<tag>-<name>`; KServe tags the revisions of a canary rollout `latest`
    and `prev`.
    """
    label = host.partition(".")[0].lower().removesuffix("-predictor")
    return next((tag for tag in TAGS if label == f"{tag}-{key.name}"), None)


def by_path(raw_path: bytes) -> tuple[ServiceKey, bytes] | None:
    """Split `/serving/<ns>/<isvc>/rest` into the service and `/rest`, both still encoded."""
    if not raw_path.startswith(_SERVING):
        return None
    namespace, _, rest = raw_path.removeprefix(_SERVING).partition(b"/")
    name, _, rest = rest.partition(b"/")
    key = ServiceKey(namespace.decode("latin-1"), name.decode("latin-1"))
    return (key, b"/" + rest) if key.namespace and key.name else None
