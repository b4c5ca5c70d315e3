"""OTLP in: what a request of traces or logs becomes, in both encodings."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from typing import Any

import pytest

from runnable_otel import ingest
from runnable_otel.events import Event, rfc3339
from runnable_otel.ingest import Decoded, Refused
from support import otlp
from support.otlp import JSON, PROTOBUF, SPAN, TIME, TRACE

ENCODINGS = pytest.mark.parametrize("encoding", [PROTOBUF, JSON])


def decode(request: Any, encoding: str = PROTOBUF) -> Decoded:
    signal = "traces" if "Trace" in type(request).__name__ else "logs"
    return ingest.decode(otlp.encoded(request, encoding), encoding, signal)


def shown(decoded: Decoded) -> list[dict[str, Any]]:
    """The events as readers get them; that the log gets the same is looked at on the way."""
    for record in decoded.records:
        assert json.loads(record.text) == record.event.to_dict()
        assert next(iter(json.loads(record.text))) == "type"
    return [json.loads(record.text) for record in decoded.records]


# Events of ours, as log records.


@ENCODINGS
def test_events(encoding: str) -> None:
    """An event's text arrives as it was sent, whatever is in it, with its trace id, type and uid beside it."""
    odd = {"error": 'naïve "\\" \x00\x1b[31m \u2028 😀', "inputs": {"big": 2**70, "deep": [[[]]], "": None}}
    events = [
        *(otlp.event(1, kind) for kind in ("pipeline_started", "task_started", "task_skipped")),
        *(otlp.event(2, kind, **odd) for kind in ("task_completed", "task_error", "pipeline_completed")),
        otlp.custom(3, type_="x"),
        Event(
            "task_log",
            "nonce:1",
            {"name": "n", "stream": "stdout", "text": "…", **dict(otlp.custom().fields["runnable"])},
        ),
    ]
    decoded = decode(otlp.logs(*map(otlp.event_log, events)), encoding)
    assert (decoded.rejected, decoded.reason) == (0, "")
    assert [record.text for record in decoded.records] == [event.to_json() for event in events]
    assert [record.event for record in decoded.records] == events
    assert {record.trace_id for record in decoded.records} == {TRACE}


@ENCODINGS
def test_event_name_as_attribute(encoding: str) -> None:
    """A Collector, or an older SDK, may carry the event name as an attribute, and the ids in the body only."""
    event = otlp.event()
    moved = otlp.event_log(event, event_name="", attributes={"event.name": "runnable.task_completed"})
    without = otlp.event_log(event, trace_id="", span_id="")
    assert shown(decode(otlp.logs(moved, without), encoding)) == [event.to_dict()] * 2


@ENCODINGS
@pytest.mark.parametrize("event", [otlp.custom(), Event("task_log", "nonce:1", {"time": rfc3339(TIME), "text": "x"})])
def test_event_of_no_trace(encoding: str, event: Event) -> None:
    """An event whose ids nobody says is rejected: one that is of no run, and one of ids that no list could show."""
    fields = {name: value for name, value in event.fields.items() if name != "runnable"}
    nameless = Event(event.type, event.uid, fields)
    ids = ["", "0" * 32, TRACE[:6], f"{TRACE}ab", TRACE * 100]
    bad = [otlp.event_log(nameless, trace_id=trace_id) for trace_id in ids]
    good = otlp.event_log(nameless, trace_id=TRACE)
    decoded = decode(otlp.logs(*bad, good), encoding)
    assert [record.trace_id for record in decoded.records] == [TRACE]
    assert decoded.rejected == len(bad)


@ENCODINGS
def test_structured_body(encoding: str) -> None:
    """A body may be the same object as a structured value."""
    event = otlp.event()
    assert shown(decode(otlp.logs(otlp.event_log(event, body=event.to_dict())), encoding)) == [event.to_dict()]


