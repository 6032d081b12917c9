"""Probes in every Python process of a plane, from outside: Python imports this file as it starts.

    PYTHONPATH=loadtests/event_probe EVENT_PROBE=samples EVENT_PROBE_FOLDER=… relume up …

`samples` notes the stack each time the process has used a little more CPU time. `moments` notes
when an event passes the functions in PASSES. A function that a checkout does not have is left
out, so the names of several checkouts may stand there together. On SIGUSR1 a process writes what
it has noted to FOLDER/PID.json and begins anew. FOLDER/PID.ready says that it can.
"""

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

_SAMPLE_S = 0.001  # of CPU time; the kernel rounds it up to its own tick
_DEEPEST = 60


@dataclass(frozen=True)
class Pass:
    """A moment: when `function` (Class.method) of `module` is called, or when it returns."""

    moment: str
    module: str
    function: str
    number: Callable[..., Any]
    """The event's number from the arguments; None: not an event of the benchmark."""
    at_return: bool = False


def _of_scope(_: Any, scope: Any, *__: Any) -> Any:
    return next((value for name, value in scope["headers"] if name == b"ce-id"), None)


def _of_append(_: Any, __: Any, envelope: Any, *___: Any) -> Any:
    return envelope.event.id


def _of_flight(_: Any, flight: Any) -> Any:
    number = flight.envelope.event.id
    if (came := _came.pop(flight.leased.sequence, None)) is not None:
        _moments.append(("came", int(number), came))
    return number


def _of_post(_: Any, __: Any, envelope: Any, **___: Any) -> Any:
    return envelope.event.id


def _of_leased(_: Any, leased: Any) -> None:
    """The event is not decoded yet: keep the moment by its place in the log."""
    _came[leased.sequence] = time.monotonic()


_STORE, _CURSOR = "relume.eventing.jetstream.store", "relume.eventing.jetstream.cursor"
PASSES = (
    Pass("read", "relume.eventing.ingress", "Ingress.__call__", _of_scope),
    Pass("publish", _STORE, "JetStreamStore.append", _of_append),
    Pass("stored", _STORE, "JetStreamStore.append", _of_append, at_return=True),
    Pass("came", _CURSOR, "JetStreamCursor._on_event", _of_leased),
    Pass("taken", "relume.eventing.delivery.dispatcher", "Dispatcher._fly", _of_flight),
    Pass("post", "relume.eventing.delivery.courier", "Subscribers.post", _of_post),
)

_came: dict[int, float] = {}
_moments: list[tuple[str, int, float]] = []
_stacks: Counter[tuple[CodeType, ...]] = Counter()
_writing = False


def _note(each: Pass, args: tuple[Any, ...], named: dict[str, Any]) -> None:
    # Not an event of the benchmark, or other arguments than in the checkouts that are known here:
    # a probe must not break the plane that it watches. A moment that is never noted is reported.
    with contextlib.suppress(Exception):
        number = each.number(*args, **named)
        if number is not None:
            _moments.append((each.moment, int(number), time.monotonic()))


def _at_call(each: Pass, original: Callable[..., Any]) -> Callable[..., Any]:
    def noting(*args: Any, **named: Any) -> Any:
        _note(each, args, named)
        return original(*args, **named)

    return noting


def _at_return(each: Pass, original: Callable[..., Any]) -> Callable[..., Any]:
    async def noting(*args: Any, **named: Any) -> Any:
        found = await original(*args, **named)
        _note(each, args, named)
        return found

    return noting


def _attach(module: ModuleType) -> None:
    for each in PASSES:
        if each.module != module.__name__:
            continue
        owner, _, name = each.function.partition(".")
        original = getattr(getattr(module, owner, None), name, None)
        if original is None:
            continue
        wrap = _at_return if each.at_return else _at_call
        setattr(getattr(module, owner), name, wrap(each, original))


class _Attaching(importlib.abc.Loader):
    """Loads a module as its own loader does, then puts the probes into it."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _attach(module)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of PASSES as the other finders do."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not any(each.module == name for each in PASSES):
            return None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(name, path, target)) is not None:
                if spec.loader is not None:
                    spec.loader = _Attaching(spec.loader)
                return spec
        return None


def _sample(_: int, frame: FrameType | None) -> None:
    if _writing:
        return
    codes: list[CodeType] = []
    while frame is not None and len(codes) < _DEEPEST:
        codes.append(frame.f_code)
        frame = frame.f_back
    _stacks[tuple(codes)] += 1


def _write(*_: object) -> None:
    global _moments, _stacks, _writing
    _writing = True
    # Another signal may come in the middle of this one.
    (counted, _stacks), (moments, _moments) = (_stacks, Counter()), (_moments, [])
    stacks = [
        (count, [(code.co_filename, code.co_qualname) for code in codes])
        for codes, count in counted.items()
    ]
    found = {"stacks": stacks, "moments": moments}
    path = _folder / f"{os.getpid()}.json"
    path.with_suffix(".part").write_text(json.dumps(found))
    path.with_suffix(".part").rename(path)
    _writing = False


if _how := os.environ.get("EVENT_PROBE"):
    _folder = Path(os.environ["EVENT_PROBE_FOLDER"])
    signal.signal(signal.SIGUSR1, _write)
    if _how == "samples":
        signal.signal(signal.SIGPROF, _sample)
        signal.setitimer(signal.ITIMER_PROF, _SAMPLE_S, _SAMPLE_S)
    else:
        sys.meta_path.insert(0, _Finder())
    (_folder / f"{os.getpid()}.ready").touch()
