"""The page for all who use it: keys, focus, screen readers, those who want no motion; and what the details show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.web import skip_without

skip_without("playwright", "starlette", "uvicorn", "httptools")

from playwright.sync_api import Browser, Page, expect  # noqa: E402 - it may be missing

from support import page_runs  # noqa: E402
from support.browser import context, events, open_run, selected, sign_in  # noqa: E402
from support.page_server import PageServer  # noqa: E402

pytestmark = pytest.mark.browser
AXE = (Path(__file__).parent / "page" / "vendor" / "axe.min.js").read_text()


def chosen(page: Page, name: str) -> None:
    """Wait until the step of that name is the chosen one."""
    expect(page.locator(".row.chosen .step-name")).to_have_text(name)


def test_the_list_by_keyboard(page: Page, page_server: PageServer) -> None:
    """Search, filter by status, move from run to run, open one, and go back."""
    for run in (page_runs.forecast(1), page_runs.forecast(2, fails=True), page_runs.large(5, 3)):
        page_server.send(run.until())
    page.goto(page_server.url())
    expect(page.locator(".run-link")).to_have_count(3)
    press = page.keyboard.press
    press("/")
    page.keyboard.type("retail")
    expect(page.locator(".run-link")).to_have_count(2)
    press("Escape")
    expect(page.locator(".run-link")).to_have_count(3)
    page.get_by_role("button", name="Failed").focus()
    press("Enter")
    expect(page.locator(".run-link")).to_have_count(2)
    page.get_by_role("button", name="All").focus()
    press("Enter")
    expect(page.locator(".run-link")).to_have_count(3)
    press("j")
    press("ArrowDown")
    press("k")
    name = page.evaluate("document.activeElement.querySelector('.run-name').innerText")
    press("Enter")
    expect(page.locator("h1")).to_have_text(name)
    press("h")
    expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()


def test_steps_by_keyboard(page: Page, page_server: PageServer) -> None:
    """From error to error, through the tree, into the details and out of them."""
    open_run(page, page_server, page_runs.forecast(fails=True))
    expect(page.locator(".rows .row").nth(5)).to_be_visible()
    press = page.keyboard.press
    press("n")
    chosen(page, "fit")
    expect(page.get_by_role("complementary")).to_contain_text("nothing to fit")
    press("n")
    chosen(page, "notify")
    press("N")
    chosen(page, "fit")
    press("ArrowLeft")
    chosen(page, "west")
    press("ArrowLeft")
    expect(page.locator(".row.chosen")).to_have_attribute("aria-expanded", "false")
    press("ArrowRight")
    expect(page.locator(".row.chosen")).to_have_attribute("aria-expanded", "true")
    press("ArrowRight")
    chosen(page, "features")
    press("Home")
    chosen(page, "retail-forecast")
    press("End")
    chosen(page, "publish")
    press("k")
    chosen(page, "report")
    press("Escape")
    expect(page.get_by_role("complementary")).to_have_count(0)
    press("Enter")
    expect(page.get_by_role("complementary")).to_have_count(1)
    page.get_by_role("separator").focus()
    before = page.get_by_role("complementary").bounding_box()
    press("ArrowLeft")
    press("ArrowLeft")
    after = page.get_by_role("complementary").bounding_box()
    assert before
    assert after
    assert after["width"] == before["width"] + 48
    press("Escape")
    expect(page.get_by_role("complementary")).to_have_count(0)


def test_folding_filter_order_and_zoom_by_keyboard(page: Page, page_server: PageServer) -> None:
    """All closed and opened, filtered by text with a count, errors first, and a part of the time."""
    open_run(page, page_server, page_runs.forecast(fails=True))
    press = page.keyboard.press
    rows = page.get_by_role("treegrid")
    press("c")
    expect(rows).to_have_attribute("aria-rowcount", "10")
    press("o")
    expect(rows).to_have_attribute("aria-rowcount", "36")
    press("/")
    page.keyboard.type("score")
    expect(page.locator(".matches")).to_have_text("5 found")
    press("Escape")
    expect(page.locator(".matches")).to_have_text("")
    press("e")
    expect(page.get_by_role("button", name="Errors first")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".rows .step-name").nth(1)).to_have_text("train")
    press("e")
    expect(page.locator(".rows .step-name").nth(1)).to_have_text("load")
    press("+")
    expect(page.get_by_role("button", name="Whole run")).to_be_visible()
    first = page.locator(".tick").first.inner_text()
    press("Shift+ArrowRight")
    expect(page.locator(".tick").first).not_to_have_text(first)
    press("0")
    expect(page.get_by_role("button", name="Whole run")).to_have_count(0)
    status = page.get_by_role("group", name="Status").get_by_role("button", name="failed")
    status.focus()
    press("Enter")
    expect(page.locator(".matches")).to_have_text("2 found")


def test_export_by_keyboard(page: Page, page_server: PageServer) -> None:
    """As JSON: every event; as a Chrome trace: every span."""
    run = page_runs.forecast(fails=True)
    open_run(page, page_server, run)
    events(page, len(run.until()))
    press = page.keyboard.press
    press("x")
    expect(page.get_by_role("menu")).to_be_visible()
    with page.expect_download() as found:
        press("Enter")
    assert found.value.suggested_filename == "retail-forecast_retail-forecast-0007.json"
    saved = json.loads(found.value.path().read_text())["events"]
    assert {event["uid"] for event in saved} == {event["uid"] for event in run.until()}
    press("x")
    press("ArrowDown")
    with page.expect_download() as found:
        press("Enter")
    traced = json.loads(found.value.path().read_text())["traceEvents"]
    spans = {event["span_id"] for event in run.until() if event["type"] not in ("task_log",)}
    assert {event["args"]["span_id"] for event in traced if event["ph"] == "X"} == spans
    press("x")
    press("Escape")
    expect(page.get_by_role("menu")).to_have_count(0)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Export"


def test_help_and_theme_by_keyboard(page: Page, page_server: PageServer) -> None:
    """The keys as a dialog; light, dark, and back to the system's; what is chosen outlives the page."""
    open_run(page, page_server, page_runs.forecast())
    press = page.keyboard.press
    press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    for theme, paper in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 22, 27)")):
        press("t")
        expect(page.locator("html")).to_have_attribute("data-theme", theme)
        expect(page.locator(".head")).to_have_css("background-color", paper)
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.locator(".rows .row").first).to_be_visible()
    press("t")
    expect(page.locator("html")).not_to_have_attribute("data-theme", "dark")


