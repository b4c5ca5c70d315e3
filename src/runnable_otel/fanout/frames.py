"""Entries of a log as pieces of a stream: bytes that leave in one write, and the position after them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from runnable_otel import sse
from runnable_otel.log import Batch

PIECE: Final = 32 * 1024
"""Bytes after which a piece is full; an entry is never cut, so that one may be longer."""
LAST_CHUNK: Final = b"0\r\n\r\n"
"""The end of a body in chunks."""


class Piece(NamedTuple):
    """Some whole frames.

    Attributes:
        body: their bytes.
        chunk: the same as a chunk of HTTP/1.1, for who writes to a connection directly.
        position: where a client is that has them.
    """

    body: bytes
    chunk: bytes
    position: str


def piece(frames: Sequence[bytes], position: str) -> Piece:
    """A piece of these frames."""
    body = b"".join(frames)
    return Piece(body, chunk(body), position)


def chunk(body: bytes) -> bytes:
    """Bytes, not none, as a chunk of HTTP/1.1 (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(body), body)


def pieces(batch: Batch) -> Iterator[Piece]:
    """All of a batch, the gap first; none when there is nothing in it."""
    frames = [] if batch.gap is None else [sse.gap_frame(batch.gap)]
    size, position = 0, ""
    for entry in batch.entries:
        if size >= PIECE:
            yield piece(frames, position)
            frames, size = [], 0
        frames.append(sse.entry_frame(entry))
        size, position = size + len(frames[-1]), entry.position
    if frames:
        yield piece(frames, batch.position)


class Page(NamedTuple):
    """The beginning of a batch, as much as a client gets in one write.

    Attributes:
        body: the frames' bytes; may be empty.
        taken: how many of its entries they are.
    """

    body: bytes
    taken: int


def page(batch: Batch, until: str, most: int = PIECE // 2) -> Page:
    """What a client that is behind gets of a batch: some 16 KiB, and nothing that lies after the position `until`."""
    frames = [] if batch.gap is None else [sse.gap_frame(batch.gap)]
    size = taken = 0
    for entry in batch.entries:
        frames.append(sse.entry_frame(entry))
        size, taken = size + len(frames[-1]), taken + 1
        if size >= most or entry.position == until:
            break
    return Page(b"".join(frames), taken)
