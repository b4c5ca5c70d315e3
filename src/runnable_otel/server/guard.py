"""What stands before every route: who may come at all. Pure ASGI; nothing behind it runs for a request that is refused.

A browser lets any page send requests to a server on this machine, and a DNS name may point here while the page under
that name runs (rebinding). So each request must name a host that we are called by, and none may come from another page.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runnable_otel.server import headers
from runnable_otel.server.replies import error
from runnable_otel.server.tokens import Tokens

logger = logging.getLogger(__name__)

LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")
"""The names of this machine that need no setting."""
MAX_HEADERS: Final = 32 * 1024
MAX_QUERY: Final = 4 * 1024
MAX_PATH: Final = 4 * 1024

_PREFLIGHT: Final = (
    (b"access-control-allow-methods", b"GET, HEAD, POST"),
    (b"access-control-allow-headers", b"authorization, content-type, content-encoding, last-event-id"),
    (b"access-control-max-age", b"600"),
)


class Guard:
    """Lets through what may come in, and puts the security headers on every answer.

    Args:
        app: what stands behind it.
        tokens: a valid one of these replaces the list of hosts: no other page knows it.
        allowed_hosts: names, without port, that the server is called by, beside `LOCAL_NAMES`.
        cors: origins of other pages that may read with a token, such as `https://dash.example`.
    """

    def __init__(
        self, app: ASGIApp, *, tokens: Tokens, allowed_hosts: Collection[str] = (), cors: Sequence[str] = ()
    ) -> None:
        self._app, self._tokens = app, tokens
        self._hosts = {*LOCAL_NAMES, *(name.lower() for name in allowed_hosts)}
        self._cors = frozenset(cors)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: 403
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, origin = False, self._asking(scope)

        async def secured(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = headers.secured([*message.get("headers", []), *origin])
            await send(message)

        answer = self._refusal(scope) or self._preflight(scope)
        try:
            await (answer or self._app)(scope, receive, secured)
        except Exception:
            if started:
                raise
            logger.exception("a request failed")
            await error(500, "this is a bug of the server; its log says more")(scope, receive, secured)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADERS:
            return error(431, f"the headers are longer than {MAX_HEADERS} bytes")
        if len(scope["query_string"]) > MAX_QUERY or len(scope["path"]) > MAX_PATH:
            return error(414, f"the path or the query is longer than {MAX_QUERY} bytes")
        host = headers.single(scope, b"host")
        if not self._is_known(scope, host):
            return error(403, "this host name is not allowed here: see --allowed-host")
        if not self._is_own_page(scope, host):
            return error(403, "requests from other pages are not allowed here")
        return None

    def _is_known(self, scope: Scope, host: str | None) -> bool:
        token = headers.bearer(scope)
        if self._tokens.reads(token) or self._tokens.writes(token):
            return True
        return host is not None and headers.host_name(host) in self._hosts

    def _is_own_page(self, scope: Scope, host: str | None) -> bool:
        """Whether a request comes from no page, from our own, or from one that is asked for."""
        origins = headers.values(scope, b"origin")
        if len(origins) == 1 and origins[0] in self._cors:
            return True
        sites = headers.values(scope, b"sec-fetch-site")
        if any(site not in ("none", "same-origin") for site in sites):
            return False
        return not origins or (len(origins) == 1 and host is not None and _netloc(origins[0]) == host.lower())

    def _asking(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """What tells the browser that a page of the list may read the answer."""
        if not self._cors:
            return []
        origins = headers.values(scope, b"origin")
        allowed = [origin for origin in origins if origin in self._cors and len(origins) == 1]
        return [(b"vary", b"Origin"), *((b"access-control-allow-origin", origin.encode()) for origin in allowed)]

    def _preflight(self, scope: Scope) -> ASGIApp | None:
        if scope["method"] != "OPTIONS" or headers.single(scope, b"origin") not in self._cors:
            return None

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 204, "headers": list(_PREFLIGHT)})
            await send({"type": "http.response.body", "body": b""})

        return answer


def _netloc(origin: str) -> str | None:
    """Host and port of a web page's origin; None for `null`, an extension, or what is none."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme in ("http", "https") and not parts.path else None
