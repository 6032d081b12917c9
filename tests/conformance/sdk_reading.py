"""How the SDK that is installed here reads the probes; a program that prints JSON.

The output is its version and, per probe, an error's name, the attributes with the data, or the
headers with the body where the probe asks for the event to be written again.
"""

import base64
import importlib
import importlib.metadata
import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tests.conformance.probes import PROBES, Probe

Message = tuple[dict[str, str], bytes]

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")


def sdk_1() -> tuple[Callable[[Message], Any], Callable[[Any, str], Message]]:
    http = importlib.import_module("cloudevents.http")
    conversion = importlib.import_module("cloudevents.conversion")

    def write(event: Any, mode: str) -> Message:
        headers, body = getattr(conversion, f"to_{mode}")(event)
        return headers, body.encode() if isinstance(body, str) else body or b""

    return lambda message: http.from_http(*message), write


def sdk_2() -> tuple[Callable[[Message], Any], Callable[[Any, str], Message]]:
    http = importlib.import_module("cloudevents.core.bindings.http")

    def write(event: Any, mode: str) -> Message:
        message = getattr(http, f"to_{mode}_event")(event)
        return message.headers, message.body

    return lambda message: http.from_http_event(http.HTTPMessage(*message)), write


def text(value: object) -> str:
    """An attribute; what the SDK made up is the same in every run."""
    if isinstance(value, bool):
        return str(value).lower()
    if _UUID.fullmatch(str(value)):
        return "(made up)"
    try:
        time = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        if abs((datetime.now(UTC) - time).total_seconds()) < 3600:
            return "(now)"
    except (TypeError, ValueError):
        pass
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)


def reading(probe: Probe) -> dict[str, Any]:
    read, write = sdk_1() if VERSION.startswith("1.") else sdk_2()
    try:
        event = read((dict(probe.headers), probe.body))
        if probe.write is not None:
            headers, body = write(event, probe.write)
            return {"headers": headers, "body": base64.b64encode(body).decode()}
        data = event.get_data()
        attributes = {k: text(v) for k, v in event.get_attributes().items() if v is not None}
    except Exception as error:  # noqa: BLE001 - whatever its users would have to catch
        return {"error": type(error).__name__}
    if isinstance(data, bytes):
        return {"attributes": attributes, "bytes": base64.b64encode(data).decode()}
    return {"attributes": attributes, "data": data}


if __name__ == "__main__":
    VERSION = importlib.metadata.version("cloudevents")
    json.dump([VERSION, [reading(probe) for probe in PROBES]], sys.stdout)
