"""`relume warm` and `relume reload`: the commands and the control API, without predictors."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from relume.base.errors import InvalidManifest
from relume.cli.main import run
from relume.plane.control import Control
from relume.serving.errors import ServiceUnknown
from tests.cli.conftest import SERVICE
from tests.cli.plane_thread import PlaneThread

Output = pytest.CaptureFixture[str]
ZERO = {"state": "zero", "phase": None, "desired": 0, "replicas": 0}
LOADING = {"state": "starting", "phase": "weights", "ready_in_s": 2.2, "desired": 1, "replicas": 0}
FAILED = {"state": "failed", "desired": 0, "reason": "the predictor exited with code 3"}


class Plane(PlaneThread):
    """A plane whose service is, at each look, what `looks` says next."""

    def __init__(self) -> None:
        super().__init__()
        self.looks: list[Mapping[str, object]] = [{}]
        self.warmed: list[tuple[str, str]] = []
        self.reloads: list[Mapping[str, object]] = []

    def _service(self) -> dict[str, object]:
        return {**SERVICE, **(self.looks.pop(0) if len(self.looks) > 1 else self.looks[0])}

    def _warm(self, namespace: str, name: str) -> Mapping[str, object]:
        if name != "summarizer":
            raise ServiceUnknown(f"no InferenceService {namespace}/{name} on this plane")
        self.warmed.append((namespace, name))
        return self._service()

    async def _reload(self) -> Mapping[str, object]:
        if not self.reloads:
            raise InvalidManifest("wrong", file=Path("it.yaml"), line=6, field="spec")
        return self.reloads.pop(0)

    async def _run(self) -> None:
        control = Control(
            status=lambda: self._status(
                serving={"services": [self._service()]},
                eventing={"brokers": [], "triggers": []},
                template={"state": "off"},
            ),
            cold_starts=lambda: [],
            observer=self.observer,
            warm=self._warm,
            reload=self._reload,
        )
        await self._serve(control)


@pytest.fixture
def plane(monkeypatch: pytest.MonkeyPatch) -> Iterator[Plane]:
    with Plane() as running:
        monkeypatch.setenv("RELUME_URL", running.url)
        monkeypatch.setattr("relume.cli.machine.warm._LOOK_EVERY_S", 0.01)
        yield running


def test_it_says_when_the_service_will_be_ready(plane: Plane, capsys: Output) -> None:
    plane.looks = [LOADING]
    assert run(["warm", "summarizer"]) == 0
    assert capsys.readouterr().out == "default/summarizer: starting, weights, ready in 2 s\n"
    assert plane.warmed == [("default", "summarizer")]


def test_it_waits_and_tells_each_phase_once(plane: Plane, capsys: Output) -> None:
    plane.looks = [{**LOADING, "phase": ""}, LOADING, LOADING, {**LOADING, "phase": "engine"}, {}]
    assert run(["warm", "default/summarizer", "--wait"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "default/summarizer: starting, ready in 2 s",
        "default/summarizer: starting, weights, ready in 2 s",
        "default/summarizer: starting, engine, ready in 2 s",
        "default/summarizer: ready",
    ]


def test_a_program_gets_the_whole_status(plane: Plane, capsys: Output) -> None:
    plane.looks = [LOADING]
    assert run(["warm", "summarizer", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["ready_in_s"] == 2.2


@pytest.mark.parametrize(
    ("looks", "command", "code", "words"),
    [
        ([LOADING, FAILED], ["summarizer", "--wait"], 1, "exited with code 3"),
        ([LOADING, ZERO], ["summarizer", "--wait"], 1, "its start was cancelled"),
        ([LOADING], ["summarizer", "--wait", "--timeout", "50ms"], 1, "not ready after 0.05 s"),
        ([LOADING], ["other"], 2, "no InferenceService default/other"),
        ([LOADING], ["a/b/c"], 2, "write NAMESPACE/NAME"),
    ],
    ids=["it fails", "it is given up", "it takes too long", "no such service", "no name"],
)
def test_what_goes_wrong_is_one_line(
    plane: Plane,
    capsys: Output,
    looks: list[Mapping[str, object]],
    command: list[str],
    code: int,
    words: str,
) -> None:
    plane.looks = looks
    assert run(["warm", *command]) == code
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),
        ({"origin": "https://evil.example"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 202),
    ],
)
def test_a_page_of_another_origin_may_not_start_anything(
    plane: Plane, headers: dict[str, str], status: int
) -> None:
    url = f"{plane.url}/relume/services/default/summarizer/warm"
    assert httpx.post(url, headers=headers).status_code == status
    assert len(plane.warmed) == (1 if status == 202 else 0)


def test_reload_says_what_was_taken_over(plane: Plane, capsys: Output) -> None:
    found = {
        "changed": ["ns/one", "Trigger ns/t"],
        "added": ["ns/two", "Broker ns/b"],
        "removed": ["ns/three"],
    }
    nothing: dict[str, list[str]] = {key: [] for key in found}
    plane.reloads = [found, nothing, {**nothing, "changed": ["ns/one"], "shares": {"ns/one": 0}}]
    assert run(["reload"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ns/one: changed; the old revision answers until the new one is ready",
        "Trigger ns/t: changed",
        "ns/two: added",
        "Broker ns/b: added",
        "ns/three: removed",
    ]
    assert run(["reload"]) == 0
    assert capsys.readouterr().out == "nothing has changed\n"
    assert run(["reload"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ns/one: changed; its newest revision is to get 0 % of the requests, and no new one starts"
    ]
    assert run(["reload"]) == 2
    assert capsys.readouterr().err == "relume: it.yaml:6: spec: wrong\n"
