"""What the page costs: 500 events a second and an hour of history, with the page open and closed.

    make page-load                                      medians of 3, two minutes
    make page-load ONLY='--rounds 1 --seconds 5'

The plane (`page_plane.py`) gets its events from a producer and hands them to a subscriber, each a
process of its own; the page is open in Chromium. Each round measures the plane with no page, with
its stream read by a program, with the page open, and with one that has a CESQL filter, so that the
machine's noise hits all alike. CPU time is that of the plane's process: on few cores it grows
beside a browser that is busy, and the stream that a program reads shows the plane's own part.
Frames and long tasks (above 50 ms) are the browser's own figures.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click
import psutil
from figures import Figure, Machine, print_notes, shown, spread, verdict

from relume.cli.screen import Screen

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FOLDER = Path(__file__).parent
WARM_UP_S = 2.0
#: What an open page may cost the plane, of its CPU time without one.
MOST_OF_PLANE = 1.25
FILTER = "type LIKE 'bench.%' AND source = '/bench'"
# Frames from now on, the longest time between two, and the time in tasks above 50 ms.
WATCH = """() => {
  const seen = {frames: 0, longest: 0, tasks: 0, longestTask: 0, since: performance.now()};
  window.seen = seen;
  new PerformanceObserver((list) => list.getEntries().forEach((each) => {
    seen.tasks += each.duration;
    seen.longestTask = Math.max(seen.longestTask, each.duration);
  })).observe({entryTypes: ["longtask"]});
  let last = performance.now();
  const frame = (now) => {
    seen.frames += 1;
    seen.longest = Math.max(seen.longest, now - last);
    last = now;
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}"""
_READ = "import sys, urllib.request as u; r = u.urlopen(sys.argv[1])\nwhile r.read1(65536): pass"
LOOK = "() => ({...window.seen, for: performance.now() - window.seen.since})"


@contextlib.contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python program beside this one, ended with the block."""
    words = [sys.executable, *command]
    running = subprocess.Popen(words, cwd=FOLDER, stdout=subprocess.DEVNULL)
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(30)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def until(there: Path, within_s: float = 60) -> None:
    end = time.monotonic() + within_s
    while not there.exists():
        if time.monotonic() > end:
            raise SystemExit(f"{there} was not there within {within_s:g} s")
        time.sleep(0.05)


class Stand:
    """The plane, what sends it events, and a browser."""

    def __init__(self, http: str, plane: psutil.Process, browser: "Browser") -> None:
        self._http = http
        self._plane = plane
        self._browser = browser

    def cpu(self, seconds: float) -> float:
        """The share of a core that the plane takes now."""
        time.sleep(WARM_UP_S)
        before, began = self._plane.cpu_times(), time.monotonic()
        time.sleep(seconds)
        after, took = self._plane.cpu_times(), time.monotonic() - began
        return (after.user + after.system - before.user - before.system) / took

    @contextlib.contextmanager
    def reader(self) -> Iterator[None]:
        """The stream, read by a program that does nothing with it."""
        command = ("-c", _READ, f"{self._http}/relume/page/stream")
        with process(*command):
            yield

    @contextlib.contextmanager
    def page(self, expression: str = "") -> Iterator["Page"]:
        """The page, open and watched."""
        page = self._browser.new_page(viewport={"width": 1600, "height": 1000})
        page.goto(f"{self._http}/")
        page.wait_for_selector("#connection[data-state=live]")
        if expression:
            page.fill("#filter", expression)
            page.click("#filter-form button")
        page.wait_for_selector("#events-list .what")
        page.locator("#window label", has_text="1 hour").click()
        page.evaluate(WATCH)
        yield page
        page.close()


@contextlib.contextmanager
def standing(rate: int, browser: "Browser") -> Iterator[Stand]:
    """Everything up and under load."""
    with contextlib.ExitStack() as stack:
        state = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        stack.enter_context(process("event_sink.py", str(port)))
        url = f"http://127.0.0.1:{port}/"
        plane = stack.enter_context(process("page_plane.py", str(state), url))
        until(state / "plane.json")
        said = json.loads((state / "plane.json").read_text())
        target = f"{said['broker']}/bench/b"
        stack.enter_context(process("event_load.py", target, "--rate", str(rate)))
        yield Stand(said["http"], psutil.Process(plane.pid), browser)


def measure(stand: Stand, rounds: int, seconds: float) -> list[Figure]:
    """CPU of the plane, and what the browser saw of the page."""
    closed, read, opened, filtered = (list[float]() for _ in range(4))
    seen: list[dict[str, Any]] = []
    for _ in range(rounds):
        closed.append(stand.cpu(seconds) * 100)
        with stand.reader():
            read.append(stand.cpu(seconds) * 100)
        with stand.page() as page:
            opened.append(stand.cpu(seconds) * 100)
            seen.append(page.evaluate(LOOK))
        with stand.page(FILTER):
            filtered.append(stand.cpu(seconds) * 100)
    most = round(MOST_OF_PLANE * median(closed), 1)
    frames = tuple(each["frames"] / each["for"] * 1000 for each in seen)
    tasks = tuple(each["tasks"] / each["for"] * 100 for each in seen)
    return [
        Figure("plane, no page", "% of a core", tuple(closed)),
        Figure("plane, stream read", "% of a core", tuple(read), tuple(closed), below=most),
        Figure("plane, page open", "% of a core", tuple(opened), tuple(closed), below=most),
        Figure(
            "plane, page with a filter", "% of a core", tuple(filtered), tuple(closed), below=most
        ),
        Figure("page: frames", "a second", frames),
        Figure("page: longest frame", "ms", tuple(each["longest"] for each in seen)),
        Figure("page: in long tasks", "% of the time", tasks, below=5.0),
        Figure(
            "page: longest task", "ms", tuple(each["longestTask"] for each in seen), below=200.0
        ),
    ]


def show(screen: Screen, figures: Sequence[Figure], machine: Machine, rate: int) -> None:
    """The table, and what it was measured on."""
    title = f"the page, {rate} events a second, an hour of history"
    screen.title(f"{title}: medians of {len(figures[0].samples)}")
    headers = ("measure", "median", "least … most", "of no page", "target", "holds")
    rows = [
        [
            figure.name,
            shown(figure.median, figure.unit),
            spread(figure.samples, 1),
            f"{1 / figure.ratio:.2f}×" if figure.ratio else "",
            figure.target,
            verdict(figure.holds),
        ]
        for figure in figures
    ]
    screen.table(headers, rows)
    print_notes(screen, machine.facts())


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, metavar="N")
@click.option("--seconds", type=click.FloatRange(min=1), default=10.0, show_default=True)
@click.option("--rate", type=click.IntRange(min=1), default=500, show_default=True)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def main(*, rounds: int, seconds: float, rate: int, output: str) -> None:
    """Measure what the page costs the plane, and how smooth it stays.

    A missed target is shown and is not a failure. Needs Playwright and Chromium: make page-load.
    """
    from playwright.sync_api import sync_playwright

    machine = Machine.now()
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        with standing(rate, browser) as stand:
            figures = measure(stand, rounds, seconds)
        browser.close()
    screen = Screen.stdout()
    if output == "text":
        show(screen, figures, machine, rate)
        return
    told = [figure.to_json() for figure in figures]
    screen.json({"machine": machine.to_json(), "rate": rate, "figures": told})


if __name__ == "__main__":
    main()
