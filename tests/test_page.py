"""The page's files, and its modules that need no browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from runnable_otel import page
from support.environments import ROOT
from support.web import skip_without

TESTS = sorted((ROOT / "tests" / "page").glob("*.test.mjs"))
STATIC = Path(page.__file__).parent / "static"


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.name)
def test_modules(file: Path) -> None:
    """What the tests under node promise, of the files in the wheel."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    environment = {"PAGE_FOLDER": str(STATIC), "PATH": "/usr/bin:/bin", "TZ": "UTC"}
    done = subprocess.run([node, "--test", str(file)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^# pass [1-9]", done.stdout, re.MULTILINE), done.stdout


def test_every_file_is_named_by_another() -> None:
    """Each import and each link leads to a file of the page, and no file is left over."""
    found = page.assets()
    named = {"index.html", "run.html", "assets/vendor/LICENCES.txt"}
    for path, asset in found.items():
        text = asset.content.decode()
        if path == "index.html":
            named |= set(re.findall(r'="(assets/[^"]+)"', text))
        elif path.endswith(".js") and "vendor" not in path:
            folder = Path("/" + path).parent
            named |= {
                str((folder / each).resolve())[1:]
                for each in re.findall(r'^import .*?"(\.[^"]+)";$', text, re.MULTILINE)
            }
            named |= set(re.findall(r'"(assets/[^"]+)"', text))
            assert not re.search(r"https?://(?!www\.w3\.org|localhost)[a-z]", text), f"{path} names another host"
    assert named == set(found)


def test_both_pages_lead_to_the_same_files() -> None:
    """`/` and `/runs/{run}` are one page: each names the files as seen from there, so that any base path works."""
    found = page.assets()
    index, run = found["index.html"].content.decode(), found["run.html"].content.decode()
    assert 'src="assets/app.js"' in index
    assert run == index.replace('="assets/', '="../assets/')


def test_nothing_inline() -> None:
    """The strict policy allows no script, style or handler in the HTML, and no source of one in the modules."""
    found = page.assets()
    html = found["index.html"].content.decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", html)
    for path, asset in found.items():
        if path.endswith(".js") and "vendor" not in path:
            assert not re.search(
                r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|dangerously",
                asset.content.decode(),
            ), path


def test_types_and_tags() -> None:
    """Each file has the type that browsers ask for under nosniff, and a tag that changes with its content."""
    found = page.assets()
    assert found["assets/app.js"].media_type.startswith("text/javascript")
    assert found["assets/style/base.css"].media_type.startswith("text/css")
    assert found["assets/icon.svg"].media_type == "image/svg+xml"
    assert len({asset.etag for asset in found.values()}) == len(found)


def test_modules_are_small() -> None:
    """One idea a module: none of ours has 300 lines or more."""
    long = {
        path: asset.content.count(b"\n")
        for path, asset in page.assets().items()
        if path.endswith(".js") and "vendor" not in path
    }
    assert not {path: lines for path, lines in long.items() if lines >= 300}


@pytest.mark.parametrize("base", ["", "/live"])
def test_the_server_has_what_the_page_names(tmp_path: Path, base: str) -> None:
    """On the real server each file that the page names is where it is named, as seen from the list and from a run."""
    skip_without("starlette", "uvicorn", "httptools", "httpx", "psutil")
    import httpx

    from support.serve import Serve

    with Serve(tmp_path, "--base-path", base) as server, httpx.Client(trust_env=False, follow_redirects=True) as client:
        seen = set()
        for path in (base, f"{base}/", f"{base}/runs/any"):
            page = client.get(f"http://127.0.0.1:{server.port}{path}", headers={"Accept": "text/html"})
            named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
            assert len(named) > 5
            for name in named:
                answer = client.get(page.url.join(name))
                assert answer.status_code == 200
                seen.add((str(answer.url), answer.headers["content-type"]))
        assert len(seen) == len(named)
