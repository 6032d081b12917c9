"""The planes of the trial, one after the other on one state folder, looked at from outside."""

import json
import os
import shutil
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import psutil

from relume.runtimes.models.store import ModelStore, default_root
from tests.e2e.planes import Plane
from tests.function.conftest import ALL
from tests.kills import manifests, processes
from tests.kills.sink import Sink

#: What may lie in a state folder while no plane writes.
KEPT = {
    *("coldstarts.jsonl", "files", "lock", "logs", "mounts", "nats", "plane.json", "secret"),
    "sockets",
    "up.log",  # what the trial itself writes there
}
_KEPT_OF_NATS = {"lock", "nats.conf", "nats.log", "store"}
#: The kinds of services in each group of planes.
GROUPS: dict[str, tuple[str, ...]] = {
    "all": ("process", "template", manifests.FUNCTION),
    "engine": ("engine",),
}


class Stage:
    """One plane at a time. `plane` is the one that runs."""

    def __init__(self, folder: Path, environments: Path) -> None:
        """environments: a store in which the environment of the function is made."""
        self.folder = folder
        self.state = folder / "state"
        self.state.mkdir()
        self.gate = folder / "gate"
        self.sink = Sink()
        self.plane: Plane
        self.group = ""
        self._running: AbstractContextManager[Plane] | None = None
        # A short name, so that the folder of sockets is made in it.
        self.temporary = Path(tempfile.mkdtemp(prefix="rk-", dir="/tmp"))
        self._old = {name: os.environ.get(name) for name in ("RELUME_HOME", "TMPDIR")}
        home = folder / "home"
        home.mkdir()
        (home / "models").symlink_to(default_root())
        (home / "functions").symlink_to(environments)
        os.environ |= {"RELUME_HOME": str(home), "TMPDIR": str(self.temporary)}
        assert ModelStore(default_root()).root == home / "models"
        self._function = shutil.copytree(ALL, folder / manifests.FUNCTION)
        func = self._function / "func.yaml"
        func.write_text(func.read_text().replace("name: all", f"name: {manifests.FUNCTION}"))
        manifests.write_code(self._function)

    def close(self) -> None:
        self.stop()
        self.sink.close()
        for name, value in self._old.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        shutil.rmtree(self.temporary, ignore_errors=True)

    def up(self, group: str) -> Plane:
        """The plane of that group; it is started where another one runs, or none any more."""
        if self.group != group or self._running is None or self.plane.process.poll() is not None:
            self.stop()
            kinds = GROUPS[group]
            files = [manifests.write(self.folder, self.sink.url, kinds, self.gate)]
            if manifests.FUNCTION in kinds:
                files.append(self._function)
            self._running = Plane.up(*files, state=self.state)
            self.plane = self._running.__enter__()
            self.group = group
        return self.plane

    def stop(self) -> None:
        """Stop the plane, if one runs."""
        running, self._running = self._running, None
        if running is not None:
            running.__exit__(None, None, None)

    def at_zero(self, kind: str) -> str:
        """A service of that kind that is at zero."""
        found: list[str] = []

        def any_at_zero() -> bool:
            there = {s["name"]: s["state"] for s in self.plane.status()["serving"]["services"]}
            names = manifests.KINDS.get(kind, (kind,))
            # One that failed is not looked at again before it was ready once more.
            found[:] = [name for name in names if there.get(name) == "zero"]
            return bool(found)

        assert processes.until(any_at_zero, 90, 0.1), f"no service of kind {kind} goes to zero"
        return found[0]

    def is_ready(self, kind: str, parent: int | None = None) -> str | None:
        """A service of that kind, and forked by that process, that is ready and idle."""
        for service in self.plane.status()["serving"]["services"]:
            named = service["name"] in manifests.KINDS.get(kind, (kind,))
            idle = service["state"] == "ready" and not service["in_flight"] + service["held"]
            forked = parent is None or set(service["pids"]) <= set(processes.children(parent))
            if named and idle and forked:
                return str(service["name"])
        return None

    def pid_of(self, process: str, service: str) -> int | None:
        """The pid of a process of the plane by its name; None where there is none now."""
        plane = self.plane.process.pid
        match process:
            case "plane":
                return plane
            case "nats-server":
                names = ((psutil.Process(pid).name(), pid) for pid in processes.children(plane))
                return next((pid for name, pid in names if name == "nats-server"), None)
            case "template":
                pid: int | None = self.plane.status()["template"]["pid"]
                return pid
            case "model template":
                engines = self.plane.status()["template"]["engines"]
                return engines[0]["pid"] if engines else None
        pids = self.plane.service(service)["pids"]
        if process in ("API server", "function") or not pids:
            return pids[0] if pids else None
        gatekeeper, core = processes.gatekeeper_and_core(pids[0])
        return gatekeeper if process == "gatekeeper" else core

    def strangers(self) -> list[str]:
        """What lies in the state folder and in the folder for temporary files, and is no plane's.

        Sockets are in a folder of the plane that runs.
        """
        found = {each.name for each in self.state.iterdir()} - KEPT
        found |= {each.name for each in (self.state / "nats").iterdir()} - _KEPT_OF_NATS
        found |= {str(each) for each in self.state.rglob("*.new")}
        found |= {str(each) for each in self.state.rglob("*.sock")}
        mine = {Path(socket).parent.name for socket in self._sockets()}
        return sorted(found | ({each.name for each in self.temporary.iterdir()} - mine))

    def _sockets(self) -> set[str]:
        """The Unix sockets and folders of sockets that the plane's processes use."""
        found: set[str] = set()
        for each in processes.family(self.plane.process.pid):
            words = processes.command(each.pid).split()
            found |= {word for word in words if word.endswith(".sock")}
        folders = [each for each in self.temporary.iterdir() if each.name.startswith("relume-")]
        if self.plane.process.poll() is None and not found and folders:
            newest = max(folders, key=lambda each: each.stat().st_mtime)
            found.add(str(newest / "any.sock"))
        return found

    def answer_of_job(self, job_id: str) -> dict[str, Any] | None:
        """A job, once it is settled."""
        try:
            answer = httpx.get(f"{self.plane.http}/v1/jobs/{job_id}", timeout=30, trust_env=False)
        except httpx.HTTPError:
            return None
        if answer.status_code != 200:
            return None
        job: dict[str, Any] = json.loads(answer.text)
        return job if job["settled_at"] is not None else None
