"""The generated parts of cluster/CLAIMS.md: each command is run and its output put in its place.

python -m tests.cluster.claims.written        write cluster/CLAIMS.md
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from click.testing import CliRunner

from relume.cli.main import group
from relume.cluster.claims import documents
from relume.cluster.claims.claim import Ask
from relume.cluster.claims.classes import Classes
from relume.cluster.claims.inventory import build
from relume.cluster.claims.matching import Matcher
from relume.cluster.claims.presets import PRESETS

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "cluster" / "CLAIMS.md"
INVENTORIES = sorted((Path(__file__).parent / "inventories").glob("*.yaml"))
_BLOCK = re.compile(r"```console\n\$ (relume claims [^\n]*)\n.*?```", re.DOTALL)
_TABLE = re.compile(r"<!-- presets -->\n.*?<!-- end -->", re.DOTALL)


def current(text: str) -> str:
    """The page with every generated part made again."""
    text = _BLOCK.sub(lambda found: f"```console\n$ {found[1]}\n{run(found[1])}```", text)
    return _TABLE.sub(lambda _: f"<!-- presets -->\n{table()}<!-- end -->", text)


def run(command: str) -> str:
    """What the command prints, run in the root of the repository."""
    words = shlex.split(command)[1:]
    done = CliRunner().invoke(group, [_rooted(word) for word in words], catch_exceptions=False)
    return done.output.replace(f"{ROOT}/", "").rstrip() + "\n"


def table() -> str:
    """Which presets match which devices of the test inventories."""
    lines = ["| class | least memory | devices that match |", "|---|---|---|"]
    for preset in PRESETS.values():
        memory = f"{preset.floor} MiB" if preset.floor else "not published"
        lines.append(f"| `{preset.name}` | {memory} | {', '.join(matched(preset.name))} |")
    return "\n".join(lines) + "\n"


def matched(name: str) -> Iterator[str]:
    """The inventories with the number of their devices that the preset matches."""
    matcher = Matcher.of(Ask("gpu", name), Classes.of([]).by_name[name])
    for file in INVENTORIES:
        if file.stem == "mixed":
            continue
        pools = build(documents.read(file)).pools
        devices = [device for pool in pools for device in pool.devices]
        verdicts = [matcher.decide(device).verdict for device in devices]
        assert "error" not in verdicts, (name, file)
        if hits := verdicts.count("match"):
            yield f"{file.stem} {hits}/{len(devices)}"


def _rooted(word: str) -> str:
    return str(ROOT / word) if (ROOT / word).exists() and "/" in word else word


if __name__ == "__main__":
    PAGE.write_text(current(PAGE.read_text()))