@ENCODINGS
def test_sign_of_life(encoding: str) -> None:
    """A sign of life is no event for the log: it is the newest time of its run."""
    times = [rfc3339(TIME + n * 10**9) for n in (1, 3, 2)]
    signs = [Event("sign_of_life", f"nonce:{n}", {"time": time, "trace_id": TRACE}) for n, time in enumerate(times)]
    decoded = decode(otlp.logs(*map(otlp.event_log, signs)), encoding)
    assert (decoded.records, decoded.alive, decoded.rejected) == ([], {TRACE: times[1]}, 0)


OTHER = "f" * 32
BAD: dict[str, tuple[Event | str, str]] = {
    "no JSON": ("{", "no JSON"),
    "more than one": ('{"a":1} {}', "that should be a JSON object is none"),
    "no object": ('["task_completed"]', "that should be a JSON object is none"),
    "NaN": (otlp.event().to_json().replace("12.345", "NaN"), "no JSON"),
    "an endless duration": (otlp.event().to_json().replace("12.345", "1e999"), "duration"),
    "nested for ever": (otlp.event().to_json().replace("[1,2,3]", "[" * 20_000 + "]" * 20_000), "nested too deep"),
    "no uid": ('{"type":"task_completed"}', "no type or no uid"),
    "no text": ('{"type":"task_completed","uid":5}', "no type or no uid"),
    "uid of the other edge": (Event("task_completed", f"{TRACE}:{1:016x}:start", otlp.event().fields), "uid"),
    "uid of another span": (Event("task_completed", f"{TRACE}:{2:016x}:end", otlp.event().fields), "uid"),
    "uid of another trace": (Event("task_completed", f"{OTHER}:{1:016x}:end", otlp.event().fields), "uid"),
    "another trace": (
        Event("task_error", f"{OTHER}:{1:016x}:end", {**otlp.event().fields, "trace_id": OTHER}),
        "record",
    ),
    "trace of zeros": (
        Event("task_error", f"{'0' * 32}:{1:016x}:end", {**otlp.event().fields, "trace_id": "0" * 32}),
        "uid",
    ),
    "ids in capitals": (
        Event("task_error", f"{'A' * 32}:{1:016x}:end", {**otlp.event().fields, "trace_id": "A" * 32}),
        "uid",
    ),
    "a task's own event with a span's uid": (Event("mine", f"{TRACE}:{SPAN}:end", otlp.custom().fields), "uid"),
    "a task's own event of another trace": (
        Event("mine", "n:1", {"runnable": {"trace_id": OTHER}}),
        "record",
    ),
    "no object under runnable": (Event("mine", "n:1", {"runnable": [TRACE]}), "runnable"),
    "an empty type": (Event("", "n:1", {}), "type"),
    "an endless uid": (Event("mine", "n" * 129, {}), "uid"),
    "a span as an event": (Event("span", f"{TRACE}:{1:016x}:end", otlp.event().fields), "as such"),
    "a log record as an event": (Event("log_record", "n:1", otlp.event().fields), "as such"),
    "no name": (Event("task_error", f"{TRACE}:{1:016x}:end", {"trace_id": TRACE}), "name"),
    "a name that is none": (otlp.event(name=5), "text"),
    "a name without end": (otlp.event(name="n" * 1025), "too long"),
    "a run id that is none": (otlp.event(run_id=["nightly"]), "text"),
    "inputs that are none": (otlp.event(inputs="x"), "kind"),
    "an attempt that is none": (otlp.event(attempt=True), "kind"),
    "a time that is none": (otlp.event(time="yesterday"), "time"),
    "a time with an offset": (otlp.event(time="2026-11-23T21:40:00.000001+01:00"), "time"),
    "the 29th of February": (otlp.event(started="2026-02-29T21:40:00.000001Z"), "time"),
    "the 31st of June": (otlp.event(time="2026-06-31T21:40:00.000001Z"), "time"),
    "too large": (otlp.custom(text="x" * 82_000), "larger"),
}  # fmt: skip


