"""Who may read and who may write: bearer tokens, and the one-time codes that a page exchanges for one."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Final

CODE_SECONDS: Final = 600.0
"""How long a code can be exchanged."""
_MOST_CODES: Final = 16


class Tokens:
    """The tokens of one server. Comparing takes the same time whatever is compared.

    Args:
        token: for readers; a random one unless told.
        ingest_token: for writers; None: who writes from this machine needs none, and nobody else may.
        clock: seconds.
    """

    def __init__(
        self,
        token: str | None = None,
        ingest_token: str | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if token == "" or ingest_token == "":
            raise ValueError("a token can't be empty")
        self.token: Final = token or secrets.token_urlsafe(32)
        self.ingest_token: Final = ingest_token
        self._clock = clock
        self._codes: dict[bytes, float] = {}  # digest of a code to when it ends

    def code(self) -> str:
        """A code that can be exchanged for the readers' token once, within ten minutes. Sixteen are kept at most."""
        code = secrets.token_urlsafe(24)
        while len(self._codes) >= _MOST_CODES:
            del self._codes[next(iter(self._codes))]
        self._codes[_digest(code)] = self._clock() + CODE_SECONDS
        return code

    def exchange(self, code: str) -> str | None:
        """The token for a code; None if it is not one, any more."""
        asked = _digest(code)
        found = [known for known in self._codes if hmac.compare_digest(known, asked)]
        if not found or self._codes.pop(found[0]) < self._clock():
            return None
        return self.token

    def reads(self, bearer: str | None) -> bool:
        """Whether this is the readers' token."""
        return bearer is not None and _same(bearer, self.token)

    def writes(self, bearer: str | None) -> bool:
        """Whether this is the writers' token."""
        return bearer is not None and self.ingest_token is not None and _same(bearer, self.ingest_token)


def _digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogatepass")).digest()


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(_digest(one), _digest(other))
