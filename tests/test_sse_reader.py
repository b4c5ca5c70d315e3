"""The SSE reader: what the HTML standard makes of a stream, in pieces of any size, and of all that our encoder writes.

The vectors are behaviours that web-platform-tests has under `eventsource/format-*`, each in words of ours.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runnable_otel import sse
from runnable_otel.sse_reader import LIMIT, ServerSentEvent, SseReader, TooLarge
from support.events import decode
from test_sse import EVENTS

# name: the stream, its events as (type, data, id), and the id to resume with
VECTORS: dict[str, tuple[bytes, list[tuple[str, str, str]], str]] = {
    "bom": (b"\xef\xbb\xbfdata:1\n\n\xef\xbb\xbfdata:2\n\ndata:3\n\n", [("", "1", ""), ("", "3", "")], ""),
    "two-boms": (b"\xef\xbb\xbf\xef\xbb\xbfdata:1\n\ndata:2\n\n", [("", "2", "")], ""),
    "bom-cut-short": (b"\xef\xbbdata:1\n\ndata:2\n\n", [("", "2", "")], ""),
    "comments": (b"data:1\r:\0\n:\r\ndata:2\n:" + b"x" * 5000 + b"\rdata:3\n:data:fail\r:x\ndata:4\n\n",
                 [("", "1\n2\n3\n4", "")], ""),
    "no-blank-line-at-the-end": (b"data:ok\n\ndata:lost\n", [("", "ok", "")], ""),
    "id-lost-with-it": (b"id:1\ndata:ok\n\nid:2\ndata:lost\n", [("", "ok", "1")], "1"),
    "empty-event": (b"event:\ndata:x\n\n", [("", "x", "")], ""),
    "data-empty": (b"data:\n\ndata\ndata\n\ndata:test\n\n", [("", "", ""), ("", "\n", ""), ("", "test", "")], ""),
    "event-type": (b"event:test\ndata:x\n\ndata:x\n\n", [("test", "x", ""), ("", "x", "")], ""),
    "event-without-data": (b"event:test\n\ndata:x\n\n", [("", "x", "")], ""),
    "last-event-type-wins": (b"event:a\nevent:b\ndata:x\n\n", [("b", "x", "")], ""),
    "fields-of-other-names": (b"data:a\n data:b\ndata\nfoobar:c\njustsometext\n:thisisacomment\ndata:d\n\n",
                              [("", "a\n\nd", "")], ""),
    "names-are-case-sensitive": (b"Data:a\nDATA:b\ndata:c\nID:1\nEvent:e\n\n", [("", "c", "")], ""),
    "space-after-the-colon": (b"data:\ttest\rdata: \ndata:  two\ndata:test\n\n", [("", "\ttest\n\n two\ntest", "")],
                              ""),
    "space-before-the-colon": (b"data :x\ndata:y\n\n", [("", "y", "")], ""),
    "colons": (b"data:a:b: c\ndata::\n\n", [("", "a:b: c\n:", "")], ""),
    "line-ends": (b"data:a\r\ndata:b\ndata:c\rdata:d\r\n\r\ndata:e\r\rdata:f\n\ndata:g\r\n\n",
                  [("", "a\nb\nc\nd", ""), ("", "e", ""), ("", "f", ""), ("", "g", "")], ""),
    "no-line-ends": (b"data:a\x0bb\x0cc\x85d\xe2\x80\xa8e\xc2\x85f\n\n",
                     [("", "a\x0bb\x0cc\ufffdd\u2028e\x85f", "")], ""),
    "null": (b"data:\0\n\ndata\0:x\n\n\0\n\n", [("", "\0", "")], ""),
    "utf-8": ("data:ok…€😀\n\n".encode(), [("", "ok…€😀", "")], ""),
    "not-utf-8": (b"data:\xff\xe2\x82x\xf0\x9f\n\n", [("", "\ufffd\ufffdx\ufffd", "")], ""),
    "id": (b"id: 1\ndata:a\n\ndata:b\n\nid:2\ndata:c\n\n", [("", "a", "1"), ("", "b", "1"), ("", "c", "2")], "2"),
    "id-reset": (b"id:1\ndata:a\n\nid\ndata:b\n\n", [("", "a", "1"), ("", "b", "")], ""),
    "id-null": (b"id:1\ndata:a\n\nid:2\0 3\ndata:b\n\n", [("", "a", "1"), ("", "b", "1")], "1"),
    "id-without-data": (b"id:1\n\nid:2\n", [], "1"),
    "id-not-ascii": ("id:…é\ndata:a\n\n".encode(), [("", "a", "…é")], "…é"),
    "nothing": (b"", [], ""),
    "blank-lines": (b"\n\r\n\r\n\n", [], ""),
}  # fmt: skip

RETRIES: list[tuple[bytes, int | None]] = [
    (b"retry:3000\n", 3000),
    (b"retry: 3000\n", 3000),
    (b"retry:3000\nretry:1000x\n", 3000),
    (b"retry:03000\n", 3000),
    (b"retry:0\n", 0),
    (b"retry:-1\n", None),
    (b"retry:+1\n", None),
    (b"retry:1 \n", None),
    (b"retry:1.5\n", None),
    (b"retry:\n", None),
    (b"retry\n", None),
    ("retry:٣\n".encode(), None),
    (b"retry:1" + b"0" * 5000 + b"\n", 10**17),
    (b"retry:7", None),
]


def expected(name: str) -> list[ServerSentEvent]:
    return [ServerSentEvent(event or "message", data, id_) for event, data, id_ in VECTORS[name][1]]


def read(pieces: list[bytes], limit: int = LIMIT) -> tuple[list[ServerSentEvent], str]:
    reader = SseReader(limit=limit)
    return [event for piece in pieces for event in reader.feed(piece)], reader.last_id


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name: str) -> None:
    """Each behaviour, with the stream in one piece."""
    stream, _, last_id = VECTORS[name]
    assert read([stream]) == (expected(name), last_id)


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_byte_by_byte(name: str) -> None:
    """The same, with a byte at a time: an event is there with the byte that ends it."""
    stream, _, last_id = VECTORS[name]
    assert read([stream[at : at + 1] for at in range(len(stream))]) == (expected(name), last_id)


def test_at_once() -> None:
    """No event waits for the byte behind its end, whichever that is, and a line feed behind a CR is no blank line."""
    reader = SseReader()
    assert reader.feed(b"data:a\r\r") == [ServerSentEvent("message", "a", "")]
    assert reader.feed(b"\ndata:b\r\n\r") == [ServerSentEvent("message", "b", "")]
    assert reader.feed(b"\n") == []


@pytest.mark.parametrize(("stream", "milliseconds"), RETRIES)
def test_retry(stream: bytes, milliseconds: int | None) -> None:
    """`retry` is a number of milliseconds in ASCII digits, and anything else is passed over."""
    reader = SseReader()
    assert reader.feed(stream) == []
    assert reader.retry == milliseconds


def test_goes_on_with_an_id() -> None:
    """An event without an id has the one that the connection was made with."""
    reader = SseReader("7")
    assert reader.feed(b"data:a\n\n") == [ServerSentEvent("message", "a", "7")]
    assert reader.last_id == "7"


tokens = st.lists(
    st.sampled_from([b"data", b"event", b"id", b"retry", b":", b" ", b"\n", b"\r", b"\0", b"x", b"\xef", b"\xbb\xbf"])
    | st.binary(max_size=3)
)


@given(tokens.map(b"".join), st.lists(st.integers(0, 60)))
@example(b"\xef\xbb\xbfdata\n\n", [1, 2])
@example(b"data\r\n\r\n", [5, 6, 7, 8])
def test_any_pieces(stream: bytes, cuts: list[int]) -> None:
    """However a stream is cut into pieces, empty ones too, its events are the same."""
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    assert read([stream[start:end] for start, end in pairwise(places)]) == read([stream])


@given(tokens.map(b"".join))
def test_second_opinion(stream: bytes) -> None:
    """A plain reading of the whole stream, written apart from it, finds the same events."""
    stream = stream.decode("utf-8", "replace").encode()
    found, _ = read([stream])
    # That one takes an event whose data is one empty line for none.
    assert [event for event in found if event.data] == [
        ServerSentEvent(*frame) for frame in decode(stream) if frame.data
    ]


@pytest.mark.parametrize("event", EVENTS, ids=range(len(EVENTS)))
def test_our_encoder(event: dict[str, Any]) -> None:
    """Each hostile event that our encoder writes comes back unchanged, with what is around it."""
    stream = sse.retry(1500) + sse.frame("e-1", json.dumps(event, ensure_ascii=False)) + sse.HEARTBEAT + sse.end_frame()
    reader = SseReader()
    first, last = reader.feed(stream)
    assert (first.event, json.loads(first.data), first.id) == ("message", event, "e-1")
    assert (last.event, last.data, last.id) == ("end", "{}", "e-1")
    assert reader.retry == 1500


@pytest.mark.parametrize("stream", [b"data:" + b"x" * 100, b"x" * 101 + b"\n", b":" * 101, b"data:12345\n" * 11])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_too_large(stream: bytes, size: int) -> None:
    """An event beyond the limit is refused, with or without line ends in it, whatever the pieces."""
    with pytest.raises(TooLarge):
        read([stream[at : at + size] for at in range(0, len(stream), size)], limit=100)


def test_long_streams() -> None:
    """Any number of events and heartbeats may come: the limit is that of one event."""
    stream = (b"data:" + b"x" * 90 + b"\n\n" + b": \n" * 100) * 50
    assert len(read([stream], limit=100)[0]) == 50
