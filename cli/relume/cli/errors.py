"""What can go wrong in the command itself.

RelumeError
├── NoPlane          nothing answers where a plane was expected (exit code 1)
├── NotAPlane        something else answers there (1)
├── EventUnanswered  an event was accepted, and no answer came in time (1)
├── Refused          the Broker, or a stage after it, did not take the event (1)
├── DemoFailed       a step of `relume demo` did not happen (1)
└── InvalidInput
    └── BadUsage     options or an event file are wrong (2)
"""

from relume.base.errors import InvalidInput, RelumeError

INTERRUPTED_EXIT = 130  # of a shell's command that Ctrl-C ended
TERMINATED_EXIT = 143  # of one that SIGTERM ended


class NoPlane(RelumeError):
    """Nothing answers at the address of the plane."""

    reason = "no-plane"
    retryable = True


class NotAPlane(RelumeError):
    """What answers at the address is not a plane, or a different version of one."""

    reason = "not-a-plane"


class EventUnanswered(RelumeError):
    """An accepted event was not answered in time; the Broker still delivers it."""

    reason = "no-answer"
    retryable = True


class Refused(RelumeError):
    """An event was not accepted, or it ended among the dead letters."""

    reason = "refused"


class DemoFailed(RelumeError):
    """A step of the demo did not happen."""

    reason = "demo-failed"


class BadUsage(InvalidInput):
    """Options that do not go together, or a wrong input file."""

    reason = "bad-usage"
