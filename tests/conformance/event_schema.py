"""The JSON event format as a JSON Schema of our own, written from the specification.

Sources: CloudEvents 1.0.2, "Context Attributes" and "Type System"; JSON event format 1.0.2, §2
(attributes, of which null is an unset one) and §3.1 (`data` or `data_base64`). It is stricter than
the schema that is published with the specification: it also says what an extension may be.
"""

from typing import Any

_TEXT = {"type": "string", "minLength": 1}
_OPTIONAL_TEXT = {"type": ["string", "null"], "minLength": 1}

EVENT_SCHEMA: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": _TEXT,
        "source": {**_TEXT, "format": "uri-reference"},
        "type": _TEXT,
        "datacontenttype": _OPTIONAL_TEXT,
        "dataschema": {**_OPTIONAL_TEXT, "format": "uri"},
        "subject": _OPTIONAL_TEXT,
        "time": {**_OPTIONAL_TEXT, "format": "date-time"},
        "data": True,
        "data_base64": {"type": ["string", "null"], "pattern": "^[A-Za-z0-9+/]*={0,2}$"},
    },
    # Every other member is an extension: a string, a 32-bit integer or a boolean.
    "additionalProperties": {
        "type": ["string", "integer", "boolean", "null"],
        "minimum": -(2**31),
        "maximum": 2**31 - 1,
    },
    "propertyNames": {"pattern": "^([a-z0-9]+|data_base64)$"},
    "not": {
        "required": ["data", "data_base64"],
        "properties": {"data_base64": {"type": "string"}},
    },
}
