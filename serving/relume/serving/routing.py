"""Which service a request is for: by Host, by KServe's path template, or by OpenAI's `model`.

Pure. `Host: <isvc>.<ns>[.<anything>]` is Knative's domain template, and `/serving/<ns>/<isvc>/…`
KServe's `pathTemplate`; the prefix is taken off, as its ingress rewrite does.
"""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SERVING = b"/serving/"
OPENAI = b"/openai/v1"
MODEL_FLAGS = ("--served-model-name", "--served_model_name", "--model-name", "--model_name")


@dataclass(frozen=True, slots=True, order=True)
class ServiceKey:
    """The name of an InferenceService."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def by_host(host: str, known: Iterable[ServiceKey]) -> ServiceKey | None:
    """Return the known service that a Host header names.

    The predictor's own host of KServe (`<isvc>-predictor.<ns>…`) names it too.
    """
    labels = host.rsplit(":", 1)[0].lower().split(".")
    if len(labels) < 2:
        return None
    names = {labels[0], labels[0].removesuffix("-predictor")}
    found = [key for key in known if key.namespace == labels[1] and key.name in names]
    return next((key for key in found if key.name == labels[0]), found[0] if found else None)


def by_path(raw_path: bytes) -> tuple[ServiceKey, bytes] | None:
    """Split `/serving/<ns>/<isvc>/rest` into the service and `/rest`, both still encoded."""
    if not raw_path.startswith(SERVING):
        return None
    namespace, _, rest = raw_path.removeprefix(SERVING).partition(b"/")
    name, _, rest = rest.partition(b"/")
    key = ServiceKey(namespace.decode("latin-1"), name.decode("latin-1"))
    return (key, b"/" + rest) if key.namespace and key.name else None


def openai_path(raw_path: bytes) -> bytes | None:
    """Return `/v1/…` for `/openai/v1/…`, else None."""
    if raw_path == OPENAI or raw_path.startswith(OPENAI + b"/"):
        return raw_path.removeprefix(b"/openai")
    return None


@dataclass(frozen=True, slots=True)
class Model:
    """One name under which /openai/v1 reaches a service."""

    id: str
    service: ServiceKey
    served_as: str
    """What the predictor itself calls it."""


class Models:
    """Every model name of the plane.

    A service is listed by its name, or as `<ns>/<name>` where two namespaces use the same name. It
    is also found by `<ns>/<name>` always, and by the names in its `--served-model-name`.
    """

    def __init__(self, services: Sequence[tuple[ServiceKey, tuple[str, ...]]]) -> None:
        self.listed: list[Model] = []
        self._found: dict[str, Model] = {}
        bare = [key.name for key, _ in services]
        for key, args in services:
            served = served_names(args)
            served_as = served[0] if served else key.name
            unique = bare.count(key.name) == 1
            listed = Model(key.name if unique else str(key), key, served_as)
            self.listed.append(listed)
            self._found[listed.id] = listed
            self._found[str(key)] = Model(str(key), key, served_as)
            for name in served:
                self._found.setdefault(name, Model(name, key, name))

    def find(self, name: str) -> Model | None:
        """Return the model of this name."""
        return self._found.get(name)


def served_names(args: Iterable[str]) -> list[str]:
    """Return the names that the predictor's own arguments give its model."""
    words = [word for arg in args for word in (shlex.split(arg) if " " in arg else [arg])]
    names: list[str] = []
    for i, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag not in MODEL_FLAGS:
            continue
        if equals:
            names.append(value)
            continue
        for following in words[i + 1 :]:
            if following.startswith("--"):
                break
            names.append(following)
    return names
