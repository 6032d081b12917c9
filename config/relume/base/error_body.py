"""Error bodies in the shape that the caller of a route expects.

OpenAI's routes answer `{"error": {"message", "type", "param", "code"}}`; V1 and V2 (Open Inference
Protocol) answer `{"error": "text"}`. Beside `error`, both may carry `reason` (a stable word) and
`retryable`; their clients ignore these two and ours use them. This module imports the standard
library only, because the gatekeeper imports it before anything else.
"""

import re

#: `Retry-After` of every 429 and 503, in seconds.
RETRY_AFTER_S = "1"

_KSERVE_ROUTE = re.compile(r"^/v2(/|$)|^/v1/models/.+:(predict|explain)$")


def is_kserve_route(path: str) -> bool:
    """Whether `path` speaks V1 or V2 rather than OpenAI."""
    return _KSERVE_ROUTE.search(path) is not None


def error_body(
    path: str, *, status: int, message: str, reason: str, retryable: bool
) -> dict[str, object]:
    """The JSON body of an error answer on `path`."""
    if is_kserve_route(path):
        return {"error": message, "reason": reason, "retryable": retryable}
    kind = "invalid_request_error" if status < 500 and status != 429 else "service_unavailable"
    return openai_error(message, kind, status, reason=reason, retryable=retryable)


def openai_error(
    message: str, kind: str, code: str | int, param: str | None = None, **beside: object
) -> dict[str, object]:
    """OpenAI's error shape; `kind` is its `type`, and `beside` stands next to `error`."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}, **beside}
