"""Why a plane does not start.

RelumeError
├── PortTaken       a port that the plane needs is in use, or not allowed (exit code 1)
├── StateInUse      another plane runs on the same state folder (1)
└── RuntimeMissing  vLLM is not installed (1)
"""

from relume.base.errors import RelumeError


class PortTaken(RelumeError):
    """A port to listen on is in use, or not allowed."""

    reason = "port-taken"
    retryable = True


class StateInUse(RelumeError):
    """Another plane holds the state folder."""

    reason = "state-in-use"
    retryable = True


class RuntimeMissing(RelumeError):
    """There is nothing here to run a model with."""

    reason = "runtime-missing"
