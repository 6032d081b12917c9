"""In which stage of an event's way a sampled stack was: a table of places, and their counting."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

#: (file, function), the innermost first, and how often it was seen.
Stack = tuple[int, Sequence[tuple[str, str]]]

#: A place reads `module:function`. The innermost frame that is in here decides; what others share,
#: such as the standard library and nats-py's publish, counts for whoever called it.
STAGES: Sequence[tuple[str, str]] = (
    ("reply", r"relume\.eventing\.delivery\.courier:Subscribers\._outcome"),
    ("reply", r"relume\.eventing\.delivery\.(decision|outcome):"),
    ("client HTTP", r"relume\.eventing\.delivery\.(connections|answer):"),
    ("client HTTP", r"(aiohttp|yarl|multidict|propcache|aiosignal)[.:]"),
    ("client HTTP", r"relume\.eventing\.delivery\.courier:Subscribers"),
    ("codec", r"relume\.cloudevents\."),
    ("codec", r"relume\.eventing\.(envelope|header_room):"),
    ("filter", r"relume\.(eventing\.filters|cesql[.\w]*):"),
    ("filter", r"relume\.eventing\.delivery\.route:Route\.wanted"),
    ("observer", r"relume\.eventing\.observer:"),
    ("observer", r"relume\.eventing\.delivery\.route:Journal"),
    (
        "ack",
        r"relume\.eventing\.jetstream\.store:(Requests\._(on|hand|expire)|_answered|stored_by)",
    ),
    ("store", r"relume\.eventing\.jetstream\.(store|log|streams):"),
    ("settle", r"relume\.eventing\.jetstream\.cursor:(JetStreamLeasedEvent\.settle|.*\.tell)"),
    ("fetch", r"relume\.eventing\.jetstream\.cursor:"),
    ("fetch", r"relume\.eventing\.delivery\.dispatcher:Dispatcher\.(_fetch|_take)"),
    ("dispatch", r"relume\.eventing\.delivery\."),
    ("ingress HTTP", r"(uvicorn|httptools|starlette|anyio)[.:]"),
    ("ingress HTTP", r"relume\.(web|plane)[.:]"),
    ("ingress HTTP", r"relume\.eventing\.(ingress|upload|intake|refusals|producer_headers):"),
    ("ingress HTTP", r"relume\.eventing\.(request_reply|registry\.documents):"),
)
_COMPILED = [(stage, re.compile(place)) for stage, place in STAGES]
#: Only where nobody of ours called: nats-py's own tasks, which serve several stages at once.
_SHARED = (
    ("nats-py reads acks and events", re.compile(r"nats\..*:.*(_read_loop|_wait_for_msgs)")),
    ("nats-py writes", re.compile(r"nats\..*:.*_flusher")),
    ("nats-py, other", re.compile(r"nats\.")),
)
# A module that has no stage yet is shown by its name. The command is below every stack, and what
# all packages share says nothing.
_OURS = re.compile(r"relume\.(?!(cli|base)\b)")
_REST = "event loop and the rest"


def stage_of(stack: Sequence[tuple[str, str]]) -> str:
    """The stage of a stack, the innermost frame first."""
    places = [f"{_module(file)}:{function}" for file, function in stack]
    for place in places:
        for stage, pattern in _COMPILED:
            if pattern.match(place):
                return stage
    for stage, pattern in _SHARED:
        if any(map(pattern.match, places)):
            return stage
    modules = (place.partition(":")[0] for place in places)
    return next((each for each in modules if _OURS.match(each)), _REST)


def shares(stacks: Iterable[Stack]) -> Mapping[str, float]:
    """Each stage's share of the samples, the largest first."""
    counted: Counter[str] = Counter()
    for count, stack in stacks:
        counted[stage_of(stack)] += count
    total = counted.total()
    return {stage: count / total for stage, count in counted.most_common()}


def places(stacks: Iterable[Stack], most: int = 20) -> Mapping[str, float]:
    """The share of each function in which the samples were, those of C code with their caller."""
    counted: Counter[str] = Counter()
    for count, stack in stacks:
        file, function = stack[0]
        counted[f"{_module(file)}:{function}"] += count
    total = counted.total()
    return {place: count / total for place, count in counted.most_common(most)}


def _module(file: str) -> str:
    for root in ("/site-packages/", "/relume/"):
        _, found, path = file.rpartition(root)
        if found:
            name = path.removesuffix(".py").replace("/", ".")
            return name if root == "/site-packages/" else f"relume.{name}"
    return Path(file).stem
