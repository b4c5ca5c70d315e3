"""The OpenAPI 3.2 document of the API: the first version that can say what the events of a stream are."""

from __future__ import annotations

from typing import Any, Final

from runnable_otel._version import __version__
from runnable_otel.log.pages import PAGE_START
from runnable_otel.server.api import MAX_BEFORE, MAX_LIMIT, MAX_TEXT, STATUSES
from runnable_otel.server.state import MAX_RUN

_Json = dict[str, Any]
_POSITION: Final = "An opaque position; empty: from the oldest event that is kept; `now`: only what comes."
_OTLP: Final = "application/x-protobuf"
_GUARD: Final = ("403", "414", "431")  # what any request may get, before a route is asked


def document(base: str) -> _Json:
    """The document, for an app whose paths all begin with `base`."""
    return {
        "openapi": "3.2.0",
        "info": {
            "title": "runnable-otel",
            "version": __version__,
            "description": "Runs of pipelines, their events as they happen, and OTLP ingest.",
        },
        "servers": [{"url": base or "/"}],
        "security": [{"reader": []}],
        "paths": {
            "/runs": {"get": _runs()},
            "/runs/{run}": {"get": _run()},
            "/runs/{run}/events": {"get": _run_events()},
            "/events": {"get": _events()},
            "/token": {"post": _token()},
            "/healthz": {"get": _healthz()},
            "/v1/traces": {"post": _ingest("spans", "Take spans")},
            "/v1/logs": {"post": _ingest("log records", "Take log records")},
            "/v1/metrics": {"post": _ingest("metrics", "Take metrics, and keep none")},
        },
        "components": {
            "securitySchemes": {
                "reader": {"type": "http", "scheme": "bearer"},
                "writer": {"type": "http", "scheme": "bearer"},
            },
            "schemas": _schemas(),
            "responses": {"Error": _answer("What is wrong, in one sentence.", _reference("Error"))},
        },
    }


def _runs() -> _Json:
    return {
        "operationId": "listRuns",
        "summary": "Summaries of runs, the newest start first",
        "parameters": [
            _query("limit", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 100}),
            _query(
                "before", {"type": "string", "maxLength": MAX_BEFORE, "pattern": PAGE_START}, "`next` of the last page."
            ),
            _query("status", {"type": "string", "enum": list(STATUSES)}),
            _query("text", {"type": "string", "maxLength": MAX_TEXT}, "Part of the name, run id or trace id."),
        ],
        "responses": {"200": _answer("A page.", _reference("Page")), **_errors("400", "401", "503")},
    }


def _run() -> _Json:
    return {
        "operationId": "getRun",
        "summary": "The summary of one run",
        "parameters": [_path()],
        "responses": {"200": _answer("The run.", _reference("Run")), **_errors("400", "401", "404", "503")},
    }


def _stream(operation: str, summary: str, item: _Json, parameters: list[_Json], *errors: str) -> _Json:
    """A stream, or with `Accept: application/json` a page of it."""
    return {
        "operationId": operation,
        "summary": summary,
        "parameters": [
            *parameters,
            _query("last_event_id", {"type": "string"}, _POSITION),
            _query("position", {"type": "string"}, f"For JSON. {_POSITION}"),
            {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}, "description": _POSITION},
        ],
        "responses": {
            "200": {
                "description": "Unnamed frames with one event each; `event: gap`, `event: end`. As JSON: a page.",
                "content": {
                    "text/event-stream": {"itemSchema": _frames(item)},
                    "application/json": {"schema": _reference("Events")},
                },
            },
            "204": {"description": "The run is over, and the client has all of it."},
            **_errors("400", "401", "429", "503", *errors),
        },
    }


def _run_events() -> _Json:
    return _stream("streamRun", "The events of one run", _reference("Event"), [_path()], "404")


def _events() -> _Json:
    return _stream("streamRuns", "The summaries of all runs, as they change; it never ends", _reference("Run"), [])


def _frames(item: _Json) -> _Json:
    """The frames of a stream: unnamed ones with an item each, and those that say how it goes on."""
    kinds = {"message": item, "gap": _reference("Gap"), "end": {"type": "object", "maxProperties": 0}}
    return {"oneOf": [_frame(kind, data) for kind, data in kinds.items()]}


def _frame(kind: str, data: _Json) -> _Json:
    return {
        "type": "object",
        "required": ["data"] if kind == "message" else ["event", "data"],
        "properties": {
            "event": {"const": kind},
            "id": {"type": "string"},
            "retry": {"type": "integer"},
            "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": data},
        },
    }