@ENCODINGS
@pytest.mark.parametrize("name", BAD)
def test_bad_event(encoding: str, name: str) -> None:
    """An event that is not what it says is rejected, with a reason; what comes before and after it is taken."""
    bad, reason = BAD[name]
    text = bad if isinstance(bad, str) else bad.to_json()
    kind = "task_completed" if isinstance(bad, str) else bad.type
    record = otlp.event_log(otlp.event(), body=text, event_name=f"runnable.{kind}")
    good = [otlp.event_log(otlp.event(number)) for number in (5, 6)]
    decoded = decode(otlp.logs(good[0], record, good[1]), encoding)
    assert len(decoded.records) == 2
    assert decoded.rejected == 1
    assert reason in decoded.reason
    assert decode(otlp.logs(good[0], record, good[1]), encoding) == decoded  # what was seen before changes nothing


def test_bad_again() -> None:
    """A good event of the same shape does not open the door for a bad one."""
    good = otlp.event()
    changes = [{"name": "n" * 1025}, {"time": "x"}, {"duration_ms": 1e300}, {"span_id": "0" * 16}, {"started": 5}]
    records = [otlp.event_log(good), *(otlp.event_log(otlp.event(**change)) for change in changes)]
    decoded = decode(otlp.logs(*records))
    assert (len(decoded.records), decoded.rejected) == (1, len(changes))


def test_type_and_event_name_differ() -> None:
    """A record whose name says one thing and whose body says another is neither."""
    decoded = decode(otlp.logs(otlp.event_log(otlp.event(), event_name="runnable.task_error")))
    assert (decoded.rejected, decoded.reason) == (1, "The type of an event is not that of its record.")


@ENCODINGS
def test_halves_of_characters(encoding: str) -> None:
    """A lone surrogate, even one that only an escape names, becomes U+FFFD; a pair stays as it came."""
    pair, half = json.dumps(otlp.event(name="😀").to_dict()), json.dumps(otlp.event(name="\ud83d!").to_dict())
    decoded = decode(otlp.logs(*(otlp.event_log(otlp.event(), body=text) for text in (pair, half))), encoding)
    assert decoded.records[0].text == pair
    assert [event["name"] for event in shown(decoded)] == ["😀", "\ufffd!"]
    assert decoded.records[1].text.encode()


def test_halves_in_json() -> None:
    """In JSON, half of a character may be anywhere: in the body, an id, a name, a key."""
    request = otlp.json_of(otlp.logs(otlp.event_log(otlp.event(name="HERE"))))
    decoded = ingest.decode(request.replace(b"HERE", b"\\ud83d"), JSON, "logs")
    assert shown(decoded)[0]["name"] == "\ufffd"
    spans = otlp.json_of(otlp.traces({"name": "HERE", "attributes": {"HERE": "HERE"}}))
    decoded = ingest.decode(spans.replace(b"HERE", b"\\udc00"), JSON, "traces")
    event = shown(decoded)[0]
    assert (event["name"], event["attributes"]) == ("\ufffd", {"\ufffd": "\ufffd"})
    ids = otlp.json_of(otlp.traces({})).replace(TRACE.encode(), b"\\ud83d")
    assert ingest.decode(ids, JSON, "traces").rejected == 1


def test_large_values_are_left_out() -> None:
    """An event of ours that is larger than 80 KiB goes without its largest values, not without the rest."""
    event = otlp.event(inputs={"a": "é" * 30_000}, outputs={"b": 1, "c": "x" * 40_000})
    (kept,) = shown(decode(otlp.logs(otlp.event_log(event))))
    assert kept == {**event.to_dict(), "inputs": {"…": "…"}}


# Log records of others.


