"""Pictures of the page, light and dark, on a desk and on a phone: `make screenshots`.

All of them go to build/screenshots, to be looked at; the two that the README shows, to examples/screenshots.
"""

from __future__ import annotations

import base64
import itertools
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

from playwright.sync_api import Browser, Page

from support import page_runs
from support.browser import chromium, context, events, sign_in
from support.page_server import PageServer

ROOT = Path(__file__).parent.parent
ALL = ROOT / "build" / "screenshots"
SHOWN = ROOT / "examples" / "screenshots"
SIZES = {"desk": (1440, 900), "phone": (390, 844)}
README = {("failed", "light", "desk"): "run-failed.webp", ("running", "dark", "desk"): "run-live.webp"}
QUALITY = 90
# Of the fonts that the page asks for, this machine may have none that reads well.
FONTS = ':root { --sans: "Inter", system-ui, sans-serif; --mono: "JetBrains Mono", ui-monospace, monospace; }'


class Scene(NamedTuple):
    """A view: the run that it shows (empty: the list), the second until which it has come, and what is pressed."""

    run: str
    until: float = float("inf")
    keys: tuple[str, ...] = ()
    step: str = ""


SCENES = {
    "runs": Scene(""),
    "running": Scene("running", 75, step="train.north.fit"),
    "finished": Scene("finished"),
    "failed": Scene("failed", keys=("n",)),
    "ten-thousand": Scene("large"),
    "filtered": Scene("large", keys=("/", *"part-0249")),
    "values": Scene("finished", step="prepare.weather.fetch"),
    "keys": Scene("failed", keys=("?",)),
}


def runs(now: datetime) -> dict[str, page_runs.Run]:
    """The runs that are shown, as of now."""
    return {
        "running": page_runs.forecast(1, start=now - timedelta(seconds=76)),
        "finished": page_runs.forecast(2, start=now - timedelta(minutes=51)),
        "failed": page_runs.forecast(3, fails=True, start=now - timedelta(minutes=18)),
        "large": page_runs.large(10_000, 4, start=now - timedelta(hours=3)),
    }


def shoot(browser: Browser, name: str, scene: Scene, scheme: str, size: str) -> None:
    """Take one picture, of a server of its own: what runs there runs at that moment."""
    width, height = SIZES[size]
    made_at = runs(datetime.now(timezone.utc))
    scale = 2 if size == "phone" else 1
    with (
        PageServer() as server,
        context(
            browser,
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            bypass_csp=True,
            device_scale_factor=scale,
        ) as made,
    ):
        for key, run in made_at.items():
            if key in (scene.run or key):
                server.send(run.until(SCENES["running"].until if key == "running" else scene.until))
        page = made.new_page()
        sign_in(page, server.url(), server.token)
        page.goto(server.url(f"runs/{made_at[scene.run].trace}" if scene.run else ""))
        page.add_style_tag(content=FONTS)
        if scene.run:
            events(page, len(made_at[scene.run].until(scene.until)))
        page.locator(".run-link, .rows .row").first.wait_for()
        if scene.step:
            page.goto(f"{page.url}?step={scene.step}")
            page.add_style_tag(content=FONTS)
            page.get_by_role("complementary").wait_for()
        for key in scene.keys:
            page.keyboard.press(key)
        page.wait_for_timeout(700)
        page.screenshot(path=ALL / f"{name}-{scheme}-{size}.png")
        if (name, scheme, size) in README:
            (SHOWN / README[name, scheme, size]).write_bytes(webp(page))


def webp(page: Page) -> bytes:
    """What the page shows, as WebP."""
    session = page.context.new_cdp_session(page)
    taken = session.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
    return base64.b64decode(taken["data"])


def main() -> None:
    """Take all pictures, or those whose names contain one of the arguments."""
    ALL.mkdir(parents=True, exist_ok=True)
    SHOWN.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for (name, scene), scheme, size in itertools.product(SCENES.items(), ("light", "dark"), SIZES):
            if len(sys.argv) == 1 or any(word in f"{name}-{scheme}-{size}" for word in sys.argv[1:]):
                shoot(browser, name, scene, scheme, size)
    for each in (*sorted(ALL.glob("*.png")), *sorted(SHOWN.glob("*.webp"))):
        print(f"{each.relative_to(ROOT)}  {each.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
