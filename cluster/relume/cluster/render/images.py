"""Which image each runtime has: from the command line, or from a file."""

from collections.abc import Sequence
from pathlib import Path

from relume.base.errors import InvalidInput
from relume.cluster.render.options import ImageNotPinned, Images, check_image
from relume.cluster.render.runtimes import RUNTIMES
from relume.config.fields import did_you_mean
from relume.config.yaml_source import documents

_NAMES = tuple(runtime.name for runtime in RUNTIMES)


def read_images(file: Path | None, chosen: Sequence[str], *, allow_tags: bool) -> Images:
    """The images of a file of `RUNTIME: IMAGE` lines, then those of `[RUNTIME=]IMAGE` arguments.

    Raises InvalidInput for a runtime that is not ours and an image without a digest.
    """
    by_runtime: dict[str, str] = {}
    for document in documents(file) if file is not None else ():
        for name, node in document.table():
            if name not in _NAMES:
                raise node.wrong(_unknown(name))
            try:
                by_runtime[name] = check_image(node.filled(), allow_tags=allow_tags)
            except ImageNotPinned as error:
                raise node.wrong(str(error)) from error
    every: str | None = None
    for argument in chosen:
        name, equals, image = argument.partition("=")
        if not equals:
            every = check_image(argument, allow_tags=allow_tags)
        elif name in _NAMES:
            by_runtime[name] = check_image(image, allow_tags=allow_tags)
        else:
            raise InvalidInput(f"--image {argument}: {_unknown(name)}", reason="no-such-runtime")
    return Images(by_runtime, every)


def _unknown(name: str) -> str:
    return f"no runtime has that name; ours are {', '.join(_NAMES)}{did_you_mean(name, _NAMES)}"