@ENCODINGS
def test_log_record(encoding: str) -> None:
    """A log record of a trace is an event of its own; sent again it is the same one."""
    line = {"body": "hello", "severity_number": 17, "attributes": {"http.route": "/x", "n": 5}}
    decoded = decode(otlp.logs(line, line, {**line, "body": "hello 2"}, resource={"service.name": "api"}), encoding)
    first, second, other = shown(decoded)
    uid = first.pop("uid")
    assert first == {
        "type": "log_record",
        "time": rfc3339(TIME),
        "text": "hello",
        "severity": "ERROR",
        "attributes": {"http.route": "/x", "n": 5},
        "trace_id": TRACE,
        "span_id": SPAN,
        "service": "api",
    }
    assert second["uid"] == uid != other["uid"]
    assert uid.startswith(f"{TRACE}:{SPAN}:log:")


@ENCODINGS
def test_log_record_of_no_run(encoding: str) -> None:
    """A log record without a trace is taken, and not stored; one with a trace id of the wrong size is rejected."""
    nowhere = {"trace_id": "", "span_id": "", "body": {"a": [1, b"x"]}, "observed_time_unix_nano": 5}
    decoded = decode(otlp.logs(nowhere, {"trace_id": "0" * 32}, {"trace_id": "abcd"}), encoding)
    assert (decoded.records, decoded.passed, decoded.rejected) == ([], 2, 1)
    assert decoded.reason == "A trace id is not of 16 bytes."


@ENCODINGS
def test_structured_log_record(encoding: str) -> None:
    """What is no text becomes JSON; names, times and severities fall back to what there is."""
    line = {
        "body": {"k": [1, 2.5, True, None, b"abc"]},
        "event_name": "my.event",
        "severity_text": "Notice",
        "time_unix_nano": 0,
        "observed_time_unix_nano": TIME,
    }
    (event,) = shown(decode(otlp.logs(line), encoding))
    assert json.loads(event["text"]) == {"body": {"k": [1, 2.5, True, None, "<bytes: 3>"]}}
    assert (event["name"], event["severity"], event["time"]) == ("my.event", "Notice", rfc3339(TIME))


def test_large_log_record() -> None:
    """Text and attributes of a log record are cut, and marked, not refused."""
    line = {"body": "é" * 100_000, "attributes": {f"key{n}": "v" * 70_000 for n in range(3)}}
    many = {"attributes": {f"key{n}": "v" * 100 for n in range(500)}}
    cut, fewer = shown(decode(otlp.logs(line, many)))
    assert len(cut["text"].encode()) <= 16 * 1024
    assert cut["text"].endswith("…")
    assert len(json.dumps(cut["attributes"], ensure_ascii=False).encode()) <= 16 * 1024
    assert len(fewer["attributes"]) == 128


# Spans of others.

OTHER_SPAN = {
    "name": "GET /x",
    "kind": 2,
    "parent_span_id": "aa" * 8,
    "end_time_unix_nano": TIME + 1_500_000,
    "attributes": {
        "text": "é",
        "int": 5,
        "min": -(2**63),
        "float": 0.5,
        "flag": True,
        "bytes": b"\0\xff",
        "list": ["a", 1],
        "object": {"a": {"b": [None]}},
        "nan": float("nan"),
        "none": None,
    },
    "events": [("exception", {"exception.type": "E", "exception.message": "m"}), ("other", {})],
    "links": [(OTHER, "bb" * 8)],
    "trace_state": "a=b",
    "dropped_links_count": 3,
}


@ENCODINGS
def test_span(encoding: str) -> None:
    """A span of any source is one event, with attributes of every kind as JSON."""
    (event,) = shown(decode(otlp.traces(OTHER_SPAN, resource={"service.name": "api", "host.name": "h"}), encoding))
    assert event == {
        "type": "span",
        "name": "GET /x",
        "time": rfc3339(TIME + 1_500_000),
        "started": rfc3339(TIME),
        "duration_ms": 1.5,
        "status": "unset",
        "kind": "server",
        "service": "api",
        "attributes": {
            "text": "é",
            "int": 5,
            "min": -(2**63),
            "float": 0.5,
            "flag": True,
            "bytes": "<bytes: 2>",
            "list": ["a", 1],
            "object": {"a": {"b": [None]}},
            "nan": "NaN",
            "none": None,
        },
        "trace_id": TRACE,
        "span_id": SPAN,
        "parent_span_id": "aa" * 8,
        "host": "h",
        "uid": f"{TRACE}:{SPAN}:end",
    }


