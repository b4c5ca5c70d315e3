"""The page, where it is installed; where not, a text that says where the API is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, Protocol, cast

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from runnable_otel.server.headers import PAGE_POLICY
from runnable_otel.server.state import Refused

_PACKAGE: Final = "runnable_otel.page"
_TEXT: Final = "runnable-otel serve\n\nGET {base}/runs, {base}/events; {base}/openapi.json says more.\n"


class Asset(Protocol):
    """A file of the page."""

    @property
    def content(self) -> bytes: ...
    @property
    def media_type(self) -> str: ...
    @property
    def etag(self) -> str: ...


@lru_cache(maxsize=1)
def assets() -> Mapping[str, Asset]:
    """The page's files by their paths, without a slash before; the page itself is `index.html`, and `run.html` as seen
    from `runs/{run}`. Empty: no page."""
    if find_spec(_PACKAGE) is None:
        return {}
    page: Any = import_module(_PACKAGE)
    found = cast("Mapping[str, Asset]", page.assets() if hasattr(page, "assets") else {})
    named = {path.lstrip("/"): asset for path, asset in found.items()}
    if "" in named:
        named["index.html"] = named.pop("")
    return named


class Pages:
    """The routes of the page. They need no token: there is nothing of anybody's in it."""

    def __init__(self, base: str) -> None:
        self._base = base

    async def index(self, request: Request) -> Response:
        """`GET /`."""
        return self._page(request, "index.html")

    async def run(self, request: Request) -> Response:
        """`GET /runs/{run}` for a browser."""
        return self._page(request, "run.html")

    async def below(self, _: Request) -> Response:
        """`GET {base}` without a slash: the page names its files as seen from `{base}/`."""
        return RedirectResponse(f"{self._base}/", 308)

    def _page(self, request: Request, name: str) -> Response:
        if name not in assets():
            return PlainTextResponse(_TEXT.format(base=self._base))
        return _answer(request, assets()[name])

    async def asset(self, request: Request) -> Response:
        """`GET /assets/…`."""
        path: str = request.path_params["path"]
        found = assets().get(f"assets/{path}") or assets().get(path)
        if found is None:
            raise Refused(404, "no such file")
        return _answer(request, found)


def _answer(request: Request, asset: Asset) -> Response:
    etag = f'"{asset.etag.strip(chr(34))}"'
    told = {"ETag": etag, "Cache-Control": "no-cache", "Content-Security-Policy": PAGE_POLICY, "Vary": "Accept"}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=told)
    return Response(asset.content, headers=told, media_type=asset.media_type)