def test_focus_is_kept_while_events_come(page: Page, page_server: PageServer) -> None:
    """Updates move neither the focus, nor the selection, nor what is written in the filter."""
    run = page_runs.forecast(start=page_runs.ago(80))
    open_run(page, page_server, run, until=40)
    page.keyboard.press("/")
    page.keyboard.type("fit")
    page_server.send(run.until(60))
    events(page, len(run.until(60)))
    assert page.evaluate("document.activeElement.value") == "fit"
    page.keyboard.press("Escape")
    for _ in range(4):
        page.keyboard.press("j")
    before = selected(page)
    page_server.send(run.until())
    events(page, len(run.until()))
    assert selected(page) == before
    assert page.evaluate("document.activeElement.getAttribute('role')") == "treegrid"


def test_output_follows_until_somebody_scrolls(page: Page, page_server: PageServer) -> None:
    """The task's output stays at its end; scrolled up it stays where it is, and at the end it follows again."""
    run = page_runs.Run("logs", 68, page_runs.ago(5))
    run.start()
    span = run.task("talk", 0, None)
    for number in range(200):
        run.log(1, span, "talk", f"line {number}\n")
    open_run(page, page_server, run)
    page.locator(".row").filter(has_text="talk").click()
    box = page.locator(".output")
    expect(box).to_contain_text("line 199")
    run.log(2, span, "talk", "line 200\n")
    page_server.send(run.until())
    expect(box).to_contain_text("line 200")
    box.evaluate("box => { box.scrollTop = 0; }")
    expect(page.get_by_role("button", name="Follow")).to_have_attribute("aria-pressed", "false")
    run.log(3, span, "talk", "line 201\n")
    page_server.send(run.until())
    expect(page.get_by_role("heading", name="Output")).to_contain_text("202 lines")
    assert box.evaluate("box => box.scrollTop") == 0
    page.get_by_role("button", name="Follow").click()
    expect(box).to_contain_text("line 201")


