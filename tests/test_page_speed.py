"""How fast the page is: figures are printed; asserted is only what must be on the screen, and how much work is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles
from textwrap import dedent

import pytest

from support.web import skip_without

skip_without("playwright", "starlette", "uvicorn", "httptools")

from playwright.sync_api import Browser, Page, expect  # noqa: E402 - it may be missing

from support import page_runs  # noqa: E402
from support.browser import context, events, sign_in, state  # noqa: E402
from support.page_server import PageServer  # noqa: E402
from support.project import Project  # noqa: E402
from support.serve import TOKEN, Serve  # noqa: E402

pytestmark = pytest.mark.browser
STEPS = 60
MANY = 10_000
RATE = 100
SECONDS = 10

_PIPELINE = dedent("""
    from runnable import Pipeline, PythonTask

    def work(n: int = 1) -> int:
        return n + 1

    def main():
        steps = [PythonTask(name=f"step_{n:03}", function=work, returns=["n"]) for n in range(STEPS)]
        pipeline = Pipeline(name="followed", steps=steps)
        pipeline.execute()
        return pipeline

    if __name__ == "__main__":
        main()
""")

# When each step was first seen in each of its states: after the frame in which it changed, by the clock of the machine.
_FIRST_SEEN = """() => {
  window.firstSeen = {};
  const look = () => {
    for (const row of document.querySelectorAll(".rows .row.kind-task")) {
      const state = row.classList.contains("is-running") ? "start" : row.classList.contains("is-success") ? "end" : "";
      const key = `${row.querySelector(".step-name").innerText}:${state}`;
      if (state && !(key in firstSeen)) {
        firstSeen[key] = null;
        requestAnimationFrame(() => setTimeout(() => { firstSeen[key] = Date.now(); }));
      }
    }
  };
  new MutationObserver(look).observe(document.querySelector("#app"), { subtree: true, childList: true, attributes: true });
}"""  # noqa: E501


def test_a_real_pipeline_is_followed(
    browser: Browser, project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real pipeline in a process of its own, `serve` in another: each start and end of a task comes to the screen.
    Prints how long after it happened."""
    (project.folder / "followed.py").write_text(_PIPELINE.replace("STEPS", str(STEPS)))
    with Serve(tmp_path) as server, context(browser, viewport={"width": 1440, "height": 2200}) as made:
        page = made.new_page()
        sign_in(page, server.url + "/", TOKEN)
        page.goto(server.url + "/")
        state(page, "Live")
        running = threading.Thread(
            target=project.command,
            args=(project.python, "followed.py"),
            kwargs={"RUNNABLE_OTEL_SINKS": "otlp:", "OTEL_EXPORTER_OTLP_ENDPOINT": server.otlp,
                    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
        )  # fmt: skip
        running.start()
        page.locator(".run-link").click()
        page.evaluate(_FIRST_SEEN)
        state(page, "Finished")
        expect(page.locator(".facts")).to_contain_text(f"{STEPS} of {STEPS}")
        running.join()
        seen: dict[str, float] = page.evaluate("firstSeen")
        with server.client(Accept="application/json") as client:
            run = client.get("/runs").json()["runs"][0]["trace_id"]
            told = client.get(f"/runs/{run}/events").json()["events"]
    edges = {"task_started": "start", "task_completed": "end"}
    happened = {f"{each['step']}:{edges[each['type']]}": each for each in told if each["type"] in edges}
    ends = [key for key in happened if key.endswith(":end")]
    assert set(ends) <= set(seen)
    # A task that began and ended between two frames was never seen to run; one that ran before the page was there,
    # no sooner than that.
    late = [seen[key] - 1000 * page_runs.seconds(happened[key]["time"]) for key in seen if key in happened]
    with capsys.disabled():
        print(f"\n{len(late)} facts of a real pipeline, event to screen: {_figures(late)}")


def _figures(milliseconds: list[float]) -> str:
    cuts = quantiles(milliseconds, n=100)
    return f"{cuts[49]:.0f} ms median, {cuts[98]:.0f} ms p99"


# The number of events that the screen shows, and since when: after the frame in which it changed.
_SCREEN = """() => {
  window.shown = [];
  const foot = document.querySelector(".foot-end");
  new MutationObserver(() => {
    const count = Number(foot.innerText.replace(/[^0-9]/g, ""));
    requestAnimationFrame(() => setTimeout(() => shown.push([count, Date.now()])));
  }).observe(foot, { subtree: true, characterData: true, childList: true });
  Object.assign(seen, { longest: 0, tasks: 0, over: 0 });
}"""


class Stream:
    """Sends events at a rate while the page shows them; `late`: milliseconds until each was on the screen."""

    def __init__(self, page: Page, server: PageServer, told: list[page_runs.Event], before: int, rate: float) -> None:
        page.evaluate(_SCREEN)
        self.sent: list[float] = []
        sender = threading.Thread(target=self._send, args=(server, told, 1 / rate))
        sender.start()
        events(page, before + len(told))
        sender.join()
        page.wait_for_function("count => shown.at(-1)?.[0] >= count", arg=before + len(told))
        shown: list[tuple[int, float]] = page.evaluate("shown")
        self.late = sorted(self._delays(shown, before))
        self.rate = (len(told) - 1) / (self.sent[-1] - self.sent[0])
        self.longest, self.tasks, self.over = page.evaluate("[seen.longest, seen.tasks, seen.over]")

    def _send(self, server: PageServer, told: list[page_runs.Event], pace: float) -> None:
        waiting, next_at = threading.Event(), time.monotonic()
        for event in told:
            waiting.wait(max(0.0, next_at - time.monotonic()))
            next_at += pace
            self.sent.append(time.time())
            server.send([event])

    def _delays(self, shown: list[tuple[int, float]], before: int) -> Iterator[float]:
        at = 0
        for number, sent in enumerate(self.sent, start=before + 1):
            while shown[at][0] < number:
                at += 1
            yield shown[at][1] - sent * 1000

    def __str__(self) -> str:
        return (
            f"{self.rate:.0f} updates a second, event to screen {_figures(self.late)}; of the main thread's tasks"
            f" {self.tasks} took over 50 ms and {self.over} over 100 ms, the longest {self.longest:.0f} ms"
        )


def test_ten_thousand_tasks(browser: Browser, page_server: PageServer, capsys: pytest.CaptureFixture[str]) -> None:
    """10,000 tasks: all are counted, only what is seen is drawn. Prints first paint, time to all, update, memory."""
    run = page_runs.large(MANY)
    told = run.until()
    before = len(told) - 200
    page_server.send(told[:before])
    with context(browser) as made:
        page = made.new_page()
        session = made.new_cdp_session(page)
        sign_in(page, page_server.url(), page_server.token)
        page.goto(page_server.url(f"runs/{run.trace}"))
        events(page, before)
        all_there = page.evaluate("performance.now()")
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        loading = page.evaluate("seen.longest")
        page.keyboard.press("o")
        expect(page.locator(".rows .row").nth(20)).to_be_visible()
        assert page.locator(".rows .row").count() < 80
        stream = Stream(page, page_server, told[before:], before, 20)
        state(page, "Finished")
        expect(page.locator(".facts")).to_contain_text(f"of {MANY:,}")
        expect(page.get_by_role("treegrid")).to_have_attribute("aria-rowcount", str(1 + 1 + 1 + 40 + MANY))
        page.evaluate("seen.longest = 0")
        for _ in range(3):
            page.keyboard.press("n")
        page.keyboard.press("/")
        page.keyboard.type("part-0249")
        expect(page.locator(".matches")).to_have_text("40 found")
        hands = page.evaluate("seen.longest")
        session.send("HeapProfiler.collectGarbage")
        heap = session.send("Runtime.getHeapUsage")["usedSize"] / 1e6
    with capsys.disabled():
        print(
            f"\n{MANY:,} tasks: first paint {paint:.0f} ms, all there after {all_there:.0f} ms; longest task of the"
            f" main thread {loading:.0f} ms until then, {hands:.0f} ms for a user's keys; heap {heap:.0f} MB; {stream}"
        )
    assert heap < 200


def test_a_hundred_updates_a_second(page: Page, page_server: PageServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten seconds of 100 events each: all are shown, and the main thread stays free. Prints how free."""
    told = page_runs.large(RATE * SECONDS, branches=10, start=page_runs.ago(60)).until()[: RATE * SECONDS + 1]
    page_server.send(told[:1])
    page.goto(page_server.url(f"runs/{told[0]['trace_id']}"))
    events(page, 1)
    stream = Stream(page, page_server, told[1:], 1, RATE)
    with capsys.disabled():
        print(f"\n{stream}")
    assert len(stream.late) == len(told) - 1
    assert stream.over <= SECONDS  # 0 on a machine that has nothing else to do
