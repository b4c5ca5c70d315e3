"""The second line of defence: what looks like a secret leaves no file's pipeline, and JSON stays JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from support import otlp
from support.collector import COMBINATIONS, Collector
from support.receiver import Receiver
from support.table import TABLE
from support.waiting import wait_until
from test_collector import DESTINATIONS, destination
from test_redact import INNOCENT, PLANTED

pytestmark = pytest.mark.collector

# What only the first line of defence knows: a pair, three quotes, and cards of rare lengths.
FIRST_LINE_ONLY = ("auth=('bob'", '"""hunter2"""', "4222222222222", "6304000000000000000")
SECRETS = [(text, part) for text, part in PLANTED if not any(only in text for only in FIRST_LINE_ONLY)]
# Not masked by the first line, but by the second, which can't check a card's number, nor tell a type from a value.
MASKED_ALL_THE_SAME = ("4111111111111112", "password=None", "date -u")
LAYERS = sorted({layers for layers in COMBINATIONS if len(layers) < 2} | {("tail-sampling", "jaeger")})


def planted(number: int, text: str) -> dict[str, Any]:
    """A span of a task with the text in every place that a span has, as it is and in JSON."""
    return {
        "span_id": f"{number + 1:016x}",
        "start_time_unix_nano": time.time_ns(),
        "end_time_unix_nano": time.time_ns() + 10**9,
        "name": f"task:{text}",
        "attributes": {
            "task_type": "python",
            "task_name": text,
            "runnable.step.name": text,
            "pipeline_name": text,
            "run_id": text,
            "inputs": json.dumps({"message": text, "n": 1}),
            "outputs": json.dumps({"inner": json.dumps({"message": text})}),
            "arguments": [text],
            "map": {"deep": [{"text": text}]},
            "db_password": "hunter2",
            "x-api-key": ["hunter2", 2],
            "number": number,
        },
        "status": {"code": 2, "message": text},
        "events": [(text, {"exception.message": text, "secret": "hunter2"})],
        "trace_state": f"vendor={text[:40]}",
    }


def leaked(seen: str) -> list[str]:
    """The secrets in what was seen, as they are or as JSON writes them."""
    shown = seen.replace("\\\\", "\\").replace("\\n", "\n").replace('\\"', '"')
    return [text for text, part in SECRETS if part in seen or part in shown]


def metrics(text: str) -> bytes:
    """A gauge with the text as an attribute of its resource, its scope and its point."""
    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add()
    group.resource.attributes.extend(otlp.pairs({"resource": text}))
    scope = group.scope_metrics.add()
    scope.scope.attributes.extend(otlp.pairs({"scope": text}))
    point = scope.metrics.add(name="runnable.user.metric").gauge.data_points.add(as_double=1.0)
    point.time_unix_nano = time.time_ns()
    point.attributes.extend(otlp.pairs({"point": text, "password": "hunter2"}))
    return request.SerializeToString()


def send_all(collector: Collector) -> None:
    """Each secret in each place of spans, logs and metrics; what the Collector refuses does not leave it either."""
    spans = [planted(number, text) for number, (text, _) in enumerate(SECRETS)]
    collector.send("traces", otlp.traces(*spans, resource={"command": SECRETS[0][0]}).SerializeToString())
    bodies = [json.dumps({"type": "task_log", "text": text, "inputs": {"m": text}}) for text, _ in SECRETS]
    names = ["runnable.task_log", "runnable.task_started"]
    for number, name in enumerate(names):
        logs = [{"span_id": f"{at + 1:016x}", "body": body, "event_name": name} for at, body in enumerate(bodies)]
        more = {"body": {"password": "hunter2", "deep": [{"text": text} for text, _ in SECRETS]}}
        attributes = {"attributes": {"text": SECRETS[number][0], "token": "hunter2"}, "event_name": SECRETS[2][0]}
        request = otlp.logs(*logs, {**more, **attributes}, resource={"argv": [text for text, _ in SECRETS]})
        collector.send("logs", request.SerializeToString())
    for text, _ in SECRETS:
        collector.send("metrics", metrics(text))


@pytest.mark.parametrize("layers", LAYERS, ids=lambda layers: "+".join(("base", *layers)))
def test_nothing_that_looks_like_a_secret_leaves(tmp_path: Path, layers: tuple[str, ...]) -> None:
    """Secrets of each kind, in each place of a span, a log record and a metric, reach no destination of any file."""
    file = tmp_path / "out.jsonl"
    seen = [""]
    with ExitStack() as stack:
        targets = [layer for layer in layers if layer in DESTINATIONS] or ["base"] * ("file" not in layers)
        receivers = {target: stack.enter_context(Receiver()) for target in targets}
        variables = dict(destination(target, receiver) for target, receiver in receivers.items())
        collector = Collector(tmp_path / "c", *layers, OTELCOL_FILE=str(file), CHATTER_WAIT="1s", **variables)
        with collector:
            send_all(collector)
            for receiver in receivers.values():
                wait_until(lambda receiver=receiver: len(receiver.spans) >= len(SECRETS))
            if "prometheus-red" in layers:
                wait_until(lambda: "runnable_calls_total" in httpx.get(collector.red, trust_env=False).text)
                seen.append(httpx.get(collector.red, trust_env=False).text)
        for receiver in receivers.values():  # the Collector has stopped: what waited has left
            seen += map(repr, (*receiver.spans, *receiver.logs, *receiver.metrics))
            assert all("redaction.masked.count" in span.attributes for span in receiver.spans)
            assert not any(key.startswith("_") for span in receiver.spans for key in span.attributes)
    seen.append(file.read_text() if "file" in layers else "")
    assert len("".join(seen)) > 1000
    assert {text for each in seen for text in leaked(each)} == set()
    assert not any("hunter2" in each for each in seen)
    TABLE.held(", ".join(layers) or "nothing", f"{len(SECRETS)} kinds of secrets in each place: none left")


@pytest.fixture(scope="module")
def through(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[list[str]], list[tuple[str, str]]]]:
    """Texts in, and out again as a span's attribute and as a log record's body."""
    with (
        Receiver() as receiver,
        Collector(tmp_path_factory.mktemp("c"), "live", LIVE_ENDPOINT=receiver.http) as collector,
    ):

        def send(texts: list[str]) -> list[tuple[str, str]]:
            receiver.clear()
            spans = [{"span_id": f"{at + 1:016x}", "attributes": {"text": text}} for at, text in enumerate(texts)]
            logs = [{"span_id": f"{at + 1:016x}", "body": text} for at, text in enumerate(texts)]
            collector.send("traces", otlp.traces(*spans).SerializeToString())
            collector.send("logs", otlp.logs(*logs).SerializeToString())
            wait_until(lambda: len(receiver.spans) == len(receiver.logs) == len(texts))
            attributes = {span.span: span.attributes["text"] for span in receiver.spans}
            bodies = {log.span: log.body for log in receiver.logs}
            return [(attributes[span["span_id"]], bodies[span["span_id"]]) for span in spans]

        yield send


def test_innocent_texts(through: Callable[[list[str]], list[tuple[str, str]]]) -> None:
    """What the first line of defence lets through passes unchanged, but for what only it can tell apart."""
    texts = [text for text in INNOCENT if text and not any(only in text for only in MASKED_ALL_THE_SAME)]
    assert len(texts) > 10
    assert through(texts) == [(text, text) for text in texts]


PIECES = [
    "password",
    "token=",
    "secret: ",
    "api_key",
    "'",
    '"',
    "\\",
    "=",
    ":",
    ", ",
    "[",
    "]",
    "{",
    "}",
    "x",
    "12",
    "é",
]
TEXTS = st.lists(st.sampled_from([*PIECES, *(text for text, _ in PLANTED)]), max_size=8).map("".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(TEXTS, VALUES | VALUES.map(json.dumps), min_size=1, max_size=5)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(documents=st.lists(DOCUMENTS, min_size=60, max_size=60), compact=st.booleans())
def test_json_stays_json(
    through: Callable[[list[str]], list[tuple[str, str]]], documents: list[Any], compact: bool
) -> None:
    """Whatever is masked in it, a JSON object stays one, with the same number of members and the same other types.

    The live server could not read an event that is none.
    """
    separators = (",", ":") if compact else None
    texts = [json.dumps(document, separators=separators, ensure_ascii=compact) for document in documents]
    for document, (attribute, body) in zip(documents, through(texts), strict=True):
        for text in (attribute, body):
            masked = json.loads(text)
            assert isinstance(masked, dict)
            assert len(masked) == len(document) or masked.keys() < document.keys() or _same_mask(document, masked)


def test_a_name_that_ends_in_backslashes(through: Callable[[list[str]], list[tuple[str, str]]]) -> None:
    """How deep a text lies inside JSON is told by the backslashes before its quotes, whatever its names end in."""
    cases = [(level, {f"a password{ends}": value}) for level in range(4) for ends in ENDS for value in (None, 12, True)]
    for (level, _), both in zip(cases, through([_inside(document, level) for level, document in cases]), strict=True):
        for text in both:
            found = json.loads(text)
            for _ in range(level):
                found = json.loads(found["m"])
            assert list(found.values()) == ["[redacted]"], text


ENDS = ["", "\\", "\\\\", "\\\\\\"]


def _inside(document: dict[str, Any], level: int) -> str:
    """JSON as a text inside JSON, so many times."""
    text = json.dumps(document)
    return _inside({"m": text}, level - 1) if level else text


def _same_mask(document: dict[str, Any], masked: dict[str, Any]) -> bool:
    """Two names that held secrets may be one now: JSON's last member wins."""
    return any("****" in name or "[redacted]" in name for name in masked)