def test_details_of_a_step(page: Page, page_server: PageServer) -> None:
    """Attempts, each with its own error; inputs and outputs as trees; attributes; only http(s) texts are links."""
    run = page_runs.forecast()
    open_run(page, page_server, run)
    page.locator(".row").filter(has_text="fetch").click()
    panel = page.get_by_role("complementary")
    first, second = panel.locator(".attempt").all()
    expect(second).to_have_attribute("aria-pressed", "true")
    expect(panel.locator(".failure-text")).to_have_count(0)
    expect(panel.get_by_role("link", name="https://weather.example/v2")).to_have_attribute(
        "rel", "noopener noreferrer nofollow"
    )
    first.click()
    expect(panel.locator(".failure-text")).to_contain_text("no answer from station 17")
    expect(panel.locator(".attributes")).to_contain_text("prepare.weather.fetch")
    page.locator(".row").filter(has_text="validate").click()
    expect(panel).to_contain_text("1284551")
    panel.locator("summary").filter(has_text="columns").click()
    expect(panel).not_to_contain_text("units")
    panel.locator("summary").filter(has_text="columns").click()
    expect(panel).to_contain_text("units")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_accessible(browser: Browser, page_server: PageServer, scheme: str, width: int) -> None:
    """axe-core finds nothing serious: in the list, a running and a failed run, its details, the keys, the sign-in."""
    failed, running = page_runs.forecast(fails=True), page_runs.forecast(8, start=page_runs.ago(61))
    silent, recovered = page_runs.forecast(9, start=page_runs.ago(900)), page_runs.large(40, 10)
    recovered.events = [pair for pair in recovered.events if pair[1]["type"] != "pipeline_completed"]
    recovered.end(400)
    for run, until in ((failed, 999), (running, 60), (silent, 60), (recovered, 999)):
        page_server.send(run.until(until))
    with context(
        browser, color_scheme=scheme, viewport={"width": width, "height": 844}, reduced_motion="reduce"
    ) as made:
        page = made.new_page()
        page.goto(page_server.url())
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        found = {"sign in": axe(page)}
        sign_in(page, page_server.url(), page_server.token)
        page.goto(page_server.url())
        expect(page.locator(".run-link")).to_have_count(4)
        expect(page.locator(".run-count").filter(has_text="waiting").first).to_be_attached()
        found["runs"] = axe(page)
        for name, run in (("running", running), ("silent", silent), ("recovered", recovered), ("failed", failed)):
            page.goto(page_server.url(f"runs/{run.trace}"))
            events(page, len(run.until(60 if name in ("running", "silent") else 999)))
            found[name] = axe(page)
        page.keyboard.press("n")
        expect(page.get_by_role("complementary")).to_be_visible()
        found["details"] = axe(page)
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_be_visible()
        found["keys"] = axe(page)
    assert found == {view: [] for view in found}


def axe(page: Page) -> list[str]:
    """What axe-core calls serious or critical."""
    page.evaluate(AXE)
    results: dict[str, Any] = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{each['id']}: {node['target']} {node['failureSummary']}"
        for each in results["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def test_nothing_moves_for_those_who_want_no_motion(browser: Browser, page_server: PageServer) -> None:
    """prefers-reduced-motion: no animation runs, where otherwise some do."""
    run = page_runs.forecast(start=page_runs.ago(61))
    for motion, moves in (("reduce", False), ("no-preference", True)):
        with context(browser, reduced_motion=motion) as made:
            page = made.new_page()
            sign_in(page, page_server.url(), page_server.token)
            open_run(page, page_server, run, until=60)
            expect(page.locator(".row.is-running").first).to_be_visible()
            assert (page.evaluate("document.getAnimations().length") > 0) is moves
