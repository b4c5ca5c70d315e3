"""Request headers as the guards read them, and the headers that every answer has. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

Pairs = Sequence[tuple[bytes, bytes]]

PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
)
"""The content security policy of the page: only what it needs, from itself."""

SECURITY: Final[Pairs] = (
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    (b"cache-control", b"no-store"),
)
"""On every answer that does not say otherwise itself."""


def secured(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of an answer, with those of `SECURITY` that it has not."""
    given = list(headers)
    names = {name.lower() for name, _ in given}
    return [*given, *(pair for pair in SECURITY if pair[0] not in names)]


def values(scope: Any, name: bytes) -> list[str]:
    """All values of a request header."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def single(scope: Any, name: bytes) -> str | None:
    """The value of a request header that is there once; None if it is missing, or there several times."""
    found = values(scope, name)
    return found[0] if len(found) == 1 else None


def bearer(scope: Any) -> str | None:
    """The bearer token of a request (RFC 6750, section 2.1); never one from the query."""
    scheme, _, token = (single(scope, b"authorization") or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def host_name(host: str) -> str | None:
    """The name in a Host header, in lower case, without the port and the dot at its end; None if it is none."""
    name, rest = host, ""
    if host.startswith("["):
        name, bracket, rest = host.partition("]")
        if not bracket:
            return None
        name += "]"
    elif ":" in host:
        name, colon, port = host.partition(":")
        rest = colon + port
    if not name or (rest and not (rest[0] == ":" and rest[1:].isascii() and (rest[1:].isdigit() or rest == ":"))):
        return None
    name = name.lower().removesuffix(".")
    return name or None


def media_type(scope: Any) -> str | None:
    """The media type of a request's body, in lower case without parameters; None if it says none, or several."""
    value = single(scope, b"content-type")
    return None if value is None else value.partition(";")[0].strip().lower()