@ENCODINGS
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"status": {"code": 1}}, {"status": "ok"}),
        ({"status": {"code": 2}}, {"status": "error", "error": "E: m"}),
        ({"status": {"code": 2, "message": "why"}}, {"status": "error", "error": "why"}),
        ({"status": {"code": 2}, "events": []}, {"status": "error", "error": ""}),
        ({"kind": 0}, {"kind": "internal"}),
        ({"kind": 77, "status": {"code": 77}}, {"kind": "internal", "status": "unset"}),
        ({"start_time_unix_nano": 0}, {"duration_ms": 0.0, "started": rfc3339(TIME + 1_500_000)}),
        ({"end_time_unix_nano": 0}, {"duration_ms": 0.0, "time": rfc3339(TIME)}),
        ({"end_time_unix_nano": 2**64 - 1}, {"time": "2554-07-21T23:34:33.709551Z"}),
        ({"name": "n" * 5000}, {"name": "n" * 1024}),
    ],
)
def test_span_with(encoding: str, changes: dict[str, Any], expected: dict[str, Any]) -> None:
    """What a span says, or leaves out, shows."""
    (event,) = shown(decode(otlp.traces({**OTHER_SPAN, **changes}), encoding))
    assert {name: event[name] for name in expected} == expected
    assert ("error" in event) == ("error" in expected)


@ENCODINGS
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"trace_id": ""}, "no trace id"),
        ({"trace_id": "0" * 32}, "no trace id"),
        ({"span_id": ""}, "no span id"),
        ({"trace_id": "ab" * 15}, "not of 16 bytes"),
        ({"span_id": "ab" * 16}, "not of 8 bytes"),
        ({"parent_span_id": "ab"}, "not of 8 bytes"),
        ({"start_time_unix_nano": 0, "end_time_unix_nano": 0}, "no time"),
    ],
)
def test_bad_span(encoding: str, changes: dict[str, Any], reason: str) -> None:
    """A span that can't be placed is rejected, with a reason; the others are taken."""
    decoded = decode(otlp.traces({}, {**OTHER_SPAN, **changes}, {"span_id": "ab" * 8}), encoding)
    assert (len(decoded.records), decoded.rejected) == (2, 1)
    assert reason in decoded.reason


def test_pending_span_of_logfire() -> None:
    """logfire's copy of an open span is not a second one."""
    decoded = decode(otlp.traces({"attributes": {"logfire.span_type": "pending_span", "task_name": "x"}}))
    assert (decoded.records, decoded.rejected) == ([], 0)


# JSON, its own way.

NODE = {
    "resourceSpans": [
        {
            "resource": {
                "attributes": [
                    {"key": "service.name", "value": {"stringValue": "node-app"}},
                    {"key": "process.pid", "value": {"intValue": 17}},
                ],
                "droppedAttributesCount": 0,
            },
            "scopeSpans": [
                {
                    "scope": {"name": "@opentelemetry/instrumentation-http", "version": "0.57.0"},
                    "schemaUrl": "https://opentelemetry.io/schemas/1.30.0",
                    "spans": [
                        {
                            "traceId": TRACE.upper(),
                            "spanId": SPAN,
                            "parentSpanId": None,
                            "name": "GET",
                            "kind": 3,
                            "startTimeUnixNano": "1544712660000000000",
                            "endTimeUnixNano": 1544712661000000000,
                            "attributes": [
                                {"key": "http.status_code", "value": {"intValue": "200"}},
                                {"key": "ratio", "value": {"doubleValue": "Infinity"}},
                                {"key": "raw", "value": {"bytesValue": "AQID"}},
                                {"key": "tags", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {}]}}},
                                {"key": "empty", "value": {}},
                                {"key": "news", "value": {"laterValue": 5}},
                            ],
                            "events": [],
                            "links": [],
                            "flags": 257,
                            "status": {"code": "STATUS_CODE_OK"},
                            "somethingNew": {"a": [1]},
                        }
                    ],
                }
            ],
        }
    ]
}


