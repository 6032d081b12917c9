"""Show 1: what a person watches and does on the page, over a real plane with stub models."""

import re
import time

from tests.page.conftest import CLASSIFY, SHOTS, SUMMARIZE, Open, Plane

PHASES = ["fork", "import", "config", "weights", "engine", "warmup"]


def test_a_cold_start_is_watched_phase_by_phase(plane: Plane, open_page: Open) -> None:
    plane.until_zero("summarize")
    page = open_page(plane)
    page.select_option("#model", "summarize")
    page.fill("#prompt", "Why?")
    page.evaluate(
        """() => {
          window.heard = [];
          const hear = () => {
            const said = document.querySelector("#outcome .status")?.textContent;
            if (said && said !== window.heard.at(-1)) window.heard.push(said);
          };
          new MutationObserver(hear).observe(document.getElementById("outcome"),
            {subtree: true, childList: true, characterData: true});
        }"""
    )
    page.click("#chat-form button")
    page.wait_for_selector("#outcome .going")
    page.screenshot(path=SHOTS / "cold-start.png", full_page=True)
    page.locator("#outcome .status", has_text="Answered.").wait_for()
    heard = page.evaluate("window.heard")
    seen = [each for each in PHASES if any(f"Cold start: {each}" in words for words in heard)]
    assert "weights" in seen and len(seen) >= 3, heard
    assert "A model sleeps at zero" in page.inner_text("#outcome .answer")
    page.wait_for_selector("#outcome .phase.warmup")
    entry = page.locator("#coldstarts-list .coldstart").first
    assert "default/summarize" in entry.inner_text()
    label = page.get_attribute("#outcome .bar", "aria-label")
    assert label is not None and "weights 1.50 s" in label


def test_the_second_cold_start_is_predicted(plane: Plane, open_page: Open) -> None:
    if not plane.service("classify")["cold_starts"]:
        plane.send(CLASSIFY, "first")
        plane.until(lambda: plane.service("classify")["state"] == "ready")
    plane.until_zero("classify")
    page = open_page(plane)
    page.select_option("#model", "classify")
    page.click("#chat-form button")
    page.locator("#outcome .status", has_text="ready in about").wait_for()
    page.wait_for_selector("#coldstarts-list .phase.left")
    page.locator("#outcome .status", has_text="Answered.").wait_for()
    page.wait_for_selector("#outcome .measures >> text=predicted")


def test_an_event_that_follows_those_of_the_past_is_listed_once(
    plane: Plane, open_page: Open
) -> None:
    for text in ("one", "two", "three"):
        plane.send("com.example.unwanted", text)
    page = open_page(plane)
    rows = page.locator("#events-list > li", has_text="com.example.unwanted")
    plane.until(lambda: rows.count() == 3)
    plane.send("com.example.unwanted", "four")
    plane.until(lambda: rows.count() > 3)
    assert rows.count() == 4


def test_an_event_is_sent_and_its_answer_shown(plane: Plane, open_page: Open) -> None:
    page = open_page(plane)
    page.locator("#kind label", has_text="Event").click()
    page.fill("#type", SUMMARIZE)
    page.click("#event-form button")
    page.locator("#outcome .status", has_text="Answered.").wait_for()
    assert "A model sleeps at zero" in page.inner_text("#outcome .answer")


def test_a_dead_letter_is_inspected_and_redriven(plane: Plane, open_page: Open) -> None:
    page = open_page(plane)
    failed = plane.send(SUMMARIZE, "fail with a secret", id=f"letter-{time.time_ns()}")
    page.get_by_role("button", name="Inspect the dead letter").first.wait_for()
    letters = page.locator("#letters-list .letter")
    while True:
        letters.first.get_by_role("button", name="Inspect").click()
        page.wait_for_selector("dialog[open]")
        if failed in page.inner_text("#letter-body"):
            break
        page.click("#letter-close")
        page.wait_for_timeout(250)
    shown = page.inner_text("#letter-body")
    assert "retries-exhausted" in shown
    assert "secret" not in page.content(), "its data is shown only with --show-prompts"
    assert "relume dlq show default/inbox" in shown
    with page.expect_response(re.compile("/redrive$")) as answered:
        page.click("#letter-redrive")
    assert answered.value.status == 200
    page.wait_for_selector("dialog[open]", state="detached")
    assert "on its way to its Trigger" in page.inner_text("#said")
    page.wait_for_selector("#events-list .stage[data-stage=redriven]")


def test_a_job_is_cancelled_and_queued_again(plane: Plane, open_page: Open) -> None:
    page = open_page(plane)
    job = plane.submit("classify", "slow")
    row = page.locator(".job", has_text=job)
    row.wait_for()
    row.get_by_role("button", name="Cancel").click()
    row.locator(".state[data-state=cancelled]").wait_for()
    assert plane.client.get(f"{plane.http}/v1/jobs/{job}").json()["status"] == "cancelled"
    row.get_by_role("button", name="Retry").click()
    row.get_by_role("button", name="Cancel").click()
    row.locator(".state[data-state=cancelled]").wait_for()


def test_live_events_are_filtered_by_cesql_on_the_server(plane: Plane, open_page: Open) -> None:
    page = open_page(plane)
    page.fill("#filter", "type = 'com.example.wanted' AND source LIKE '/only/%'")
    page.click("#filter-form button")
    page.wait_for_selector("#filter-said >> text=Only events that pass")
    plane.send("com.example.other", "x")
    plane.send("com.example.wanted", "x", source="/elsewhere")
    wanted = plane.send("com.example.wanted", "x", source="/only/here")
    page.wait_for_selector(f"#events-list >> text={wanted}")
    kinds = page.locator("#events-list .what").all_inner_texts()
    assert set(kinds) == {"com.example.wanted"} and len(kinds) == 1
    page.fill("#filter", "type = = 'x'")
    page.click("#filter-form button")
    page.wait_for_selector("#filter[aria-invalid=true]")
    assert page.inner_text("#filter-said")


def test_markup_in_an_event_is_text_and_nothing_more(plane: Plane, open_page: Open) -> None:
    page = open_page(plane)
    hostile = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>"
    plane.send(f"com.example.{hostile}", "x", id=hostile)
    page.locator("#events-list", has_text="onerror").wait_for()
    assert page.locator("#events-list img, #events-list script").count() == 0
    assert page.title().startswith("Relume")
    plane.send(SUMMARIZE, "fail", id=f"{hostile}-letter")
    page.locator("#letters-list .letter").first.wait_for()
    page.get_by_role("button", name="Inspect").first.click()
    page.wait_for_selector("dialog[open]")
    assert page.locator("dialog img, dialog script").count() == 0


def test_data_is_shown_only_where_it_was_allowed(
    plane: Plane, open_plane: Plane, open_page: Open
) -> None:
    for running, shown in ((plane, False), (open_plane, True)):
        page = open_page(running)
        sent = running.send("com.example.nobody", "my secret prompt")
        page.wait_for_selector(f"#events-list >> text={sent}")
        assert ("my secret prompt" in page.inner_text("#events-list")) is shown
        page.close()


def test_a_service_is_woken_by_a_button(plane: Plane, open_page: Open) -> None:
    plane.until_zero("summarize")
    page = open_page(plane)
    page.get_by_role("button", name="Wake default/summarize").click()
    page.wait_for_selector("#services-list .state[data-state=starting]")
    page.wait_for_selector("#services-list .state[data-state=ready]")
