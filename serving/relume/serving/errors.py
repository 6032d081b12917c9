"""Why a request that reached the plane was not answered by a model.

RelumeError
└── ServingError              carries the HTTP status and the text of the answer
    ├── ServiceUnknown        404: no such InferenceService
    ├── ModelUnknown          404, OpenAI's error shape: no service serves that model
    ├── BadRequest            400, OpenAI's error shape: no model can be read from the request
    │   └── BodyTooLarge      413: no model is looked for in so much
    ├── PredictorFailed       503 + Retry-After: it died, or could not be started, while held
    ├── PlaneStopping         503 + Retry-After: the plane is shutting down
    ├── PredictorUnreachable  502: connect refused or reset (A13)
    └── RequestTimedOut       504, text/plain `activator request timeout` (A2)
"""

import json
import math

from relume.base.errors import RelumeError

Header = tuple[bytes, bytes]
JSON: Header = (b"content-type", b"application/json")
TEXT: Header = (b"content-type", b"text/plain; charset=utf-8")


class ServingError(RelumeError):
    """An answer that the plane gives itself."""

    status = 500
    kind = "InternalServerError"
    retry_after_s: float | None = None
    param: str | None = None
    code: str | int | None = None

    @property
    def headers(self) -> list[Header]:
        """The answer's headers, without its length."""
        if self.retry_after_s is None:
            return [JSON]
        return [JSON, (b"retry-after", str(max(1, math.ceil(self.retry_after_s))).encode())]

    @property
    def body(self) -> bytes:
        """The answer's body: OpenAI's error shape with our `reason` beside it."""
        error = {
            "message": str(self),
            "type": self.kind,
            "param": self.param,
            "code": self.status if self.code is None else self.code,
        }
        return json.dumps({"error": error, "reason": self.reason}).encode()


class ServiceUnknown(ServingError):
    """Neither the Host nor the path names a service of this plane."""

    reason = "service-unknown"
    status = 404

    @property
    def headers(self) -> list[Header]:
        return [TEXT]

    @property
    def body(self) -> bytes:
        return f"{self}\n".encode()


class ModelUnknown(ServingError):
    """No service of this plane serves the model that the request names."""

    reason = "model-unknown"
    status = 404
    kind = "NotFoundError"
    param = "model"
    code = "model_not_found"


class BadRequest(ServingError):
    """The request names no model in a form that can be read."""

    reason = "bad-request"
    status = 400
    kind = "BadRequestError"


class BodyTooLarge(BadRequest):
    """The body is larger than what is read to find the model."""

    reason = "body-too-large"
    status = 413


class PredictorFailed(ServingError):
    """The predictor that the request waited for died or could not be started."""

    reason = "predictor-failed"
    retryable = True
    status = 503
    kind = "ServiceUnavailableError"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


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


class RequestTimedOut(ServingError):
    """Waiting and answering took longer than the service's timeout (checklist A2, A3)."""

    reason = "timed-out"
    retryable = True
    status = 504

    def __init__(self) -> None:
        super().__init__("activator request timeout")

    @property
    def headers(self) -> list[Header]:
        return [TEXT]

    @property
    def body(self) -> bytes:
        return str(self).encode()
