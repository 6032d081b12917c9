"""An engine that has ended under its server: killed, out of memory, or failed.

vLLM's server ends too, but not in the same instant, and meanwhile it answers 500 to everything.
A caller that gets a 503 and `Retry-After` instead knows that another try may be answered. What was
with the engine is not sent to another replica: it may be what has ended the engine.
"""

from starlette.types import Message, Receive, Scope, Send

from relume.base.vocabulary import ENGINE_FAILED
from relume.runtimes.failures import AnswerFailure

#: What a request gets that comes when the engine has ended, and what one gets that was with it.
TAKES_NONE = AnswerFailure(
    503, ENGINE_FAILED, "the engine of this replica has ended; try again", True, begun=False
)
NOT_ANSWERED = AnswerFailure(
    503, ENGINE_FAILED, "the engine ended while this request was with it; try again", True
)


def has_ended(scope: Scope) -> bool:
    """Whether the engine behind this application can answer nothing any more."""
    engine = getattr(scope["app"].state, "engine_client", None)
    return bool(getattr(engine, "errored", False))


def telling(scope: Scope, receive: Receive, send: Send) -> Send:
    """Send the answer of a route, or `NOT_ANSWERED` where it fails because the engine has ended."""
    replaced = False

    async def answer(message: Message) -> None:
        nonlocal replaced
        if replaced:
            return
        if message["type"] == "http.response.start" and message["status"] >= 500:
            replaced = has_ended(scope)
        if replaced:
            await NOT_ANSWERED.response(scope["path"])(scope, receive, send)
        else:
            await send(message)

    return answer
