"""What of some data does not fit a JSON Schema, told without repeating the data itself.

The messages of the jsonschema library quote the value, which may be personal or very long.
"""

from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

_MOST_TOLD = 5


def misfits(data: object, validator: Draft202012Validator) -> list[str]:
    """One line for each error, at most five, in the order of the paths. Empty: it fits."""
    try:
        errors = sorted(validator.iter_errors(data), key=lambda error: list(map(str, error.path)))
    except RecursionError:
        return ["data: is nested too deeply"]
    return [_line(error) for error in errors[:_MOST_TOLD]]


def _line(error: ValidationError) -> str:
    where = ".".join(["data", *map(str, error.path)])
    rule: Any = error.validator
    if rule == "required" and isinstance(error.instance, dict):
        missing = [name for name in error.validator_value if name not in error.instance]
        return f"{where}: {', '.join(missing)} is missing"
    if rule == "additionalProperties":
        return f"{where}: has fields that the schema does not know"
    return f"{where}: does not fit {rule} {_short(error.validator_value)}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 200 else text[:200] + "…"
