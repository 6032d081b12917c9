"""To and from events of the CloudEvents SDK: 1.x (`cloudevents.http`), 2.x (`cloudevents.core`).

The SDK is no dependency: it is imported only when an event is made for it, and must be installed.
"""

import importlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Protocol, cast

from relume.cloudevents.event import CloudEvent, InvalidEvent, encoded, is_json
from relume.cloudevents.json_format import upgraded


class SdkEvent(Protocol):
    """What the events of both major versions have in common."""

    def get_attributes(self) -> Mapping[str, object]: ...

    def get_data(self) -> object: ...


def to_sdk_1(event: CloudEvent) -> SdkEvent:
    """A `cloudevents.http.CloudEvent`, also where 2.x is installed, which keeps it aside.

    Data stays bytes, which every writer of the SDK passes on untouched. Raises ImportError.
    """
    try:
        module = importlib.import_module("cloudevents.http")
    except ModuleNotFoundError:
        module = importlib.import_module("cloudevents.v1.http")
    made = module.CloudEvent(dict(event.attributes), event.data)
    if "time" not in event.attributes:
        del made["time"]  # the SDK makes one up
    return cast(SdkEvent, made)


def to_sdk_2(event: CloudEvent) -> SdkEvent:
    """A `cloudevents.core.v1.event.CloudEvent`. Data stays bytes.

    Its time is a datetime: what is below a microsecond is lost. Raises InvalidEvent for a leap
    second, which no datetime holds, and ImportError.
    """
    module = importlib.import_module("cloudevents.core.v1.event")
    attributes: dict[str, object] = dict(event.attributes)
    if event.time is not None:
        try:
            attributes["time"] = datetime.fromisoformat(event.time.upper())
        except ValueError:
            raise InvalidEvent(f"time: {event.time} does not fit a datetime") from None
    made = cast(SdkEvent, module.CloudEvent(attributes, event.data))
    if event.time is None:
        attributes.pop("time")  # the SDK makes one up, and keeps the caller's dict
    return made


def from_sdk(event: SdkEvent) -> CloudEvent:
    """The event that an event of either version stands for; version 0.3 becomes 1.0.

    Bytes stay as they are. A string is the data's text, or a JSON string under a JSON type (JSON
    format §3.1.1); any other value is written as JSON. Raises InvalidEvent.
    """
    given = {name: value for name, value in event.get_attributes().items() if value is not None}
    attributes = upgraded(given)
    data = event.get_data()
    if data is None or isinstance(data, bytes | bytearray | memoryview):
        return CloudEvent.create(attributes, None if data is None else bytes(data))
    media_type = str(attributes.setdefault("datacontenttype", "application/json"))
    try:
        if not isinstance(data, str) or is_json(media_type):
            data = json.dumps(data, ensure_ascii=False, allow_nan=False)
        return CloudEvent.create(attributes, encoded(data, media_type))
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise InvalidEvent(f"data: does not fit {media_type!r}: {error}") from None
