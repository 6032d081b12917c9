"""Which revision of a service answers a request: the newest, or the one that was rolled out before.

This is KServe's `canaryTrafficPercent` on Knative's `traffic` (kserve pkg/controller/v1beta1/
inferenceservice/reconcilers/knative/ksvc_reconciler.go, and `PropagateStatus` of its API; knative
serving pkg/reconciler/route/traffic). Each revision is a `Service` of its own, so each has its own
queue, autoscaler and replicas, and a request stays with the revision that it was given.
"""

import random
from collections.abc import Callable
from typing import Any, Literal

from relume.serving.predictor import ServedService, ServiceKey
from relume.serving.service import Service

Tag = Literal["latest", "prev"]
ALL = 100


class Traffic:
    """One name, and the one or two revisions behind it."""

    def __init__(
        self,
        config: ServedService,
        make: Callable[[ServedService], Service],
        rng: random.Random,
    ) -> None:
        """make: a `Service` for a revision, which has started nothing yet."""
        self._make = make
        self._rng = rng
        self.key = ServiceKey(config.namespace, config.name)
        self.rolled_out = make(config)
        """The revision that gets all requests, or those that the canary does not get."""
        self.canary: Service | None = None
        """The newest revision, where it does not get all requests."""
        self._before: ServedService | None = None
        self.rolled_out.open()

    @property
    def services(self) -> tuple[Service, ...]:
        """The revisions, the newest last."""
        return (self.rolled_out,) if self.canary is None else (self.rolled_out, self.canary)

    @property
    def share(self) -> int:
        """What the canary gets of the requests now, in percent.

        It gets none before it was ready for the first time: Knative's `latestRevision` means the
        latest one that is ready.
        """
        canary = self.canary
        return 0 if canary is None or not canary.was_ready else _percent(canary.config)

    def assign(self, tag: Tag | None = None) -> Service:
        """Return the revision that answers a request; `tag` asks for one of the two."""
        canary = self.canary
        if canary is None or tag == "prev":
            return self.rolled_out
        if tag == "latest" or self._rng.random() * ALL < self.share:
            return canary
        return self.rolled_out

    def update(self, config: ServedService, *, stop_first: bool) -> list[Service]:
        """Take over what the manifest says now. Return the revisions that get no request any more.

        A revision that was replaced answers what it was given, and then ends.
        """
        if config.revision == self.services[-1].config.revision:
            self._share_anew(config)
            return self.settle()
        gone = [] if self.canary is None else [self.canary]
        self.canary = None
        if _percent(config) < ALL:
            self.canary = self._make(config)
            self.canary.warm()
        else:
            self._before = self.rolled_out.config
            self.rolled_out.renew(config, stop_first=stop_first)
        return _retired(gone)

    def _share_anew(self, config: ServedService) -> None:
        """Give the newest revision another share.

        A revision that had all requests and gets fewer of them again is rolled back: the rest goes
        to the one that had them before, as in KServe.
        """
        newest = self.services[-1]
        newest.config = config
        if self.canary is None and self._before is not None and _percent(config) < ALL:
            self.canary, self.rolled_out = newest, self._make(self._before)
            self.rolled_out.open()
            self.rolled_out.warm()

    def settle(self) -> list[Service]:
        """Let a canary that gets every request take the other's place; return that one."""
        if self.canary is None or self.share < ALL:
            return []
        gone, self.rolled_out, self.canary = self.rolled_out, self.canary, None
        self._before = gone.config
        return _retired([gone])

    def tick(self) -> list[Service]:
        """Let each revision decide; return what `settle` does."""
        for service in self.services:
            service.tick()
        if self.canary is not None and self.canary.at_zero and not self.canary.was_ready:
            self.canary.warm()  # it has failed, and its back-off says when, or it made room
        return self.settle()

    def warm(self) -> None:
        """Start each revision that gets requests, where it is at zero."""
        for service in self.services:
            if service is self.rolled_out or self.share > 0:
                service.warm()

    def status(self, base_url: str) -> dict[str, Any]:
        """Return the status of the revision that was rolled out, and of both where there are two.

        JSON types only.
        """
        main = self.rolled_out.status(base_url)
        if self.canary is None:
            return {**main, "traffic": []}
        shares = zip(("prev", "latest"), (ALL - self.share, self.share), self.services, strict=True)
        return {
            **main,
            "traffic": [
                {"tag": tag, "percent": percent, "asked": asked, **_part(service, base_url)}
                for tag, percent, service in shares
                for asked in [_asked(self.canary.config, tag)]
            ],
        }


def _percent(config: ServedService) -> int:
    return ALL if config.canary_percent is None else config.canary_percent


def _asked(config: ServedService, tag: str) -> int:
    return _percent(config) if tag == "latest" else ALL - _percent(config)


# What is told of each of two revisions; the address, for one, is the same.
_OWN = (
    "revision",
    "state",
    "reason",
    "phase",
    "start",
    "ready_in_s",
    "replicas",
    "held",
    "in_flight",
)
_OWN_TOO = ("pids", "cold_starts", "log_tail")


def _part(service: Service, base_url: str) -> dict[str, Any]:
    status = service.status(base_url)
    return {name: status[name] for name in (*_OWN, *_OWN_TOO)}


def _retired(services: list[Service]) -> list[Service]:
    for service in services:
        service.retire()
    return services
