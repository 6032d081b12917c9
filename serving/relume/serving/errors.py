"""Why a request that reached the plane was not answered by a model.

RelumeError
└── ServingError              carries the HTTP status and the text of the answer
    ├── ServiceUnknown        404: no such InferenceService
    ├── ModelUnknown          404, OpenAI's error shape: no service serves that model
    ├── RouteUnknown          404, OpenAI's error shape: no such path below /openai/v1
    ├── MethodNotAllowed      405 + Allow, OpenAI's error shape: the path has another method
    ├── BadRequest            400, OpenAI's error shape: no model can be read from the request
    │   ├── ModelUnnamed      400: the request can be read and names none
    │   └── RequestTooLarge   413: the body is larger than what is read to find the model
    ├── TooManyHeld           429 + Retry-After: as many requests wait as may
    ├── PredictorFailed       503 + Retry-After: it died, or could not be started, while held
    ├── DoesNotFit            507: it needs more memory than this machine gives to models
    ├── PlaneStopping         503 + Retry-After: the plane is shutting down
    ├── PredictorUnreachable  502: connect refused or reset (A13)
    └── RequestTimedOut       504, text/plain `activator request timeout` (A2)
"""

import json
import math

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from relume.base.error_body import openai_error
from relume.base.errors import RelumeError

JSON_TYPE = "application/json"
GOING_AWAY = 1001  # RFC 6455 §7.4.1
_TEXT_TYPE = "text/plain; charset=utf-8"


class ServingError(RelumeError):
    """An answer that the plane gives itself."""

    status = 500
    kind = "InternalServerError"
    retry_after_s: float | None = None
    param: str | None = None
    code: str | int | None = None
    allow: str | None = None
    """The methods that the path has."""
    is_text = False
    """The answer is the message as plain text, not JSON."""

    @property
    def body(self) -> bytes:
        """The message as it is, or in OpenAI's error shape with our `reason` beside it."""
        if self.is_text:
            return str(self).encode()
        return json.dumps(self.to_json()).encode()

    def to_json(self) -> dict[str, object]:
        """Return the error in OpenAI's shape, with our `reason` beside it."""
        code = self.status if self.code is None else self.code
        return openai_error(str(self), self.kind, code, self.param, reason=self.reason)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse a WebSocket's handshake.

        A handshake is answered only where the server can do that; elsewhere it is closed.
        """
        extensions = scope.get("extensions") or {}
        if scope["type"] == "websocket" and "websocket.http.response" not in extensions:
            await send({"type": "websocket.close", "code": GOING_AWAY})
        else:
            await self.response()(scope, receive, send)

    def response(self) -> Response:
        """The complete answer."""
        headers = {"content-type": _TEXT_TYPE if self.is_text else JSON_TYPE}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after_s)))
        if self.allow is not None:
            headers["allow"] = self.allow
        return Response(self.body, self.status, headers)


class ServiceUnknown(ServingError):
    """Neither the Host nor the path names a service of this plane."""

    reason = "service-unknown"
    status = 404
    is_text = True

    @property
    def body(self) -> bytes:
        return super().body + b"\n"


class ModelUnknown(ServingError):
    """No service of this plane serves the model that the request names."""

    reason = "model-unknown"
    status = 404
    kind = "NotFoundError"
    param = "model"
    code = "model_not_found"

    def __init__(self, model: str) -> None:
        super().__init__(f"The model `{model}` does not exist.")


class RouteUnknown(ServingError):
    """No server of the plane has this path below /openai/v1."""

    reason = "route-unknown"
    status = 404
    kind = "NotFoundError"

    def __init__(self, path: str) -> None:
        super().__init__(f"there is no {path}; the models are listed at /openai/v1/models")


class MethodNotAllowed(ServingError):
    """The path has another method (RFC 9110 §15.5.6)."""

    reason = "method-not-allowed"
    status = 405
    kind = "MethodNotAllowedError"

    def __init__(self, method: str, path: str, allow: str) -> None:
        super().__init__(f"{path} has no {method}; it has {allow}")
        self.allow = allow


class BadRequest(ServingError):
    """The request names no model in a form that can be read."""

    reason = "bad-request"
    status = 400
    kind = "BadRequestError"


class ModelUnnamed(BadRequest):
    """The request can be read, and names no model."""

    param = "model"


class RequestTooLarge(BadRequest):
    """The body is larger than what is read to find the model."""

    reason = "body-too-large"
    status = 413

    def __init__(self, limit: int) -> None:
        """limit: how many bytes are read."""
        super().__init__(f"the request body is larger than {limit} bytes")


class TooManyHeld(ServingError):
    """As many requests wait for the service as may."""

    reason = "too-many-held"
    retryable = True
    status = 429
    kind = "TooManyRequestsError"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PredictorFailed(ServingError):
    """The predictor that the request waited for died or could not be started."""

    reason = "predictor-failed"
    retryable = True
    status = 503
    kind = "ServiceUnavailableError"

    def __init__(self, message: str, *, retry_after_s: float, reason: str | None = None) -> None:
        super().__init__(message, reason=reason)
        self.retry_after_s = retry_after_s


class DoesNotFit(ServingError):
    """The service needs more memory than the budget of this machine can ever give it."""

    reason = "does-not-fit"
    status = 507
    kind = "InsufficientStorageError"


class PlaneStopping(ServingError):
    """The plane is shutting down and holds no request any more."""

    reason = "shutting-down"
    retryable = True
    status = 503
    kind = "ServiceUnavailableError"
    retry_after_s = 5.0


class PredictorUnreachable(ServingError):
    """The predictor refused or reset the connection before it answered (checklist A13)."""

    reason = "predictor-unreachable"
    retryable = True
    status = 502
    kind = "BadGatewayError"

    def __init__(self, cause: Exception | str) -> None:
        super().__init__(f"the predictor gave no answer: {cause}")


class RequestTimedOut(ServingError):
    """Waiting and answering took longer than the service's timeout (checklist A2, A3)."""

    reason = "timed-out"
    retryable = True
    status = 504
    is_text = True

    def __init__(self) -> None:
        super().__init__("activator request timeout")