def _token() -> _Json:
    code: _Json = {"type": "object", "required": ["code"], "properties": {"code": {"type": "string"}}}
    token: _Json = {"type": "object", "required": ["token"], "properties": {"token": {"type": "string"}}}
    return {
        "operationId": "exchangeCode",
        "summary": "Exchange a one-time code for the readers' token",
        "security": [],
        "requestBody": {"required": True, "content": {"application/json": {"schema": code}}},
        "responses": {"200": _answer("The token.", token), **_errors("400", "408", "413", "415")},
    }


def _healthz() -> _Json:
    health: _Json = {
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"type": "string"}, "reason": {"type": "string"}},
    }
    return {
        "operationId": "health",
        "summary": "Whether events can be taken; with a token, how many there are",
        "security": [{}, {"reader": []}],
        "responses": {"200": _answer("Well.", health), "503": _answer("Not well, and why.", health), **_errors()},
    }


def _ingest(what: str, doing: str) -> _Json:
    binary: _Json = {"type": "string", "contentMediaType": _OTLP}
    message: _Json = {"type": "object"}
    said = {"description": "Taken; `partialSuccess` says what was not.", "content": _otlp(binary, {"type": "object"})}
    refused = {"description": "Refused, as a google.rpc.Status.", "content": _otlp(binary, _reference("Error"))}
    return {
        "operationId": f"export{what.title().replace(' ', '')}",
        "summary": f"{doing}, as OTLP/HTTP has them; from this machine no token is needed unless one is set",
        "security": [{}, {"writer": []}],
        "requestBody": {"required": True, "content": _otlp(binary, message)},
        "responses": {
            "200": said,
            **_errors(),
            **dict.fromkeys(("400", "401", "408", "413", "415", "503"), refused),
        },
    }


def _otlp(binary: _Json, json: _Json) -> _Json:
    return {_OTLP: {"schema": binary}, "application/json": {"schema": json}}


def _schemas() -> _Json:
    text: _Json = {"type": "string"}
    number: _Json = {"type": "integer", "minimum": 0}
    maybe: _Json = {"type": ["string", "null"]}
    tasks = dict.fromkeys(("started", "retried", "running", "completed", "failed", "skipped", "lost"), number)
    return {
        "Error": {"type": "object", "required": ["error"], "properties": {"error": text}},
        "Run": {
            "type": "object",
            "required": ["type", "trace_id", "status"],
            "properties": {
                "type": {"const": "run"},
                "trace_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
                "run_id": text,
                "name": text,
                "kind": {"enum": ["pipeline", "job", "trace"]},
                "status": {"enum": list(STATUSES)},
                **{name: {"type": "string", "format": "date-time"} for name in ("started", "ended", "last_seen")},
                "duration_ms": {"type": "number"},
                "error": text,
                "tasks": {"type": "object", "properties": tasks},
                "executor": text,
                "host": text,
                "events": number,
                "services": {"type": "array", "items": text},
            },
        },
        "Page": {
            "type": "object",
            "required": ["runs", "next"],
            "properties": {"runs": {"type": "array", "items": _reference("Run")}, "next": maybe},
        },
        "Events": {
            "type": "object",
            "required": ["events", "position", "ended", "gap"],
            "properties": {
                "events": {"type": "array", "items": _reference("Event"), "maxItems": MAX_LIMIT},
                "position": text,
                "ended": {"type": "boolean"},
                "gap": {"oneOf": [_reference("Gap"), {"type": "null"}]},
            },
        },
        "Event": {"type": "object", "required": ["type"], "properties": {"type": text, "uid": text}},
        "Gap": {
            "type": "object",
            "required": ["reason", "lost"],
            "properties": {"reason": text, "lost": {"type": ["integer", "null"]}},
        },
    }


def _reference(name: str) -> _Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(description: str, schema: _Json) -> _Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _errors(*statuses: str) -> _Json:
    """The errors of a route, and of what stands before all of them."""
    return {status: {"$ref": "#/components/responses/Error"} for status in (*_GUARD, *statuses)}


def _query(name: str, schema: _Json, description: str = "") -> _Json:
    return {"name": name, "in": "query", "schema": schema, **({"description": description} if description else {})}


def _path() -> _Json:
    schema = {"type": "string", "minLength": 1, "maxLength": MAX_RUN, "pattern": "^[^/]+$"}
    return {"name": "run", "in": "path", "required": True, "schema": schema, "description": "A trace id or run id."}
