"""What a process that another machine or container starts is given of this one's environment: pure.

Nothing secret is among it, for it ends up in files and in the descriptions of containers and pods; nor what only means
something on this machine. Credentials go by reference: a configuration holds `env:NAME` or `secretKeyRef:SECRET/KEY`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from runnable_otel.redact import Redactor

_PREFIXES: Final = ("OTEL_", "RUNNABLE_OTEL_")
_HERE_ONLY: Final = ("RUNNABLE_OTEL_SERVE_", "RUNNABLE_OTEL_SEED", "RUNNABLE_OTEL_STARTED", "RUNNABLE_OTEL_TRY")
# Files and folders of this machine.
_PATHS: Final = ("_CERTIFICATE", "_CLIENT_KEY", "_CONFIG_FILE", "_SPOOL")
_LOCAL: Final = re.compile(r"localhost|127(\.\d+){3}|::1|0\.0\.0\.0|::", re.IGNORECASE)
_REFERENCE: Final = re.compile(r"secretKeyRef:([a-z0-9][a-z0-9.-]{0,252})/([-._a-zA-Z0-9]{1,253})")


class Reference(NamedTuple):
    """A key of a Kubernetes secret."""

    secret: str
    key: str

    def __str__(self) -> str:
        return f"secretKeyRef:{self.secret}/{self.key}"


def passed_on(environ: Mapping[str, str], redactor: Redactor) -> dict[str, str]:
    """The variables of OpenTelemetry and ours that a process elsewhere is given."""
    return {
        name: value
        for name, value in sorted(environ.items())
        if value and _is_ours(name) and not _is_path(name) and not is_credential(name, value, redactor)
    }


def credentials(environ: Mapping[str, str], redactor: Redactor) -> list[str]:
    """The names of those that are set and are not given, because they hold a credential."""
    ours = (name for name in sorted(environ) if _is_ours(name) or name == "LOGFIRE_TOKEN")
    return [
        name for name in ours if environ[name] and not _is_path(name) and is_credential(name, environ[name], redactor)
    ]


def is_credential(name: str, value: str, redactor: Redactor) -> bool:
    """Whether a variable holds a credential, by its name or by the look of its value."""
    return name.endswith("_HEADERS") or redactor.key(name) or redactor.text(value) != value


def _is_ours(name: str) -> bool:
    return name.startswith(_PREFIXES) and not name.startswith(_HERE_ONLY)


def _is_path(name: str) -> bool:
    return name.endswith(_PATHS)


def local_endpoints(environ: Mapping[str, str]) -> list[str]:
    """The names of those variables whose endpoint is on this machine, which is another one for a container."""
    return [name for name, value in sorted(environ.items()) if any(map(_is_local, _urls(name, value)))]


def _urls(name: str, value: str) -> Iterator[str]:
    if name.startswith("OTEL_EXPORTER_") and name.endswith("ENDPOINT"):
        yield value
    elif name == "RUNNABLE_OTEL_SINKS":
        yield from (url.strip().removeprefix("otlp:") for url in value.split(",") if url.strip().startswith("otlp:"))


def _is_local(url: str) -> bool:
    try:
        host = urlsplit(url if "//" in url else f"//{url}").hostname
    except ValueError:  # not a URL: the exporter says so
        return False
    return bool(host and _LOCAL.fullmatch(host))


def reference(value: str) -> Reference | None:
    """The key of a Kubernetes secret that a configuration names in place of a value, or None."""
    found = _REFERENCE.fullmatch(value)
    return Reference(found[1], found[2]) if found else None


def resolved(configured: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Those variables of ours in a container's configuration that are `env:NAME`, as this environment has them."""
    return {
        name: environ.get(value.removeprefix("env:"), "")
        for name, value in configured.items()
        if value.startswith("env:") and (_is_ours(name) or name == "LOGFIRE_TOKEN")
    }