def test_json_of_node() -> None:
    """What an SDK for Node sends: ids of either case, numbers as texts or not, names that we don't know."""
    decoded = ingest.decode(json.dumps(NODE).encode(), "Application/JSON; charset=utf-8", "traces")
    (event,) = shown(decoded)
    assert (event["trace_id"], event["kind"], event["status"], event["service"]) == (TRACE, "client", "ok", "node-app")
    assert (event["started"], event["duration_ms"], event["pid"]) == ("2018-12-13T14:51:00.000000Z", 1000.0, 17)
    values = {"http.status_code": 200, "ratio": "Infinity", "raw": "<bytes: 3>", "tags": ["a", None]}
    assert event["attributes"] == {**values, "empty": None, "news": None}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("traceId", "W47/95gDgQPSabYzgT/GDA==", "hexadecimal"),
        ("traceId", "abcd", "not of 16 bytes"),
        ("traceId", 5, "hexadecimal"),
        ("spanId", "x" * 16, "hexadecimal"),
        ("startTimeUnixNano", str(2**64), "64 bits"),
        ("startTimeUnixNano", "9" * 30, "64 bits"),
        ("endTimeUnixNano", -1, "64 bits"),
        ("endTimeUnixNano", "12.5", "64 bits"),
        ("attributes", {"key": "a"}, "array"),
        ("attributes", [{"key": "a", "value": 5}], "object"),
        ("attributes", [{"key": "a", "value": {"intValue": "1e5"}}], "64 bits"),
        ("attributes", [{"key": "a", "value": {"bytesValue": "A"}}], "base64"),
        ("status", [], "object"),
        ("events", 5, "array"),
    ],
)
def test_bad_json_span(name: str, value: Any, reason: str) -> None:
    """In JSON an id is hexadecimal, not base64, and a number has 64 bits: what is not so is rejected, and only that."""
    request = json.loads(json.dumps(NODE))
    spans = request["resourceSpans"][0]["scopeSpans"][0]["spans"]
    spans += [{**spans[0], name: value}, "no object"]
    decoded = ingest.decode(json.dumps(request).encode(), JSON, "traces")
    assert (len(decoded.records), decoded.rejected) == (1, 2)
    assert reason in decoded.reason


@pytest.mark.parametrize("signal", ["traces", "logs"])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b"null", b"\xff", b"{}{}", b'{"resourceSpans":5,"resourceLogs":5}']
)
def test_not_otlp(signal: Any, body: bytes) -> None:
    """What is no OTLP in JSON is refused, as a whole."""
    with pytest.raises(Refused, match="not OTLP in JSON") as caught:
        ingest.decode(body, JSON, signal)
    assert caught.value.status == 400


@pytest.mark.parametrize("signal", ["traces", "logs"])
@pytest.mark.parametrize(
    "body", [b"\x0a", b"\x0a\x05ab", b"{}", b"\xff" * 20, b"\x0a\x04\x12\x02\x12\x05", b"\x0b\x0c"]
)
def test_not_protobuf(signal: Any, body: bytes) -> None:
    """What is no protobuf is refused, as a whole."""
    with pytest.raises(Refused, match="not OTLP in protobuf") as caught:
        ingest.decode(body, PROTOBUF, signal)
    assert caught.value.status == 400


@ENCODINGS
def test_nothing(encoding: str) -> None:
    """A request without records is a request."""
    assert decode(otlp.traces(), encoding) == decode(otlp.logs(), encoding) == Decoded()
    assert ingest.decode(b"{}" if encoding == JSON else b"", encoding, "logs") == Decoded()


