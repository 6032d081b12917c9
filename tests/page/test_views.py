"""Show 1: the page at 400 and 1,600 px, dark and light: axe finds nothing in any view."""

from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.page.conftest import CLASSIFY, SHOTS, SUMMARIZE, Open, Plane

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

VIEWS = [(size, scheme) for size in ("narrow", "wide") for scheme in ("dark", "light")]


@pytest.fixture(scope="module")
def busy(plane: Plane) -> Plane:
    """A plane in which everything has happened once."""
    for _ in range(3):
        plane.send(SUMMARIZE, "hello")
        plane.send(CLASSIFY, "hello")
    plane.send(SUMMARIZE, "please fail")
    plane.submit("summarize", "done soon")
    plane.until(lambda: "summarize" in {e["service"] for e in ledger(plane)})
    return plane


def ledger(plane: Plane) -> list[dict[str, object]]:
    found: list[dict[str, object]] = plane.client.get(f"{plane.http}/relume/coldstarts").json()
    return found


def check(page: "Page", name: str) -> None:
    """No violation of axe's rules (WCAG 2 A and AA and best practices), and nothing cut off."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)
    found = Axe().run(page)
    assert found.response["passes"], "axe ran no rule"
    assert found.violations_count == 0, found.generate_report()
    width = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width[0] <= width[1], f"{name}: the page is wider than the window"


@pytest.mark.parametrize(("size", "scheme"), VIEWS)
def test_every_view_shows_everything_and_axe_is_clean(
    busy: Plane, open_page: Open, size: str, scheme: str
) -> None:
    page = open_page(busy, size, scheme)
    page.wait_for_selector("#letters-list .letter")
    page.wait_for_selector("#jobs-list .job")
    page.wait_for_selector("#coldstarts-list .coldstart")
    assert page.locator("#services-list > li").count() == 2
    assert page.locator("#brokers-list .trigger").count() == 2
    page.wait_for_selector("#events-list li")
    check(page, f"page-{size}-{scheme}")
    page.locator(".coldstart summary").first.click()
    page.locator("#kind label", has_text="Event").click()
    check(page, f"event-{size}-{scheme}")
    page.get_by_role("button", name="Inspect the dead letter").first.click()
    page.wait_for_selector("dialog[open]")
    check(page, f"letter-{size}-{scheme}")


def test_the_page_may_load_and_run_nothing_but_its_own_files(
    plane: Plane, browser: "Browser"
) -> None:
    page = browser.new_page()
    page.goto(f"{plane.http}/")
    page.wait_for_selector("#connection[data-state=live]")
    foreign = page.evaluate(
        """async () => {
          const tried = await fetch("http://localhost:9/").then(() => "loaded", () => "refused");
          let made = "made";
          try { document.createElement("p").innerHTML = "<b>x</b>"; } catch { made = "refused"; }
          return [tried, made];
        }"""
    )
    assert foreign == ["refused", "refused"]
    loaded = page.evaluate("performance.getEntriesByType('resource').map((each) => each.name)")
    assert loaded and all(name.startswith(plane.http) for name in loaded)
    page.close()


def test_it_is_worked_with_the_keyboard_alone(busy: Plane, open_page: Open) -> None:
    page = open_page(busy)
    page.wait_for_selector("#letters-list .letter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the services"
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.add(
            page.evaluate(
                "document.activeElement.ariaLabel ?? document.activeElement.id "
                "?? document.activeElement.textContent"
            )
        )
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none" or page.evaluate(
            "document.activeElement.matches('[type=radio], body')"
        )
    assert {"model", "prompt", "filter", "events-pause"} <= seen
    assert any(str(each).startswith("Redrive the dead letter") for each in seen)
    page.get_by_role("button", name="Inspect the dead letter").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog[open]", state="detached")
