"""The SSE encoder: a reader that goes by the HTML standard gets back what was put in, whatever it is."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from runnable_otel import sse
from runnable_otel.log import Entry, Gap
from support.environments import ROOT
from support.events import decode

sys.path.insert(0, str(ROOT / "tests" / "web"))
from hostile import BREAKS, EVENTS

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@pytest.mark.parametrize("event", EVENTS, ids=range(len(EVENTS)))
@pytest.mark.parametrize("ascii_only", [True, False])
def test_hostile_events(event: dict[str, Any], ascii_only: bool) -> None:
    """Each hostile event is one line of data, and comes back unchanged, between frames that stay as they are."""
    data = sse.frame("e-2", json.dumps(event, ensure_ascii=ascii_only))
    assert len(data.decode().splitlines()) == 3
    frames = decode(sse.frame("e-1", '{"a":1}') + data + sse.frame("e-3", '{"b":2}'))
    assert [frame.id for frame in frames] == ["e-1", "e-2", "e-3"]
    assert [frame.event for frame in frames] == ["message"] * 3
    assert [json.loads(frame.data) for frame in frames] == [{"a": 1}, event, {"b": 2}]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(st.characters(exclude_categories=())), values), st.sampled_from([None, 2]))
def test_any_json(event: dict[str, Any], indent: int | None) -> None:
    """Any JSON value comes back, also one that is laid out over several lines, and surrogates in its keys."""
    (frame,) = decode(sse.frame("e-1", json.dumps(event, ensure_ascii=False, indent=indent)))
    # A high and a low surrogate side by side are one character to every JSON parser.
    assert json.loads(frame.data) == json.loads(json.dumps(event))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(st.characters(exclude_categories=())))
@example("a\ndata: b\0c\r\n\r\nevent: d")
@example("\ud800")
def test_ids(text: str) -> None:
    """Whatever an id holds, it is one line without NUL, and the data behind it comes through."""
    (frame,) = decode(sse.frame(text, "{}"))
    assert frame.data == "{}"
    assert frame.id == re.sub("[\0\r\n]", "", text).encode(errors="replace").decode()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(st.characters(exclude_categories=())))
def test_comments(text: str) -> None:
    """A comment is passed over, whatever it says."""
    around = sse.comment(text) + sse.HEARTBEAT
    assert decode(sse.retry(1500) + around) == []
    assert len(decode(sse.retry(1500) + around + sse.frame("e-1", "{}") + around)) == 1


def test_bytes_of_a_frame() -> None:
    """The bytes are those of the standard's examples."""
    assert sse.frame("e-1", '{"a":1}') == b'id: e-1\ndata: {"a":1}\n\n'
    assert sse.retry(1000) == b"retry: 1000\n"
    assert sse.HEARTBEAT == b": \n"
    assert sse.end_frame() == b"event: end\ndata: {}\n\n"


def test_gap_and_end() -> None:
    """A gap has an id to go on from, and says what is lost; the end has none, so that the last event's stays."""
    gap, end = decode(sse.gap_frame(Gap("e-3", "trimmed", 7)) + sse.end_frame())
    assert (gap.event, gap.id, json.loads(gap.data)) == ("gap", "e-3", {"reason": "trimmed", "lost": 7})
    assert (end.event, end.id) == ("end", "e-3")


def test_encoded_once() -> None:
    """All readers of an entry get the same bytes object."""
    entry = Entry("e-1", json.dumps({"text": BREAKS}))
    assert sse.entry_frame(entry) is sse.entry_frame(entry)
    assert sse.entry_frame(entry) == sse.frame("e-1", entry.text)