def test_content_type() -> None:
    """A content type that is neither of OTLP's is refused."""
    for name in ("", "text/plain", "application/jsonp", "application/x-www-form-urlencoded"):
        with pytest.raises(Refused) as caught:
            ingest.decode(b"{}", name, "logs")
        assert caught.value.status == 415


# The body, and the answer.


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 3 * 65536 + 258, 4 * 2**20])
@pytest.mark.parametrize("step", [1000, 2**20])
def test_gzip(size: int, step: int) -> None:
    """A body comes out as it went in, whatever its size, the pieces it comes in, and its number of members."""
    content = (b"abc" * (size // 3 + 1))[:size]
    for packed in (gzip.compress(content), gzip.compress(content[:10]) + gzip.compress(content[10:])):
        body = ingest.Body("GZIP")
        for start in range(0, len(packed), step):
            body.feed(packed[start : start + step])
        assert body.end() == content
    assert ingest.inflate(gzip.compress(content)) == content


@pytest.mark.parametrize(
    ("packed", "status"),
    [
        (b"no gzip", 400),
        (gzip.compress(b"x" * 1000)[:-1], 400),
        (gzip.compress(b"x") + b"rubbish", 400),
        (gzip.compress(b"x") * 18, 400),
        (gzip.compress(b"\0" * (4 * 2**20 + 1)), 413),
        (gzip.compress(b"\0" * 100_000_000), 413),
        (b"\0" * (4 * 2**20 + 1), 413),
    ],
)
def test_bad_gzip(packed: bytes, status: int) -> None:
    """What is no gzip, ends early, or becomes more than 4 MiB is refused."""
    with pytest.raises(Refused) as caught:
        ingest.inflate(packed)
    assert caught.value.status == status


def test_plain_body() -> None:
    """Without an encoding the same limit holds; another encoding is not taken."""
    body = ingest.Body()
    body.feed(b"a" * 4 * 2**20)
    assert len(body.end()) == 4 * 2**20
    with pytest.raises(Refused):
        body.feed(b"a")
    with pytest.raises(Refused) as caught:
        ingest.Body("br")
    assert caught.value.status == 415


def test_reply() -> None:
    """An answer is OTLP's own: empty when all was taken, else how many were not, and why."""
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    assert (ingest.reply("logs", PROTOBUF), ingest.reply("traces", JSON)) == (b"", b"{}")
    logs = ExportLogsServiceResponse.FromString(ingest.reply("logs", PROTOBUF, 3, "why"))
    assert (logs.partial_success.rejected_log_records, logs.partial_success.error_message) == (3, "why")
    traces = ExportTraceServiceResponse.FromString(ingest.reply("traces", PROTOBUF, 4, "why"))
    assert (traces.partial_success.rejected_spans, traces.partial_success.error_message) == (4, "why")
    assert json.loads(ingest.reply("traces", JSON, 3, "why")) == {
        "partialSuccess": {"rejectedSpans": "3", "errorMessage": "why"}
    }
    assert json.loads(ingest.reply("logs", JSON, 3, "w"))["partialSuccess"]["rejectedLogRecords"] == "3"


@pytest.mark.parametrize("body", [b'{"a":[' + b"1," * 2_000_000 + b"1]}", b'["",' + b'"",' * 1_300_000 + b'""]'])
def test_what_is_too_dense_costs_little(body: bytes) -> None:
    """A kilobyte of gzip may be millions of values: to see that they are too many takes some bytes for each, not 80."""
    tracemalloc.start()
    try:
        with pytest.raises(Refused) as caught:
            ingest.decode(body, JSON, "traces")
        assert tracemalloc.get_traced_memory()[1] < 16 * body.count(b",") + 3 * len(body)
    finally:
        tracemalloc.stop()
    assert caught.value.status == 413
