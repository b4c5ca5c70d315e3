"""Pages of others in a real browser, on the machine of somebody who is signed in: none reads, and none writes.

`web/evil.js` is what such a page does. That its attempts reach the server, and would write if they were let in, is
shown too.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from support.web import skip_without

skip_without("playwright", "starlette", "uvicorn", "httptools", "httpx")

import httpx  # noqa: E402 - it may be missing
from playwright.sync_api import Browser, BrowserContext, Frame, Page, expect  # noqa: E402

from support.browser import chromium, context, sign_in  # noqa: E402
from support.page_server import PageServer  # noqa: E402
from support.serve import export, started, task  # noqa: E402
from support.waiting import wait_until  # noqa: E402

pytestmark = pytest.mark.browser
EVIL = (Path(__file__).parent / "web" / "evil.js").read_text()
SECRET = "the-name-of-the-run"
BODY = json.dumps(export([started(7)]), separators=(",", ":"))
HTML = "<!doctype html><title>evil</title><body>"
SANDBOX = "allow-scripts allow-forms allow-popups allow-popups-to-escape-sandbox allow-top-navigation"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for which a name of others points to this machine, as after a rebinding."""
    with chromium("--host-resolver-rules=MAP evil.test 127.0.0.1", "--disable-popup-blocking") as browser:
        yield browser


class Evil(BaseHTTPRequestHandler):
    """The server of the page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(HTML.encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def others(port: int = 0) -> Iterator[int]:
    """The page's server; its port."""
    server = ThreadingHTTPServer(("127.0.0.1", port), Evil)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def somebody(browser: Browser, server: PageServer) -> Iterator[BrowserContext]:
    """A browser's user who is signed in at the server, and sees its runs."""
    server.send([started(1, name=SECRET), task(0, 1)])
    with context(browser) as made:
        page = made.new_page()
        sign_in(page, server.url(), server.token)
        page.goto(server.url())
        expect(page.get_by_text(SECRET)).to_be_visible()
        yield made


def runs(server: PageServer) -> Any:
    """What is stored."""
    headers = {"Authorization": f"Bearer {server.token}"}
    return httpx.get(server.url("runs"), headers=headers, trust_env=False).json()["runs"]


def attack(frame: Page | Frame, server: PageServer, base: str) -> dict[str, str]:
    """Try all from a page, and check that nothing was written; what it read is returned."""
    before, asked = runs(server), server.asked.count("POST /v1/logs")
    tried: dict[str, Any] = frame.evaluate(EVIL, {"base": base, "body": BODY})
    wait_until(lambda: server.asked.count("POST /v1/logs") >= asked + tried["posts"], "the attempts to write")
    assert runs(server) == before
    return tried["found"]


def nothing_shown(made: BrowserContext, page: Page) -> None:
    """No frame shows anything of the server's, and no window that the page opened, but its refusal."""
    for frame in page.frames[1:]:
        assert frame.url.startswith(("chrome-error://", "about:srcdoc")), frame.url
    # Playwright hears of them while it is asked something.
    wait_until(lambda: page.evaluate("1") and len(made.pages) == 4, f"windows: {made.pages}")
    for each in made.pages[2:]:
        each.wait_for_load_state()
        content = each.content()
        assert SECRET not in content
        assert "not allowed here" in content


READ_NOTHING = {"error", "opaque", "sent"}


def unread(found: dict[str, str], *also: str) -> None:
    """Nothing but what is allowed came back."""
    assert SECRET not in json.dumps(found)
    read = {name: said for name, said in found.items() if said not in READ_NOTHING and not said.startswith(also)}
    assert not read
    assert len(found) > 70


@pytest.mark.parametrize("host", ["127.0.0.1", "evil.test"])
@pytest.mark.parametrize("called", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("sandboxed", [False, True], ids=["page", "sandboxed"])
def test_a_page_of_others(browser: Browser, page_server: PageServer, host: str, called: str, sandboxed: bool) -> None:
    """A page on another port of this machine, or of another host, also in a sandboxed `srcdoc` frame, whose origin is
    `null`: it reads nothing, writes nothing, frames nothing, and gets no window to talk to."""
    with somebody(browser, page_server) as made, others() as port:
        page = made.new_page()
        page.goto(f"http://{host}:{port}/")
        place: Page | Frame = sandbox(page) if sandboxed else page
        unread(attack(place, page_server, f"http://{called}:{page_server.port}"))
        nothing_shown(made, page)


@pytest.mark.parametrize("sandboxed", [False, True], ids=["page", "sandboxed"])
def test_a_rebound_name(browser: Browser, page_server: PageServer, sandboxed: bool) -> None:
    """A page whose own name and port have come to be the server's, so that to the browser it is the page's own: each
    answer is 403, with the reason and no more."""
    refused = '403 {"error":"this host name is not allowed here: see --allowed-host"}'
    with somebody(browser, page_server) as made:
        page, origin = made.new_page(), f"http://evil.test:{page_server.port}"
        page.goto(f"{origin}/")
        assert "not allowed here" in page.content()
        page_server.kill()
        with others(page_server.port):
            page.goto(f"{origin}/")
            assert page.title() == "evil"
        page_server.start()
        place: Page | Frame = sandbox(page) if sandboxed else page
        found = attack(place, page_server, origin)
        unread(found, refused, "403 ")
        assert all(said == refused for said in found.values() if said.startswith("403 {"))
        assert sandboxed or found["GET /runs cors omit"] == refused
        nothing_shown(made, page)
        assert page.evaluate("localStorage.length") == 0


def sandbox(page: Page) -> Frame:
    """A frame in it whose origin is `null`."""
    page.evaluate(
        """async ([text, sandbox]) => {
          const frame = Object.assign(document.createElement("iframe"), { srcdoc: text });
          frame.sandbox = sandbox;
          await new Promise((resolve) => { frame.onload = resolve; document.body.append(frame); });
        }""",
        [HTML, SANDBOX],
    )
    (frame,) = page.frames[1:]
    assert frame.evaluate("self.origin") == "null"
    return frame


def test_what_the_attempts_would_do(browser: Browser, page_server: PageServer) -> None:
    """The server's own page, with the token, reads what the others do not; and what they send is an export request."""
    with somebody(browser, page_server) as made:
        page = made.new_page()
        page.goto(page_server.url())
        read = page.evaluate(
            "async (token) => (await fetch('/runs', {headers: {Authorization: `Bearer ${token}`}})).text()",
            page_server.token,
        )
        assert SECRET in read
        before = len(runs(page_server))
        json_type = {"Content-Type": "application/json"}
        answer = httpx.post(page_server.url("v1/logs"), content=BODY, headers=json_type, trust_env=False)
        assert answer.status_code == 200
        assert len(runs(page_server)) == before + 1
