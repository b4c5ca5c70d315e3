"""The JSON routes: runs, health, and the exchange of a code for a token."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final, cast

from starlette.requests import Request
from starlette.responses import Response

from runnable_otel.log import Health
from runnable_otel.log.pages import start_of_page
from runnable_otel.server import headers
from runnable_otel.server.bodies import read_body
from runnable_otel.server.replies import as_json
from runnable_otel.server.state import Refused, State, run_of

STATUSES: Final = ("running", "success", "error", "cancelled")
MAX_LIMIT: Final = 1000
MAX_TEXT: Final = 256
MAX_BEFORE: Final = 512
_MAX_CODE_BODY: Final = 4096


class Api:
    """The routes, as methods that take a request."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def runs(self, request: Request) -> Response:
        """`GET /runs`: summaries, the newest first."""
        state = self._state
        state.check_reader(request.scope)
        query = request.query_params
        status, text, before = (query.get(name, "") for name in ("status", "text", "before"))
        if status and status not in STATUSES:
            raise Refused(400, f"status is one of {', '.join(STATUSES)}")
        if len(text) > MAX_TEXT or len(before) > MAX_BEFORE:
            raise Refused(400, f"text has at most {MAX_TEXT} characters, before at most {MAX_BEFORE}")
        if before and not start_of_page(before):
            raise Refused(400, "before is the value of next in the page before this one")
        limit = _limit(query.get("limit", "100"))
        page = await state.call(state.log.runs, limit=limit, before=before, status=status, text=text)
        return as_json({"runs": list(page.runs), "next": page.before or None})

    async def run(self, request: Request) -> Response:
        """`GET /runs/{run}`: the summary of one."""
        state = self._state
        state.check_reader(request.scope)
        summary = await state.call(state.log.run, run_of(request))
        if summary is None:
            raise Refused(404, "no such run")
        return as_json(dict(summary), headers={"Vary": "Accept"})

    async def token(self, request: Request) -> Response:
        """`POST /token`: the token for a code."""
        if headers.media_type(request.scope) != "application/json":
            raise Refused(415, "the body is application/json")
        body = await read_body(request.scope, request.receive, _MAX_CODE_BODY)
        try:
            data: object = json.loads(body)
        except (ValueError, RecursionError):
            data = None
        code: object = cast("dict[str, Any]", data).get("code") if isinstance(data, dict) else None
        if not isinstance(code, str):
            raise Refused(400, 'the body is {"code": "…"}')
        token = self._state.tokens.exchange(code)
        if token is None:
            raise Refused(403, "this code is not valid, or not any more: start the server anew for another one")
        return as_json({"token": token})

    async def healthz(self, request: Request) -> Response:
        """`GET /healthz`: whether events can be taken; how many there are is for readers."""
        state = self._state
        try:
            health = await state.fanout.ask(state.log.health)
        except asyncio.TimeoutError:
            health = Health(False, "the store does not answer")
        said: dict[str, Any] = {"status": "ok"} if health.ok else {"status": "unavailable", "reason": health.reason}
        if state.tokens.reads(headers.bearer(request.scope)):
            said.update(health.numbers, streams=len(state.fanout))
        return as_json(said, 200 if health.ok else 503)


def _limit(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 4 else 0
    if not 1 <= number <= MAX_LIMIT:
        raise Refused(400, f"limit is a whole number from 1 to {MAX_LIMIT}")
    return number
