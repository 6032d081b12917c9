"""Where the plane's CPU time goes, by layer, from a profile that cProfile wrote."""

import pstats
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

_Place = tuple[str, int, str]  # file, line, function
_BUILTIN = "~"
_START = "start"


def layers(profile: Path, events: int, at_least_us: float = 3.0) -> Mapping[str, float]:
    """Microseconds of an event in each package or module of ours, the most first.

    A profiler makes calls dearer than they are, so only the proportions are of use. What C code
    takes is counted where it was called from; importing modules is left out.
    """
    found: defaultdict[str, float] = defaultdict(float)
    stats: Mapping[_Place, tuple[int, int, float, float, Mapping[_Place, tuple[float, ...]]]]
    stats = pstats.Stats(str(profile)).stats  # type: ignore[attr-defined]
    for (file, _, _), (_, _, own_s, _, callers) in stats.items():
        if file != _BUILTIN:
            found[_layer(file)] += own_s
            continue
        known = sum(times[2] for times in callers.values()) or 1.0
        for (caller, _, _), times in callers.items():
            found[_layer(caller)] += own_s * times[2] / known
    per_event = {name: seconds * 1e6 / events for name, seconds in found.items()}
    most_first = sorted(per_event.items(), key=lambda each: -each[1])
    return {name: us for name, us in most_first if us >= at_least_us and name != _START}


def _layer(file: str) -> str:
    if file == _BUILTIN:
        return "C"
    if file.endswith("asyncio/runners.py"):
        return "uvloop"
    if "importlib" in file:
        return _START
    if "/site-packages/" in file:
        return file.split("/site-packages/")[1].split("/")[0]
    if "/relume/" in file:
        return "relume." + file.rpartition("/relume/")[2].removesuffix(".py").replace("/", ".")
    return "Python"
