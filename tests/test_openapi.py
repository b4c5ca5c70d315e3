"""The API against its own OpenAPI document: requests that schemathesis makes of it, to a real server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from support.web import skip_without

skip_without("schemathesis", "starlette", "uvicorn", "httptools", "httpx", "psutil")

import requests  # noqa: E402 - it may be missing
import schemathesis  # noqa: E402
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from schemathesis import Case  # noqa: E402

from runnable_otel.server.openapi import document  # noqa: E402
from support.serve import TOKEN, Serve, export, started, trace_id, whole_run  # noqa: E402

MB: Final = 2**20
SCHEMA: Any = schemathesis.openapi.from_dict(document(""))

_CHECKED = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)
FEW: Final = settings(_CHECKED, max_examples=10, derandomize=True)
MANY: Final = settings(_CHECKED, max_examples=150)
TOKENS = pytest.mark.parametrize("token", [TOKEN, "", "wrong"], ids=["token", "none", "wrong"])

PROTOBUF: Final = "application/x-protobuf"
READS: Final = ("/runs", "/runs/{run}", "/runs/{run}/events", "/events")
KNOWN: Final = ("run-1", "run-2", trace_id(1))
HOSTILE: Final = 100
"""The number of the trace whose events are made up."""
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
_FIELDS = ["type", "name", "inputs", "outputs", "error", "stack_trace", "status", "time", "started", "run_id", "step"]
_FIELDS += ["attempt", "task_type", "branch", "pid", "host", "duration_ms", "graph", "executor", "uid", "span_id", "x"]
EVENTS = st.lists(st.dictionaries(st.sampled_from(_FIELDS), _JSON), min_size=1, max_size=5)


@schemathesis.serializer(PROTOBUF)
def protobuf(_: Any, value: Any) -> bytes:
    """A body that may be anything, as bytes."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A server with some runs in it. Whatever it is asked, nothing in it fails, and it stays small."""
    with Serve(tmp_path_factory.mktemp("serve")) as server:
        for number in (1, 2):
            server.send(*whole_run(10, number))
        yield server
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
        print(f"memory of the server: {int(peak) * 1024 / MB:.0f} MB at most")
        assert int(peak) * 1024 < 300 * MB
    assert "Traceback" not in "".join(server.lines)


def check(server: Serve, case: Case, token: str, *, accept: str = "", whole: bool = False) -> requests.Response:
    """Send a request, and hold the answer against the document: status, content type, schema, and no 5xx.

    Args:
        whole: of a stream all is read; it must have an end. Else no more than its first frames.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    headers |= {"Accept": accept} if accept else {}
    with requests.Session() as session:
        session.trust_env = False
        asked = case.as_transport_kwargs(base_url=server.url, headers=headers)
        with session.request(**asked, stream=True, timeout=60) as answer:
            body = b""
            for chunk in answer.iter_content(None):
                body += chunk
                if _streams(answer) and not whole and (b"\n\n" in body or "now" in answer.request.url):
                    body = body[: body.rfind(b"\n\n") + 2] if b"\n\n" in body else b""
                    break
            answer._content = body
            case.validate_response(answer, excluded_checks=excluded(case))
            assert token == TOKEN or case.operation.path not in READS or answer.status_code >= 400
            return answer


def excluded(case: Case) -> list[Any]:
    """Checks that can't be: whether the token is missing is not the tool's to say, and so neither whether a request
    should be refused; and a document does not tell what protobuf is."""
    checks = schemathesis.checks
    unknown = [checks.positive_data_acceptance] if case.media_type == PROTOBUF else []
    return [checks.ignored_auth, checks.negative_data_rejection, *unknown]


def _streams(answer: requests.Response) -> bool:
    return answer.headers.get("content-type", "").startswith("text/event-stream")


@TOKENS
@SCHEMA.parametrize()
@FEW
def test_requests(server: Serve, case: Case, token: str) -> None:
    """Whatever is asked, valid or not, the answer is one that the document has; with a token, a wrong one, or none."""
    check(server, case, token)


@pytest.mark.live
@TOKENS
@SCHEMA.parametrize()
@MANY
def test_many_requests(server: Serve, case: Case, token: str) -> None:
    """The same, far more often, and other requests each time."""
    check(server, case, token)


def known(path: str) -> st.SearchStrategy[Case]:
    """Requests for runs that are there; without a position, or with one that is none."""
    positions = st.sampled_from(["", "now", "1-1", "nonsense"])
    return st.tuples(st.sampled_from(KNOWN), positions).flatmap(
        lambda drawn: SCHEMA[path]["GET"].as_strategy(
            path_parameters={"run": drawn[0]}, query={"last_event_id": drawn[1], "position": drawn[1]}
        )
    )


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
@given(case=known("/runs/{run}/events"))
@FEW
def test_a_stream(server: Serve, accept: str, case: Case) -> None:
    """Each frame of a run's stream to its end, and each event of a page, is as the document says."""
    answer = check(server, case, TOKEN, accept=accept, whole=True)
    assert answer.status_code in (200, 204)
    if answer.status_code == 200 and _streams(answer):
        assert b"event: end\n" in answer.content


@given(case=known("/runs/{run}"))
@FEW
def test_a_run(server: Serve, case: Case) -> None:
    """The summary of a run that is there is as the document says."""
    assert check(server, case, TOKEN).status_code == 200


def hostile(server: Serve, events: list[dict[str, Any]]) -> None:
    made = [{**started(HOSTILE, uid=f"u{number}"), **event} for number, event in enumerate(events)]
    for each in made:
        each["type"] = str(each["type"])
    body = {"resourceLogs": [{"scopeLogs": [{"logRecords": export_records(made)}]}]}
    post = SCHEMA["/v1/logs"]["POST"].Case(body=body, media_type="application/json")
    assert check(server, post, "").status_code == 200
    run = {"run": trace_id(HOSTILE)}
    for path, parameters in (("/runs", {}), ("/runs/{run}", run), ("/runs/{run}/events", run), ("/events", {})):
        case = SCHEMA[path]["GET"].Case(path_parameters=parameters)
        for accept in ("application/json", "text/event-stream"):
            check(server, case, TOKEN, accept=accept)


def export_records(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records that name the trace, whatever their bodies say."""
    records = export(events)["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    return [{**record, "traceId": trace_id(HOSTILE), "spanId": f"{1:016x}"} for record in records]


@given(events=EVENTS)
@FEW
def test_hostile_events(server: Serve, events: list[dict[str, Any]]) -> None:
    """Whatever is stored, what is told of it is as the document says."""
    hostile(server, events)


@pytest.mark.live
@given(events=EVENTS)
@MANY
def test_many_hostile_events(server: Serve, events: list[dict[str, Any]]) -> None:
    """The same, far more often."""
    hostile(server, events)


def test_the_document_is_served(server: Serve) -> None:
    """`/openapi.json` is the document that the others are held against."""
    with server.client() as client:
        assert client.get("/openapi.json").json() == document("")
