"""`create_app`: the routes, behind the guard, as an app to serve or to mount."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from runnable_otel.fanout import Fanout
from runnable_otel.log import EventLog
from runnable_otel.log.memory import LOG
from runnable_otel.server.api import Api
from runnable_otel.server.guard import Guard
from runnable_otel.server.openapi import document
from runnable_otel.server.options import Options
from runnable_otel.server.pages import Pages
from runnable_otel.server.receive import SIGNALS, Ingest
from runnable_otel.server.replies import as_json, error
from runnable_otel.server.state import Refused, State, on_refused
from runnable_otel.server.streams import Events
from runnable_otel.server.tokens import Tokens


def create_app(
    log: EventLog | None = None,
    *,
    token: str | None = None,
    ingest_token: str | None = None,
    allowed_hosts: Sequence[str] | None = None,
    base_path: str | None = None,
    cors: Sequence[str] | None = None,
) -> Starlette:
    """The live server as an app: the page, the JSON API, streams of events, and OTLP ingest.

    Mount it in an app of yours, or give it to a server of yours; it needs no lifespan. When uvicorn stops, the streams
    end, so that clients come again; what `sse_response` says of a client that has stopped reading is true here too. An
    argument that is not given comes from its `RUNNABLE_OTEL_SERVE_*`; where and how long runs are kept is the log's
    affair, so `…_DB` and `…_RETAIN_RUNS` are for the command. `app.state.tokens` holds the readers' token (`.token`)
    and makes one-time codes for the page (`.code()`): link to `…/#code={code}`.

    Args:
        log: what is shown; unless told the log of this process, which the sink `memory:` writes.
        token: for readers; a random one unless told.
        ingest_token: for OTLP; without it only this machine may write, directly.
        allowed_hosts: names, without port, that the server is called by, beside `localhost`, `127.0.0.1` and `[::1]`.
        base_path: what stands before all paths, such as `/live`, where a proxy or server does not take it away. An app
            that is mounted needs none.
        cors: origins of other pages that may read, with a token.

    Raises:
        SettingError: a value is out of range.
        ModuleNotFoundError: Starlette is not installed; `pip install 'runnable-otel[serve]'`.
    """
    options = Options.read(
        token=token, ingest_token=ingest_token, allowed_hosts=allowed_hosts, base_path=base_path, cors=cors
    )
    return build(make_state(LOG if log is None else log, options), options)


def make_state(log: EventLog, options: Options) -> State:
    """What the apps of one server share."""
    tokens = Tokens(options.token or None, options.ingest_token or None)
    return State(log, tokens, Fanout(blocks=log.blocks), options.max_streams, options.max_streams_per_address)


def build(state: State, options: Options, *, ingest_only: bool = False) -> Starlette:
    """An app of these options.

    Args:
        ingest_only: it takes OTLP and says whether it is well, no more.
    """
    guard = Middleware(Guard, tokens=state.tokens, allowed_hosts=options.allowed_hosts, cors=options.cors)
    app = Starlette(
        routes=_routes(state, options, ingest_only=ingest_only),
        middleware=[guard],
        exception_handlers={Refused: on_refused, HTTPException: _on_http},
    )
    app.router.redirect_slashes = False
    app.state.tokens = state.tokens
    return app


def by_port(app: ASGIApp, apps: Mapping[int, ASGIApp]) -> ASGIApp:
    """An app that is another one on some of the ports that this process listens on."""

    async def choose(scope: Scope, receive: Receive, send: Send) -> None:
        # The address of the connection's own end, which no header can change.
        port = (scope.get("server") or ("", 0))[1]
        await apps.get(port, app)(scope, receive, send)

    return choose


def _routes(state: State, options: Options, *, ingest_only: bool) -> list[Route]:
    base, api, events, pages, ingest = (
        options.base_path,
        Api(state),
        Events(state),
        Pages(options.base_path),
        Ingest(state),
    )
    described = document(base)

    async def run(request: Request) -> Response:
        accept = request.headers.get("accept", "")
        return await (pages.run if "text/html" in accept else api.run)(request)

    async def openapi(_: Request) -> Response:
        return as_json(described)

    writing = [Route(f"{base}/v1/{signal}", ingest.endpoint(signal), methods=["POST"]) for signal in SIGNALS]
    health = Route(f"{base}/healthz", api.healthz)
    if ingest_only:
        return [*writing, health]
    return [
        *writing,
        health,
        Route(f"{base}/", pages.index),
        *([Route(base, pages.below)] if base else []),
        Route(f"{base}/assets/{{path:path}}", pages.asset),
        Route(f"{base}/token", api.token, methods=["POST"]),
        Route(f"{base}/runs", api.runs),
        Route(f"{base}/runs/{{run}}", run),
        Route(f"{base}/runs/{{run}}/events", events, methods=["GET"]),
        Route(f"{base}/events", events, methods=["GET"]),
        Route(f"{base}/openapi.json", openapi),
    ]


async def _on_http(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    reason = {404: "there is nothing here", 405: "this method is not allowed here"}.get(
        problem.status_code, problem.detail
    )
    return error(problem.status_code, reason, problem.headers)
