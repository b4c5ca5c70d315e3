"""The page in a real browser, on the real server, while runs happen and servers die."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.web import skip_without

skip_without("playwright", "starlette", "uvicorn", "httptools", "httpx")

import httpx  # noqa: E402 - it may be missing
from playwright.sync_api import Browser, Page, expect  # noqa: E402

from runnable_otel.log.memory import MemoryLog  # noqa: E402
from support import page_runs  # noqa: E402
from support.browser import context, events, live, open_run, sign_in, state  # noqa: E402
from support.kills import facts  # noqa: E402
from support.page_server import PageServer  # noqa: E402
from support.serve import TOKEN, Serve, export, whole_run  # noqa: E402
from support.waiting import wait_until  # noqa: E402

pytestmark = pytest.mark.browser
KILLS = 3
TASKS = 400


def test_a_printed_address_signs_in_once(browser: Browser, page_server: PageServer) -> None:
    """The code becomes a token and leaves the address; the second use of it asks to sign in, and a token does it."""
    address = page_server.url(f"#code={page_server.code()}")
    with context(browser) as first:
        page = first.new_page()
        page.goto(address)
        expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()
        assert page.url == page_server.url()
        assert page.evaluate("localStorage.getItem('runnable-otel.token')") == page_server.token
    with context(browser) as second:
        page = second.new_page()
        page.goto(address)
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        page.get_by_label("Token").fill(page_server.token)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()


def test_a_lost_token_asks_to_sign_in(page: Page, page_server: PageServer) -> None:
    """A server that was started anew with another token: the page says so and stops asking."""
    page.goto(page_server.url())
    live(page)
    page_server.kill()
    page_server.token = "another"
    page_server.start()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert page.evaluate("localStorage.getItem('runnable-otel.token')") is None


def test_the_policy_is_in_force(browser: Browser, page_server: PageServer) -> None:
    """What an injected text would do, the browser refuses: the other tests see nothing of it because it does not
    happen."""
    with context(browser) as made:
        page = made.new_page()
        page.goto(page_server.url("runs/any"))
        page.evaluate("""() => {
          const image = document.createElement("img");
          image.src = "https://other.example/x.png";
          document.body.append(image);
          document.body.setAttribute("style", "color: red");
          try { document.body.insertAdjacentHTML("beforeend", "<b>x</b>"); } catch {}
        }""")
        page.wait_for_function("seen.violations.length >= 3")
        broken = {each.split()[0] for each in page.evaluate("seen.violations")}
        assert {"img-src", "require-trusted-types-for"} <= broken


def test_a_run_as_it_happens(page: Page, page_server: PageServer) -> None:
    """The list and the run follow live: what waits, what runs, what is done; and the list leads to the run and back."""
    run = page_runs.forecast(start=page_runs.ago(14))
    page.goto(page_server.url())
    expect(page.get_by_role("heading", name="No runs yet")).to_be_visible()
    page_server.send(run.until(14))
    expect(page.locator(".run-link")).to_have_count(1)
    expect(page.locator(".run-count")).to_contain_text("1 running")
    expect(page.locator(".run-count")).to_contain_text("7 waiting")  # those whose number is known
    expect(page.locator(".run-count")).to_contain_text("1/9")
    page.locator(".run-link").click()
    assert page.url == page_server.url(f"runs/{run.trace}")
    expect(page.locator(".row.is-running .step-name").filter(has_text="validate")).to_be_visible()
    expect(page.locator(".row.is-waiting .step-name").filter(has_text="publish")).to_be_visible()
    live(page)
    page_server.send(run.until())
    state(page, "Finished")
    expect(page.locator(".badge")).to_have_text("succeeded")
    expect(page.locator(".facts")).to_contain_text("24 of 24")
    page.go_back()
    expect(page.locator(".run-link")).to_have_count(1)
    expect(page.locator(".run-count")).to_contain_text("24/24")


def test_a_further_run_of_a_trace(page: Page, page_server: PageServer) -> None:
    """What was over goes on when its trace has another run: the page shows that one too, while it runs."""
    first, second = (page_runs.Run(name, 7, page_runs.ago(60)) for name in ("first", "second"))
    second.spans, second.root = 500, f"{7:012x}{500:04x}"
    for run, begin in ((first, 1), (second, 10)):
        run.start()
        run.task(f"{run.name}_step", begin, 5)
        run.end(begin + 6)
    open_run(page, page_server, first)
    state(page, "Finished")
    page_server.send(second.until(12))
    expect(page.locator(".row.is-running .step-name").filter(has_text="second_step")).to_be_visible(timeout=30_000)
    live(page)
    page_server.send(second.until())
    state(page, "Finished")
    expect(page.locator(".step-name").filter(has_text="first_step")).to_have_count(1)
    expect(page.locator(".facts")).to_contain_text("2 of 2")


def test_bars_grow(page: Page, page_server: PageServer) -> None:
    """The bar of a task that runs gets longer by itself."""
    open_run(page, page_server, page_runs.forecast(start=page_runs.ago(14)), until=14)
    bar = page.locator(".row.is-running.kind-task .bar")
    before = bar.evaluate("bar => bar.getBoundingClientRect().right - bar.parentElement.getBoundingClientRect().left")
    page.wait_for_function(
        """before => {
          const bar = document.querySelector(".row.is-running.kind-task .bar").getBoundingClientRect();
          return bar.right - document.querySelector(".row.is-running .track").getBoundingClientRect().left > before + 2;
        }""",
        arg=before,
    )


def test_one_stream_for_all_tabs(browser: Browser, page_server: PageServer) -> None:
    """Tabs that show one run read one stream; a tab that joins sees all, and takes over when the first one closes."""
    run = page_runs.forecast(start=page_runs.ago(30))
    page_server.send(run.until(30))
    with context(browser) as made:
        tabs = [made.new_page() for _ in range(3)]
        sign_in(tabs[0], page_server.url(), page_server.token)
        for tab in tabs:
            tab.goto(page_server.url(f"runs/{run.trace}"))
            events(tab, len(run.until(30)))
        wait_until(lambda: page_server.streams == 1)
        page_server.send(run.until(60))
        for tab in tabs:
            events(tab, len(run.until(60)))
        assert page_server.streams == 1
        tabs[0].close()
        page_server.send(run.until(80))
        for tab in tabs[1:]:
            events(tab, len(run.until(80)))
            live(tab)
        wait_until(lambda: page_server.streams == 1)


@pytest.mark.parametrize("hidden", [True, False], ids=["hidden", "side by side"])
def test_more_tabs_than_connections(browser: Browser, page_server: PageServer, hidden: bool) -> None:
    """Seven tabs, each of another run: those that nobody has looked at for longest let go of their streams, so that the
    next one loads and is live; one that is looked at again is live again."""
    runs = [page_runs.forecast(number, start=page_runs.ago(20)) for number in range(1, 8)]
    for run in runs:
        page_server.send(run.until(20))
    with context(browser) as made:
        made.add_init_script(
            "Object.defineProperty(document, 'visibilityState', { get: () => window.covered ?? 'visible' });"
        )
        tabs = []
        sign_in(made.new_page(), page_server.url(), page_server.token)
        for run in runs:
            if hidden and tabs:
                look(tabs[-1], "hidden")
            tabs.append(made.new_page())
            tabs[-1].goto(page_server.url(f"runs/{run.trace}"))
            events(tabs[-1], len(run.until(20)))
            live(tabs[-1])
        wait_until(lambda: page_server.streams <= 5)
        if hidden:
            state(tabs[0], "Paused")
        else:
            live(tabs[0])
        page_server.send(runs[0].until(22))
        look(tabs[0], "visible")
        live(tabs[0])
        events(tabs[0], len(runs[0].until(22)))


def look(tab: Page, how: str) -> None:
    """Cover a tab with another, or bring it to the front: headless tabs are all visible, whatever is before them."""
    tab.evaluate("how => { window.covered = how; document.dispatchEvent(new Event('visibilitychange')); }", how)


def test_a_server_that_is_killed(browser: Browser, tmp_path: Path) -> None:
    """`serve --db`, killed and started again while a producer sends: no task is lost or doubled on the screen."""
    told = facts(f"{77:032x}", "killed", TASKS)
    part = len(told) // (KILLS + 1)
    with ExitStack() as stack:
        page = stack.enter_context(context(browser, viewport={"width": 1440, "height": 2000})).new_page()
        server = stack.enter_context(Serve(tmp_path, "--db", "runs.db"))
        port, url = server.port, server.url
        sign_in(page, url + "/", TOKEN)
        page.goto(f"{url}/runs/killed")
        for first in range(0, KILLS * part, part):
            sender = threading.Thread(target=send_all, args=(url, told[first : first + part]))
            sender.start()
            page.wait_for_function(f"count => ({_COUNT})() >= count", arg=first + part // 4)
            os.kill(server.process.pid, signal.SIGKILL)
            state(page, "Reconnecting")
            server = stack.enter_context(Serve(tmp_path, "--db", "runs.db", "--port", str(port)))
            sender.join()
        send_all(url, told[KILLS * part :])
        state(page, "Finished")
        events(page, 2 * TASKS + 2)
        expect(page.locator(".facts")).to_contain_text(f"{TASKS:,} of {TASKS:,}")
        page.keyboard.press("o")
        expect(page.get_by_role("treegrid")).to_have_attribute("aria-rowcount", str(1 + 1 + TASKS))
        shown: dict[str, str] = page.evaluate(_SCROLLED)
        assert sorted(shown.values()) == sorted(["p", *(f"task_{number}" for number in range(TASKS))])
        assert page.locator(".foot-state").filter(has_text="Gap").count() == 0


def send_all(url: str, told: list[dict[str, Any]]) -> None:
    """Send events, each as often as it takes until it is acknowledged."""
    with httpx.Client(trust_env=False, timeout=5) as client:
        for event in told:
            while True:
                try:
                    if client.post(f"{url}/v1/logs", json=export([event])).status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                time.sleep(0.02)  # what a producer does, not a test


_COUNT = '() => Number(document.querySelector(".foot-end")?.innerText.replace(/[^0-9]/g, "") ?? 0)'

# The name in each row, from the first to the last.
_SCROLLED = """async () => {
  const grid = document.querySelector(".grid");
  const found = {};
  for (let top = 0; top <= grid.scrollHeight; top += 0.8 * grid.clientHeight) {
    grid.scrollTop = top;
    for (const _ of "123") await new Promise(requestAnimationFrame);
    for (const row of grid.querySelectorAll(".rows .row")) {
      found[row.ariaRowIndex] = row.querySelector(".step-name").innerText;
    }
  }
  return found;
}"""


def test_honest_states(page: Page, page_server: PageServer) -> None:
    """A server that answers 503, one that has lost its past, a store that is full: each is said, and taken back."""
    run = page_runs.forecast(start=page_runs.ago(30))
    open_run(page, page_server, run, until=30)
    live(page)
    page_server.down = True
    page_server.kill()
    page_server.start()
    state(page, "Reconnecting")
    expect(page.locator(".foot-detail")).to_contain_text("not available")
    expect(page.locator(".bar .unsure").first).to_be_attached()  # bars end where knowledge does
    page_server.log.renew()  # a log in memory after a restart
    page_server.send(run.until(30))
    page_server.down = False
    state(page, "Gap: events may be lost")
    live(page)
    expect(page.locator(".bar .unsure")).to_have_count(0)
    events(page, len(run.until(30)))


def test_a_store_that_is_full(browser: Browser) -> None:
    """A store that takes nothing more is said, on the run and in the list, and why."""
    run = page_runs.forecast(start=page_runs.ago(30))
    with PageServer(MemoryLog(max_bytes=2000)) as server, context(browser) as made:
        page = made.new_page()
        sign_in(page, server.url(), server.token)
        with pytest.raises(Exception, match="the log is full"):
            server.send(run.until(30))
        for path in ("", f"runs/{run.trace}"):
            page.goto(server.url(path))
            state(page, "Store full or read-only: the log is full")


def test_no_sign_of_life(page: Page, page_server: PageServer) -> None:
    """A run of which nothing is heard for half a minute: the page says since when, in the run and in the list, and
    takes it back."""
    run = page_runs.forecast(start=page_runs.ago(100))
    open_run(page, page_server, run, until=50)
    state(page, "No sign of life since")
    expect(page.locator(".badge")).to_have_text("no sign of life")
    expect(page.locator(".row.is-running .unsure").first).to_be_attached()
    page.goto(page_server.url())
    expect(page.locator(".run-sub")).to_contain_text("no sign of life since")
    page_server.send(run.until(99))
    expect(page.locator(".run-sub")).not_to_contain_text("no sign of life since")
    page.locator(".run-link").click()
    state(page, "Live")
    expect(page.locator(".badge")).to_have_text("running")


def test_a_run_that_is_not_there_yet(page: Page, page_server: PageServer) -> None:
    """A permalink before the first event waits for it."""
    run = page_runs.forecast(start=page_runs.ago(20))
    page.goto(page_server.url(f"runs/{run.trace}"))
    state(page, "The server does not know this run (yet)")
    page_server.send(run.until(20))
    expect(page.locator(".rows .row").filter(has_text="validate")).to_be_visible()


def test_addresses(page: Page, page_server: PageServer) -> None:
    """A run's address, by trace id or run id, shows the run; with a step it shows the step's details; and below a base
    path all of it works as well."""
    run = page_runs.forecast(fails=True)
    open_run(page, page_server, run)
    page.keyboard.press("n")
    page.wait_for_url(page_server.url(f"runs/{run.trace}?step=train.west.fit"))
    page.goto(page_server.url(f"runs/{run.run_id}?step=notify"))
    expect(page.get_by_role("complementary")).to_contain_text("models.internal closed the connection")
    expect(page.locator(".row.chosen .step-name")).to_have_text("notify")


def test_below_a_base_path(browser: Browser, tmp_path: Path) -> None:
    """`--base-path /live`: the page, with and without the slash, a run's own address, and the way back."""
    with Serve(tmp_path, "--base-path", "/live") as server, context(browser) as made:
        page = made.new_page()
        server.send(*whole_run(3), url=server.url)
        page.goto(f"http://127.0.0.1:{server.port}/live#code={server.code}")
        page.locator(".run-link").click()
        expect(page.locator(".facts")).to_contain_text("3 of 3")
        page.reload()
        expect(page.locator(".facts")).to_contain_text("3 of 3")
        page.keyboard.press("h")
        expect(page.locator(".run-link")).to_have_count(1)
        assert page.url == f"{server.url}/"
