"""The request that `relume jobs submit` sends, made of a file or of options."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relume.cli.errors import BadUsage
from relume.cli.inputs import read
from relume.cli.machine.reports import QueueReport

CHAT = "/v1/chat/completions"
_KINDS = {"messages": CHAT, "prompt": "/v1/completions"}
_KINDS |= {"input": "/v1/embeddings", "inputs": "/v2/models/{name}/infer"}
_KINDS |= {"instances": "/v1/models/{name}:predict"}


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What is asked of which service; `route` is the path at the predictor.

    Without a `service` the model in the body names it.
    """

    service: str | None
    route: str
    body: bytes

    @property
    def path(self) -> str:
        """The path at the plane or gateway."""
        where = "/openai" if self.service is None else f"/serving/{self.service}"
        return f"{where}{self.route}"


def body_of(file: Path | None, chat: str | None, max_tokens: int | None) -> bytes:
    """The body in a file, or a chat with one message. Raises BadUsage."""
    if (file is None) == (chat is None):
        raise BadUsage("name a FILE with the request's JSON, or ask with --chat TEXT (not both)")
    if file is not None:
        if max_tokens is not None:
            raise BadUsage("--max-tokens belongs to --chat; write max_tokens into the file")
        name = "standard input" if str(file) == "-" else str(file)
        body = read(file, name)
        _object_in(body, name)
        return body
    request: dict[str, object] = {"messages": [{"role": "user", "content": chat}], "stream": True}
    if max_tokens is not None:
        request["max_tokens"] = max_tokens
    return json.dumps(request).encode()


def _object_in(body: bytes, name: str) -> Mapping[str, Any]:
    """The JSON object in a body that messages call `name`. Raises BadUsage."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadUsage(f"{name}: not JSON: {error}") from None
    if not isinstance(told, Mapping):
        raise BadUsage(f"{name}: write a JSON object with what the route takes, such as messages")
    return told


def request_for(
    body: bytes, queues: Mapping[str, QueueReport], service: str | None, route: str | None
) -> JobRequest:
    """The request with its service and its route, which without `route` follows from its fields.

    Raises BadUsage.
    """
    told = _object_in(body, "the request")
    service = _choose_service(queues, service, told.get("model"))
    if route is None:
        kind = next((path for field, path in _KINDS.items() if field in told), None)
        if kind is None:
            fields = ", ".join(_KINDS)
            raise BadUsage(f"the request has none of {fields}: name its route with --route")
        route = kind.format(name=(service or str(told.get("model"))).rpartition("/")[2])
    if not route.startswith("/") or not route.isascii() or not route.isprintable() or " " in route:
        raise BadUsage(f"--route {route}: write a path such as {CHAT}")
    if service is None and not route.startswith("/v1/"):
        raise BadUsage(f"{route} does not find its service by a model: name it with --service")
    return JobRequest(service, route, body)


def _choose_service(
    queues: Mapping[str, QueueReport], wanted: str | None, model: object
) -> str | None:
    """The service by `NS/NAME` (or NAME in `default`), or the only one. Raises BadUsage.

    None: of several, the server finds it by the model in the request. A gateway may serve services
    that it was not told of, so that a name that is given is taken.
    """
    if wanted is not None:
        return full_name(wanted)
    if len(queues) == 1:
        return next(iter(queues))
    if queues and isinstance(model, str) and model:
        return None
    names = ", ".join(sorted(queues)) or "none that it knows by name"
    raise BadUsage(f"name a model in the request, or choose a service with --service: {names}")


def full_name(service: str) -> str:
    """`NAMESPACE/NAME`. Raises BadUsage."""
    namespace, slash, name = service.rpartition("/")
    found = f"{namespace if slash else 'default'}/{name}"
    if not all(each and _is_label(each) for each in found.split("/")) or found.count("/") != 1:
        raise BadUsage(f"{service!r} is no service: write NAMESPACE/NAME, or NAME in default")
    return found


def _is_label(text: str) -> bool:
    return text.isascii() and text.replace("-", "").replace(".", "").isalnum()


def headers_for(
    *,
    key: str | None,
    priority: str | None,
    queue_timeout: str | None,
    start_timeout: str | None,
    run_timeout: str | None,
    keep: str | None,
    max_attempts: int | None,
    wait_s: int | None,
) -> dict[str, str]:
    """The headers of a request that asks for a job. Raises BadUsage."""
    prefer = "respond-async" if wait_s is None else f"respond-async, wait={wait_s}"
    every = {
        "Idempotency-Key": key,
        "Relume-Priority": priority,
        "Relume-Queue-Timeout": queue_timeout,
        "Relume-Start-Timeout": start_timeout,
        "Relume-Run-Timeout": run_timeout,
        "Relume-Keep": keep,
        "Relume-Max-Attempts": None if max_attempts is None else str(max_attempts),
    }
    given = {name: value for name, value in every.items() if value is not None}
    for name, value in given.items():
        if not (value.isascii() and value.isprintable() and value.strip()):
            raise BadUsage(f"{name} {value!r}: write printable ASCII characters")
    return {"Content-Type": "application/json", "Prefer": prefer} | given
