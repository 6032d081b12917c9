"""A reader who types what a page says, in order, in a copy of the repository's examples.

The copy has `config/` and `functions/`. Two things differ from what is typed by hand. The ports
8080, 8081 and 9000 are replaced by free ones, in commands, in files and back again in what is
shown; and `relume up` gets these ports and a state folder of its own, so that nothing of the
machine's own plane is touched. Each block is a shell of its own in the same folder. One plane runs
at a time: before a page starts the next one, the last one gets the Ctrl-C that the page asks for.
"""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.docs.pages import ROOT, Block, steps
from tests.ports import own_port

# The folder with the CloudEvents SDK 2; the environment itself has SDK 1, which kserve needs.
SDK_2 = Path(sys.prefix) / "cloudevents-2"
PORTS = ("8080", "8081", "9000")
CLAIMS = "tests/cluster/claims"
COPIED = ("config", "functions", "docs/examples", f"{CLAIMS}/examples", f"{CLAIMS}/inventories")
#: The most seconds that one block may take, and a server may take to start.
BLOCK_S, START_S = 240, 90
_END = "@@ exit status"


class Differs(AssertionError):
    """A block did not do what its page says."""


class Reader:
    """One page's reader. `close` ends everything that the page has started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "copy"
        self.folder.mkdir()
        for name in COPIED:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, self.folder / name, ignore=ignored)
        self._state = folder / "state"
        self._log = folder / "output.log"
        ports = dict(zip(PORTS, (str(own_port()) for _ in PORTS), strict=True))
        self._ports: Mapping[str, str] = ports
        self._environment = self._environment_with(self.folder / ".venv" / "bin")
        self._running: list[subprocess.Popen[bytes]] = []
        self._plane: subprocess.Popen[bytes] | None = None

    def _environment_with(self, programs: Path) -> dict[str, str]:
        """The environment of every block; `relume` is found in `programs`."""
        programs.mkdir(parents=True)
        python = shlex.quote(sys.executable)
        up = f"--port {self._ports['8080']} --broker-port {self._ports['8081']}"
        relume = programs / "relume"
        relume.write_text(
            f'#!/bin/sh\n[ "$1" = up ] && set -- "$@" {up}\n'
            f'exec {python} -m relume.cli.main "$@"\n',
            encoding="utf-8",
        )
        relume.chmod(0o755)
        # A page that activates the environment has it already.
        (programs / "activate").touch()
        # On a terminal curl shows no progress.
        (programs / ".curlrc").write_text("silent\nshow-error\n", encoding="utf-8")
        folders = (str(programs), str(Path(sys.executable).parent), os.environ["PATH"])
        more = {"PATH": os.pathsep.join(folders), "RELUME_STATE": str(self._state)}
        more |= {"COLUMNS": "100", "NO_COLOR": "1", "CURL_HOME": str(programs)}
        unset = ("RELUME_URL", "RELUME_KEY", "KUBECONFIG", "FORCE_COLOR")
        kept = {name: value for name, value in os.environ.items() if name not in unset}
        return {**kept, **more}

    def read(self, block: Block) -> None:
        """Do what a block asks for. Raises Differs."""
        if block.mark == "file":
            path = self.folder / block.value
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.here(block.text) + "\n", encoding="utf-8")
        elif not block.is_run:
            return
        elif block.mark == "stays":
            self._start(block)
        elif block.language == "python":
            script = self.folder / "block.py"
            script.write_text(self.here(block.text), encoding="utf-8")
            python = shlex.join((f"PYTHONPATH={SDK_2}", sys.executable))
            self._run(block, f"env {python} block.py")
        elif block.language == "sh":
            self._run(block, f"set -e -o pipefail\n{block.text}")
        else:
            self._compare(block)

    def close(self) -> None:
        for process in (*self._running, *([self._plane] if self._plane else [])):
            _end(process)
        self._running, self._plane = [], None

    def here(self, text: str) -> str:
        """The text with the ports of this reader."""
        return _replaced(text, self._ports)

    def written(self, text: str) -> str:
        """The text with the ports that the pages name."""
        return _replaced(text, {here: page for page, here in self._ports.items()})

    # Running.

    def _shell(self, script: str, out: Path) -> subprocess.Popen[bytes]:
        with out.open("wb") as file:
            return subprocess.Popen(
                ["bash", "-c", self.here(script)],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _run(self, block: Block, script: str) -> str:
        process = self._shell(script, self._log)
        self._running.append(process)
        try:
            status = process.wait(BLOCK_S)
        except subprocess.TimeoutExpired:
            raise Differs(f"{block.place} took more than {BLOCK_S} s\n{self._shown()}") from None
        wanted = int(block.value) if block.mark == "exits" else 0
        if status != wanted:
            raise Differs(f"{block.place} exits with {status}, not {wanted}\n{self._shown()}")
        return self._shown()

    def _shown(self) -> str:
        return self.written(self._log.read_text(encoding="utf-8", errors="replace"))

    def _compare(self, block: Block) -> None:
        """Run the commands of a console block, and hold their output against the page."""
        said = steps(block.text)
        end = f"status=$?; printf '\\n{_END} %s\\n' $status"
        script = "\n".join(f"{command}\n{end}" for command, _ in said)
        output = self._run(block, f"set -o pipefail\n{script}\nexit $status")
        parts = re.split(rf"\n{_END} (\d+)\n", output)
        for (command, wanted), shown, status in zip(said, parts[::2], parts[1::2], strict=False):
            if status != "0" and (command, wanted) != said[-1]:
                raise Differs(f"{block.place}: {command}: exit status {status}\n{shown}")
            if wanted and not matches(wanted, shown):
                raise Differs(
                    f"{block.place}: {command}\nthe page shows\n{wanted}\nbut it is\n{shown}"
                )

    def _start(self, block: Block) -> None:
        """Start what runs until the page ends, and wait until it is ready."""
        log = self.folder.parent / f"line-{block.line}.log"
        if block.starts_a_plane:
            if self._plane is not None:
                _end(self._plane)
            process = self._plane = self._shell(f"exec {block.text.strip()}", log)
            ready: Callable[[], bool] = (self._state / "plane.json").exists
        else:
            process = self._shell(block.text, log)
            self._running.append(process)
            port = int(self._ports.get(block.value.removeprefix("port "), block.value[5:]))
            ready = lambda: _listens(port)  # noqa: E731
        until = time.monotonic() + START_S
        while not ready():
            if process.poll() is not None or time.monotonic() > until:
                raise Differs(f"{block.place} does not start\n{log.read_text(encoding='utf-8')}")
            time.sleep(0.1)


def matches(page: str, shown: str) -> bool:
    """Whether output is what a page shows; `...` stands for anything, on a line alone for lines."""
    pattern = ""
    for line in page.strip("\n").splitlines():
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*?".join(re.escape(part) for part in line.rstrip().split("...")) + "\n"
    text = "".join(line.rstrip() + "\n" for line in shown.strip("\n").splitlines())
    return re.fullmatch(pattern, text) is not None


def _replaced(text: str, ports: Mapping[str, str]) -> str:
    named = "|".join(ports)
    return re.sub(rf"(?<![\d.])({named})(?!\d)", lambda found: ports[found[1]], text)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ctrl-C for the process and its children; after a minute SIGKILL."""
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(60)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.poll()
