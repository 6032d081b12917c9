"""Numbers in environment variables."""

import math
import os
from collections.abc import Mapping

from relume.base.errors import InvalidInput


def number(name: str, default: float, environment: Mapping[str, str] = os.environ) -> float:
    """The number that a variable holds, not below 0. Raises InvalidInput, which names it."""
    text = environment.get(name)
    if text is None:
        return default
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise InvalidInput(f"{name}={text} is not a number that can be used; write {default:g}")
    return found


def port(name: str, default: int, environment: Mapping[str, str] = os.environ) -> int:
    """The port that a variable holds. Raises InvalidInput, which names it."""
    text = environment.get(name, str(default))
    if text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) <= 65535:
        return int(text)
    raise InvalidInput(f"{name}={text} is not a port; write a number up to 65535")
