"""Who sent a request. The middleware of access writes it into `scope["state"]`."""

from dataclasses import dataclass

from starlette.types import Scope

ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Caller:
    """`owner` owns the jobs of the request ("": everybody does); `tenant` shares the queue."""

    owner: str = ""
    tenant: str = ANONYMOUS


def caller_of(scope: Scope) -> Caller:
    """The caller; without any access control it is everybody."""
    state = scope.get("state") or {}
    return Caller(state.get("owner", ""), state.get("tenant", ANONYMOUS))
