"""Where an exporter sends to, and whether anybody listens there."""

from __future__ import annotations

import errno
import os
import re
import socket
from typing import Any, Final
from urllib.parse import urlsplit

_PORTS: Final = {"http": 80, "https": 443}
_INSIDE: Final = ("wrapped_exporter", "exporter", "_exporter")
_NOBODY: Final = {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN}


def _target(exporter: object) -> str | None:
    """The endpoint of an OTLP exporter of the SDK, or of the one that is wrapped in another; None for all others."""
    inner: Any = exporter
    for _ in range(8):
        named = getattr(inner, "_endpoint", None)  # no public word for it
        if isinstance(named, str):
            return named
        inner = next((found for name in _INSIDE if (found := getattr(inner, name, None)) is not None), None)
        if inner is None:
            break
    return None


def is_otlp(exporter: object) -> bool:
    """Whether an exporter is one of the SDK's for OTLP, or wraps one."""
    return _target(exporter) is not None


def address_of(exporter: object) -> str:
    """`host:port` of an OTLP exporter; empty for all others."""
    return address(_target(exporter) or "")


def address(endpoint: str) -> str:
    """`host:port` of a URL or of a gRPC target; empty for a socket in the file system and all else."""
    try:
        parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return ""
    if parts.scheme not in ("", "http", "https") or not parts.hostname or not port:
        return ""
    host = parts.hostname
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def nobody_listens(address: str, timeout: float) -> str:
    """Why a connection to an address is refused at once; empty where it is not, or where a proxy stands between.

    Blocks for `timeout` seconds at most, and for as long as the resolver takes.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or _behind_a_proxy(host):
        return ""
    try:
        socket.create_connection((host, int(port)), timeout).close()
    except socket.gaierror:
        return "its host is unknown"
    except OSError as error:
        return os.strerror(error.errno).lower() if error.errno in _NOBODY else ""
    return ""


def _behind_a_proxy(host: str) -> bool:
    if not any(re.fullmatch(r"(?i)(https?|all|grpc)_proxy", name) for name in os.environ):
        return False
    from urllib.request import proxy_bypass

    return not proxy_bypass(host)
