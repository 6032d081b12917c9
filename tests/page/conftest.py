"""A browser and a plane for the tests of the page.

Playwright is not among the locked dependencies: `make page-test` puts it where it is found. Without
it nothing here is collected.
"""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if importlib.util.find_spec("playwright") is None:
    collect_ignore_glob = ["test_*.py"]

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "build" / "page"
SUMMARIZE, CLASSIFY = "com.example.summarize.request", "com.example.classify.request"
SIZES = {"narrow": (400, 860), "wide": (1600, 1000)}


@dataclass
class Plane:
    """A running plane, and what a test does to it from outside."""

    http: str
    broker: str
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60, trust_env=False))

    def send(self, type_: str, text: str, *, broker: str = "inbox", **attributes: str) -> str:
        """Post an event whose data is a chat; returns its id."""
        given = {"id": uuid.uuid4().hex, "source": "/shop", "type": type_} | attributes
        event = {"specversion": "1.0", "datacontenttype": "application/json", **given}
        event["data"] = {"messages": [{"role": "user", "content": text}]}  # type: ignore[assignment]
        media_type = {"content-type": "application/cloudevents+json"}
        url = f"{self.broker}/default/{broker}"
        answer = self.client.post(url, content=json.dumps(event), headers=media_type)
        assert answer.status_code == 202, answer.text
        return given["id"]

    def submit(self, service: str, text: str) -> str:
        """Ask for a job; returns its id."""
        answer = self.client.post(
            f"{self.http}/serving/default/{service}/v1/chat/completions",
            json={"messages": [{"role": "user", "content": text}]},
            headers={"Prefer": "respond-async"},
        )
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def service(self, name: str) -> dict[str, Any]:
        services = self.client.get(f"{self.http}/relume/status").json()["serving"]["services"]
        return next(each for each in services if each["name"] == name)

    def until(self, reached: Callable[[], bool], within_s: float = 60) -> None:
        until = time.monotonic() + within_s
        while not reached():
            assert time.monotonic() < until, f"not within {within_s} s"
            time.sleep(0.05)

    def until_zero(self, name: str) -> None:
        self.until(lambda: self.service(name)["state"] == "zero")


def _up(state: Path, *options: str) -> Iterator[Plane]:
    command = [sys.executable, "-m", "tests.page.plane", str(state), *options]
    log = state / "up.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out)
    published = state / "plane.json"
    try:
        for _ in range(1200):
            if published.exists() or process.poll() is not None:
                break
            time.sleep(0.05)
        assert published.exists(), log.read_text()
        said = json.loads(published.read_text())
        yield Plane(said["http"], said["broker"])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """A plane with stub models; one for all tests."""
    yield from _up(tmp_path_factory.mktemp("plane"))


@pytest.fixture(scope="session")
def open_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """The same, started with --show-prompts."""
    yield from _up(tmp_path_factory.mktemp("open-plane"), "--show-prompts")


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    from playwright.sync_api import sync_playwright

    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert program, "there is no chromium: apt-get install -y --no-install-recommends chromium"
    # As root, which CI is in its container, Chromium starts only without its sandbox.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


Open = Callable[..., "Page"]


@pytest.fixture
def open_page(browser: "Browser") -> Iterator[Open]:
    """Opens the page of a plane; whatever the browser complains about fails the test."""
    contexts, complaints = [], []

    def opened(plane: Plane, size: str = "wide", scheme: str = "dark") -> "Page":
        width, height = SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            reduced_motion="reduce",
        )
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console", lambda said: complaints.append(said.text) if said.type == "error" else None
        )
        page.goto(f"{plane.http}/")
        page.wait_for_selector("#connection[data-state=live]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [each for each in complaints if "status of 4" not in each] == []
