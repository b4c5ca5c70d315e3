"""The routes of the page, whose files are read once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from runnable_otel import page
from runnable_otel.page import Asset
from runnable_otel.server.headers import PAGE_POLICY
from runnable_otel.server.state import Refused


@lru_cache(maxsize=1)
def _assets() -> Mapping[str, Asset]:
    return page.assets()


class Pages:
    """The routes of the page. They need no token: there is nothing of anybody's in it."""

    def __init__(self, base: str) -> None:
        self._base = base

    async def index(self, request: Request) -> Response:
        """`GET /`."""
        return _answer(request, _assets()["index.html"])

    async def run(self, request: Request) -> Response:
        """`GET /runs/{run}` for a browser."""
        return _answer(request, _assets()["run.html"])

    async def below(self, _: Request) -> Response:
        """`GET {base}` without a slash: the page names its files as seen from `{base}/`."""
        return RedirectResponse(f"{self._base}/", 308)

    async def asset(self, request: Request) -> Response:
        """`GET /assets/…`."""
        path: str = request.path_params["path"]
        found = _assets().get(f"assets/{path}")
        if found is None:
            raise Refused(404, "no such file")
        return _answer(request, found)


def _answer(request: Request, asset: Asset) -> Response:
    etag = f'"{asset.etag}"'
    told = {"ETag": etag, "Cache-Control": "no-cache", "Content-Security-Policy": PAGE_POLICY, "Vary": "Accept"}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=told)
    return Response(asset.content, headers=told, media_type=asset.media_type)
