"""Show 1 with the real vLLM and the real models: a cold start watched, and the pictures of docs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.planes import SAMPLES
from tests.e2e.planes import Plane as RealPlane
from tests.page.conftest import SHOTS, Open, Plane

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]
MINUTES_MS = 240_000
TYPE = "com.example.summarize.request"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """A plane with both samples, its template ready."""
    webhook = Path(__file__).with_name("webhook.yaml")
    files = (SAMPLES / "summarize.yaml", SAMPLES / "embed.yaml", webhook)
    with RealPlane.up(*files, state=tmp_path_factory.mktemp("real")) as running:
        running.until(lambda s: s["template"]["state"] == "ready", 240)
        yield Plane(running.http, running.broker)


def test_a_real_cold_start_is_watched_predicted_and_answered(real: Plane, open_page: Open) -> None:
    page = open_page(real)
    page.set_default_timeout(MINUTES_MS)
    page.select_option("#model", "summarize")
    page.click("#chat-form button")
    page.locator("#outcome .status", has_text="Cold start").wait_for()
    page.locator("#outcome .status", has_text="Answered.").wait_for()
    assert page.inner_text("#outcome .answer").strip()
    real.client.post(f"{real.http}/openai/v1/embeddings", json={"model": "embed", "input": "a"})
    real.submit("summarize", "What is a cold start?")
    for _ in range(3):
        real.send(TYPE, "Summarize: it sleeps.", broker="summarize")
    page.locator(".job .state[data-state=completed]").first.wait_for()
    page.locator("#letters-list .letter").first.wait_for()
    real.until(lambda: real.service("summarize")["state"] == "zero", 120)

    page.locator("#kind label", has_text="Event").click()
    page.fill("#type", TYPE)
    page.select_option("#broker", "default/summarize")
    page.click("#event-form button")
    page.locator("#outcome .status", has_text="ready in about").wait_for()
    page.locator("#outcome .phase.weights, #outcome .phase.engine").first.wait_for()
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / "real-dark-1600.png")
    page.emulate_media(color_scheme="light")
    page.screenshot(path=SHOTS / "real-light-1600.png")
    page.locator("#outcome .status", has_text="Answered.").wait_for()
    page.locator("#outcome .measures", has_text="predicted").wait_for()
    started = page.locator("#coldstarts-list .coldstart", has_text="default/summarize")
    label = started.first.locator(".bar").get_attribute("aria-label")
    assert label is not None and "weights" in label and "engine" in label

    narrow = open_page(real, "narrow", "light")
    narrow.locator("#letters-list .letter").first.wait_for()
    narrow.set_viewport_size({"width": 400, "height": 1500})
    narrow.screenshot(path=SHOTS / "real-light-400.png")
