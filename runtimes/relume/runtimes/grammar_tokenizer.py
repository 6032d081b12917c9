"""The tokenizer that an engine core needs for grammars, loaded for the first request with one.

vLLM's server has a tokenizer of its own, and the engine core loads a second one at its start (0.2
s), which only requests with a structured answer use.
"""

import threading
from collections.abc import Callable
from functools import partial, wraps
from inspect import unwrap
from typing import Any

_LOAD = "cached_tokenizer_from_config"


def loaded_when_used(original: Callable[..., Any]) -> Callable[..., Any]:
    """vLLM's `StructuredOutputManager.__init__`, which does not load the tokenizer yet.

    Raises AttributeError where this release of vLLM loads it by another function.
    """
    names = unwrap(original).__globals__
    if _LOAD not in names:
        raise AttributeError(f"{original.__module__} has no {_LOAD}")

    @wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        load = names[_LOAD]
        type(self).tokenizer = _TOKENIZER
        names[_LOAD] = partial(_Unloaded, load)
        try:
            original(self, *args, **kwargs)
        finally:
            names[_LOAD] = load

    return init


class _Unloaded:
    """A tokenizer that has not been loaded, and how to."""

    def __init__(self, load: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._load = load
        self._args = args
        self._kwargs = kwargs

    def load(self) -> Any:
        return self._load(*self._args, **self._kwargs)


class _Tokenizer:
    """The attribute `tokenizer` of a manager of structured answers."""

    def __init__(self) -> None:
        self._loading = threading.Lock()

    def __get__(self, manager: Any, owner: type) -> Any:
        if manager is None:
            return self
        with self._loading:
            if "tokenizer" not in vars(manager):
                raise AttributeError("tokenizer")
            found = vars(manager)["tokenizer"]
            if isinstance(found, _Unloaded):
                found = vars(manager)["tokenizer"] = found.load()
            return found

    def __set__(self, manager: Any, value: Any) -> None:
        vars(manager)["tokenizer"] = value


_TOKENIZER = _Tokenizer()
