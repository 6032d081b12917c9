"""Who sent a request. The middleware of access writes it into `scope["state"]`."""

from typing import NamedTuple

from starlette.types import Scope

ANONYMOUS = "anonymous"
#: Who owns the jobs of events that came without a key; a key of this owner sees them.
BROKER = "broker"


class Caller(NamedTuple):
    """`owner` owns the jobs of the request ("": everybody does); `tenant` shares the queue."""

    owner: str = ""
    tenant: str = ANONYMOUS

    @property
    def is_known(self) -> bool:
        """Whether the caller has shown who it is; its events need not be told apart by source."""
        return self.owner not in ("", BROKER)


def caller_of(scope: Scope) -> Caller:
    """The caller; without any access control it is everybody."""
    state = scope.get("state") or {}
    return Caller(state.get("owner", ""), state.get("tenant", ANONYMOUS))
