"""A request's body as it comes in: counted, and decompressed piece by piece, so that a small one can't become large."""

from __future__ import annotations

import zlib
from typing import Final

from runnable_otel.ingest.limits import BODY_BYTES, Refused, malformed, too_large

ENCODINGS: Final = ("", "identity", "gzip")
"""Values of `Content-Encoding` that are understood."""

_EITHER: Final = zlib.MAX_WBITS + 32  # gzip (RFC 1952) or zlib (RFC 1950), by its first bytes
_PIECE: Final = 64 * 1024
_MEMBERS: Final = 16  # of a gzip file; each costs a copy of what is left


class Body:
    """Gathers one body.

    Args:
        encoding: the request's `Content-Encoding`.

    Raises:
        Refused: 415, that encoding is not understood.
    """

    def __init__(self, encoding: str = "") -> None:
        encoding = encoding.strip().lower()
        if encoding not in ENCODINGS:
            raise Refused(415, "The body's encoding is not known: gzip is, and none.")
        self._unzip = zlib.decompressobj(_EITHER) if encoding == "gzip" else None
        self._parts: list[bytes] = []
        self._came = self._size = self._members = 0

    def feed(self, chunk: bytes) -> None:
        """Take a piece as it came.

        Raises:
            Refused: 413, it is larger than 4 MiB, packed or unpacked; 400, it is not gzip.
        """
        self._came += len(chunk)
        if self._came > BODY_BYTES:
            raise too_large()
        if self._unzip is None:
            self._keep(chunk)
            return
        while chunk:
            if self._unzip.eof:  # another member of the same file
                self._unzip = zlib.decompressobj(_EITHER)
                self._members += 1
            chunk = self._inflate(self._unzip, chunk)
            if self._unzip.eof:
                chunk = self._unzip.unused_data

    def end(self) -> bytes:
        """The whole body, decompressed.

        Raises:
            Refused: 400, it ends before its gzip does; 413, as `feed`.
        """
        if self._unzip is not None and self._came:
            while not self._unzip.eof:  # what it holds back, since a piece was full
                before = self._size
                self._inflate(self._unzip, b"")
                if self._size == before and not self._unzip.eof:
                    raise malformed("gzip to its end")
        return b"".join(self._parts)

    def _inflate(self, unzip: zlib._Decompress, chunk: bytes) -> bytes:
        """Decompress a piece, and return what is left of the chunk."""
        try:
            part = unzip.decompress(chunk, _PIECE)
        except zlib.error:
            raise malformed("gzip") from None
        if self._members >= _MEMBERS:
            raise malformed(f"gzip of at most {_MEMBERS} members")
        self._keep(part)
        return unzip.unconsumed_tail

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > BODY_BYTES:
            raise too_large()
        self._parts.append(part)


def inflate(body: bytes) -> bytes:
    """A body of gzip or zlib that is there already.

    Raises:
        Refused: as `Body`.
    """
    gathered = Body("gzip")
    gathered.feed(body)
    return gathered.end()
