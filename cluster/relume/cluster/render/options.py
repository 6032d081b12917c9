"""The choices that a user has when rendering."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from relume.base.errors import InvalidInput

DeviceRoute = Literal["extended-resource", "admission", "standard"]
BrokerClass = Literal["kafka", "rabbitmq", "nats", "mt"]
ROUTES: tuple[DeviceRoute, ...] = ("extended-resource", "admission", "standard")
BROKERS: tuple[BrokerClass, ...] = ("kafka", "rabbitmq", "nats", "mt")

#: Seconds from no replica to a ready one, where the user names no budget. With KServe's 300 s for
#: the answer this makes 600 s, the longest timeout that an unchanged Knative allows.
DEFAULT_COLD_START_S = 300
LONGEST_COLD_START_S = 3600

_DIGEST = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")
_TAGGED = re.compile(r"[^@\s]+:[\w][\w.-]{0,127}")


@dataclass(frozen=True, slots=True)
class Images:
    """The image of each runtime, by the runtime's name; `every` is for those without one."""

    by_runtime: Mapping[str, str] = field(default_factory=dict)
    every: str | None = None

    def image_of(self, runtime: str) -> str | None:
        """The image that was chosen for `runtime`."""
        return self.by_runtime.get(runtime, self.every)


@dataclass(frozen=True, slots=True)
class Options:
    """`broker` None leaves each Broker the class that it names, or the cluster's default."""

    route: DeviceRoute = "extended-resource"
    broker: BrokerClass | None = None
    cold_start_s: int = DEFAULT_COLD_START_S
    images: Images = Images()


class ImageNotPinned(InvalidInput):
    """An image is named by something that can change."""

    reason = "image-without-digest"


def check_image(image: str, *, allow_tags: bool) -> str:
    """The image, if it is pinned by its digest (or has a tag, where tags are allowed).

    A tag can mean another image tomorrow, and KServe rewrites tags: it appends `-gpu`, or puts
    `-cpu` behind the repository, by what it takes for a GPU (kserve UpdateImageTag).
    """
    if _DIGEST.fullmatch(image) or (allow_tags and _TAGGED.fullmatch(image)):
        return image
    hint = "" if allow_tags else "; --allow-tags takes a tag"
    raise ImageNotPinned(
        f"image {image}: name it by its digest, REPOSITORY@sha256: and 64 hex digits in lower"
        f" case, as the registry told when it was pushed{hint}"
    )
