"""The page that `runnable-otel serve` shows: files, served as they are. There is no build step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Final

_FOLDER: Final = Path(__file__).parent / "static"
_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page.

    Attributes:
        content: its bytes.
        media_type: what its `Content-Type` says.
        etag: changes with the content; without quotes.
    """

    content: bytes
    media_type: str
    etag: str


def assets() -> Mapping[str, Asset]:
    """The page's files by their paths below the server's base path, read anew at each call.

    `index.html` is the page of `/`, `run.html` the same page for `/runs/{run}`: each names the other files,
    `assets/…`, as seen from there. So the page works below any base path, and no file is made for a request.
    """
    found: dict[str, Asset] = {}
    for path, content in _files():
        if path == "index.html":
            found[path] = _asset(path, content)
            found["run.html"] = _asset(path, content.replace(b'="assets/', b'="../assets/'))
        else:
            found[f"assets/{path}"] = _asset(path, content)
    return MappingProxyType(found)


def _asset(path: str, content: bytes) -> Asset:
    return Asset(content, _TYPES[path.rpartition(".")[2]], sha256(content).hexdigest()[:16])


def _files() -> Iterator[tuple[str, bytes]]:
    for file in sorted(_FOLDER.rglob("*")):
        if file.suffix.lstrip(".") in _TYPES:
            yield file.relative_to(_FOLDER).as_posix(), file.read_bytes()
