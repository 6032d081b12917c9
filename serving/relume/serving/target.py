"""What the request path needs of whatever a request is for: a service, or a door of one."""

from typing import Protocol

from relume.config.waiting import Waiting
from relume.serving.holding import Scaled
from relume.serving.prediction import Progress
from relume.serving.timeouts import Timeouts

#: The key in the state of an ASGI scope that holds the Target which a request was sent to.
TARGET = "relume.target"


class Target(Scaled, Protocol):
    """A service, as one request sees it."""

    @property
    def key(self) -> object:
        """Its name; str() of it is `<namespace>/<name>`."""

    @property
    def timeouts(self) -> Timeouts: ...

    @property
    def waiting(self) -> Waiting: ...

    @property
    def progress(self) -> Progress | None:
        """How far the start that began first is; None where none is under way."""

    @property
    def ready_in_s(self) -> float | None:
        """Predict when a replica is ready; None where nothing tells."""
