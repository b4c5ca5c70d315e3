"""The page and what nobody should send: texts that want to be code, names without end, runs that make no sense."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from support.web import skip_without

skip_without("playwright", "starlette", "uvicorn", "httptools")

from playwright.sync_api import Page, expect  # noqa: E402 - it may be missing

from support import page_runs  # noqa: E402
from support.browser import events, open_run  # noqa: E402
from support.page_server import PageServer  # noqa: E402

pytestmark = pytest.mark.browser
HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    "\x1b[31mred\x1b[0m\x1b]0;owned\x07\x00\x9b2J\u202eevil\u2066"
)
SHOWN = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>redevil"
ROW = 30


def hostile_run() -> page_runs.Run:
    """A run of which every text is hostile."""
    run = page_runs.Run("x", 66)
    run.name = run.run_id = HOSTILE
    run.start({"nodes": [page_runs.node(HOSTILE)], "edges": [[HOSTILE]]})
    deep = {HOSTILE: HOSTILE, "link": "javascript:alert(1)", "nested": {"__proto__": [HOSTILE]}}
    names = {"name": HOSTILE, "task_type": HOSTILE, "branch": f"m.{HOSTILE}"}
    span = run.task(f"m.{HOSTILE}.t", 1, 2, error=HOSTILE, trace=HOSTILE, inputs=deep, **names)
    run.task("u", 1, 2, outputs=deep, name=HOSTILE)
    run.log(2, span, HOSTILE, HOSTILE)
    run.add(2, {"type": HOSTILE, "data": HOSTILE, "span_id": "z", "trace_id": run.trace, "runnable": {"span_id": span}})
    run.composite(HOSTILE, HOSTILE, 1, 2)
    run.end(9, "error", HOSTILE)
    for _, event in run.events:
        event["host"] = event["service"] = HOSTILE
    return run


def harmless(page: Page) -> None:
    """Nothing of it is an element, a link or a title, and no control character is on the screen."""
    assert page.locator("img, iframe, object, script:not([src])").count() == 0
    assert page.locator("a[href^=javascript]").count() == 0
    assert page.evaluate("document.title") != "owned"
    text = page.evaluate("document.body.innerText + document.title")
    text += page.evaluate(
        "[...document.querySelectorAll('[title], [aria-label]')].map((e) => e.title + e.ariaLabel).join()"
    )
    assert not [each for each in text if (ord(each) < 32 and each not in "\n\t") or each in "\x9b\u202e\u2066"]


def test_hostile_texts(page: Page, page_server: PageServer) -> None:
    """HTML, terminal sequences and control characters in every field show as text, and do nothing."""
    open_run(page, page_server, hostile_run())
    page.keyboard.press("n")
    panel = page.get_by_role("complementary")
    expect(panel.locator(".failure-text")).to_have_text(SHOWN)
    expect(panel.locator(".trace")).to_have_text(SHOWN)
    expect(panel.locator(".output")).to_contain_text(SHOWN)
    expect(panel.locator(".own")).to_contain_text(SHOWN)
    expect(panel.locator(".key").filter(has_text=SHOWN).first).to_be_attached()
    expect(panel.locator(".attributes")).to_contain_text(SHOWN)
    expect(page.locator("h1")).to_have_text(SHOWN)
    for row in page.locator(".rows .row").all():
        row.click()
        harmless(page)
    page.goto(page_server.url())
    expect(page.locator(".run-name")).to_have_text(SHOWN)
    expect(page.locator(".run-error")).to_have_text(SHOWN)
    harmless(page)


def rows_are_even(page: Page) -> None:
    """No row is higher than another, none lies over another, and no text leaves its column."""
    boxes = page.locator(".rows .row").evaluate_all("rows => rows.map((row) => row.getBoundingClientRect().toJSON())")
    assert {box["height"] for box in boxes} == {ROW}
    tops = sorted(box["top"] for box in boxes)
    assert all(below - above == ROW for above, below in itertools.pairwise(tops))
    wide = "cells => cells.filter((cell) => cell.scrollWidth > cell.clientWidth + 1).length"
    assert page.locator(".rows .cell-name").evaluate_all(wide) == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def bars_are_apart(page: Page) -> None:
    """In no row does one bar lie over another, and none leaves its column by more than the mark of a cut."""
    overlaps = """tracks => tracks.flatMap((track) => {
      const boxes = [...track.querySelectorAll(".bar")].map((bar) => bar.getBoundingClientRect());
      const across = (a, b) => a.left < b.right - 1 && b.left < a.right - 1;
      const over = (a, b) => across(a, b) && a.top < b.bottom - 0.5 && b.top < a.bottom - 0.5;
      return boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => over(a, b)));
    }).length"""
    assert page.locator(".rows .track").evaluate_all(overlaps) == 0
    outside = """bars => bars.filter((bar) => {
      const [box, cell] = [bar.getBoundingClientRect(), bar.closest(".track").getBoundingClientRect()];
      return box.left < cell.left - 0.03 * cell.width || box.right > cell.right + 0.03 * cell.width + 3;
    }).length"""
    assert page.locator(".rows .bar").evaluate_all(outside) == 0


def test_names_that_are_long_or_strange(page: Page, page_server: PageServer) -> None:
    """Names of 10,000 characters, right-to-left and emoji: nothing breaks, nothing overlaps, in the run, its details
    and the list."""
    run = page_runs.Run("n" * 10_000, 67, page_runs.ago(9))
    run.start()
    for number, name in enumerate(
        ("w" * 10_000, "long words " * 900, "مرحبا بالعالم " * 40, "👩‍🚀" * 800, "\n\n\n", "")
    ):
        run.task(name or "-", number, 1, name=name, error="e" * 5000 if number == 1 else "", inputs={name: name})
    open_run(page, page_server, run)
    expect(page.locator(".rows .row")).to_have_count(7)
    rows_are_even(page)
    for row in page.locator(".rows .row").all():
        row.click()
        assert page.get_by_role("complementary").evaluate("panel => panel.scrollWidth <= panel.clientWidth")
        rows_are_even(page)
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.goto(page_server.url())
    expect(page.locator(".run-name")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def senseless() -> list[dict[str, Any]]:
    """Missing starts and ends, ends before starts, clocks that differ, parents that are absent or go in circles."""
    run = page_runs.Run("senseless", 69)
    run.start()
    run.task("no-start", 1, 5)
    run.events = [pair for pair in run.events if pair[1]["type"] != "task_started"]
    run.task("no-end", 2, None)
    run.task("backwards", 9, -4)
    run.task("other-clock", -7200, 3, host="ahead")
    run.task("first", 3, 6, attempt=1, name="m.twice")
    for attempt in (1, 2, 3):
        run.task("overlapping", 3 + attempt, 6, attempt=attempt, error="OSError: x" if attempt < 3 else "")
    events = run.until()
    common = {"trace_id": run.trace, "run_id": run.run_id, "time": run.at(4), "started": run.at(3)}
    for span, parent in (("c1", "c2"), ("c2", "c1"), ("alone", "nobody"), ("self", "self")):
        own = {"type": "span", "name": f"span {span}", "span_id": span, "parent_span_id": parent, "status": "unset"}
        events.append({**own, **common, "uid": f"{run.trace}:{span}:end"})
    events.append({"type": "from_the_future", "uid": "f:1", **common, "runnable": {"trace_id": run.trace}})
    events.append({"type": "task_started", "name": "timeless", "span_id": "t", **common, "uid": "t:1", "time": "soon"})
    return events


def test_a_run_that_makes_no_sense(page: Page, page_server: PageServer) -> None:
    """Each fact that can be told is told, once; no bar lies over another; nothing is invented."""
    page_server.send(senseless())
    page.goto(page_server.url(f"runs/{69:032x}"))
    events(page, len(senseless()))
    page.keyboard.press("o")
    rows = page.locator(".rows .row .step-name")
    expect(rows).to_have_count(12)
    names = ["no-start", "no-end", "backwards", "other-clock", "first", "overlapping", "timeless"]
    spans = ["span c1", "span c2", "span alone", "span self"]
    assert sorted(rows.all_inner_texts()) == sorted(["senseless", *names, *spans])
    rows_are_even(page)
    bars_are_apart(page)
    took = {
        row.locator(".step-name").inner_text(): row.locator(".cell-bar .took").inner_text()
        for row in page.locator(".rows .row").all()
    }
    assert took["no-start"] == "5.0 s"
    assert took["backwards"] == "0 ms"
    assert took["timeless"] == ""
    page.locator(".row").filter(has_text="backwards").click()
    expect(page.get_by_role("complementary")).to_contain_text("the end came before the start: clocks differ")
    bars_are_apart(page)
