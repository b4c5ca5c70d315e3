"""The server's options, one table: argument > environment variable > default. Each is also a flag of `serve`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from typing import Any, Final, TypeVar, cast

from runnable_otel.settings import SettingError

PREFIX: Final = "RUNNABLE_OTEL_SERVE_"
MIN_TOKEN: Final = 16
"""Characters of a token that keeps out other machines."""
OFF: Final = -1
"""In place of a port: none is opened."""
_NAME: Final = r"[a-z0-9._-]+|\[[0-9a-f:.]+\]"
_PORTS: Final = {"http": 80, "https": 443}
_T = TypeVar("_T")


def _host(name: str, value: object) -> str:
    text = str(value).strip()
    if not text or re.search(r"[\s/@]", text):
        raise SettingError(name, value, "an address or a host name")
    return text.removeprefix("[").removesuffix("]")


def _port(name: str, value: object) -> int:
    text = str(value).strip().lower()
    if text.isascii() and text.isdigit() and len(text) < 6 and int(text) < 65536:
        return int(text)
    raise SettingError(name, value, "a port from 0 to 65535; 0 is any that is free")


def _port_or_off(name: str, value: object) -> int:
    if str(value).strip().lower() in ("off", str(OFF)):
        return OFF
    try:
        return _port(name, value)
    except SettingError as error:
        raise SettingError(name, value, f"{error.allowed}, or off") from None


def _text(_: str, value: object) -> str:
    return str(value).strip()


def _token(name: str, value: object) -> str:
    text = str(value).strip()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        # The value is nobody's to see.
        raise SettingError(name, "…", "a token of printable ASCII characters without blanks")
    return text


def _words(value: object) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else cast("list[object]", value)
    return tuple(text for text in (str(part).strip() for part in parts) if text)


def _hosts(name: str, value: object) -> tuple[str, ...]:
    hosts = tuple(host.lower() for host in _words(value))
    for host in hosts:
        if not re.fullmatch(_NAME, host):
            raise SettingError(name, host, "host names without a port, comma-separated, such as live.example.com")
    return hosts


def _origins(name: str, value: object) -> tuple[str, ...]:
    origins: list[str] = []
    for text in _words(value):
        found = re.fullmatch(rf"(https?)://({_NAME})(?::([0-9]{{1,5}}))?", text.lower())
        if found is None or not 0 < int(found[3] or 1) < 65536:
            raise SettingError(name, text, "origins, comma-separated, such as https://dash.example.com")
        port = int(found[3] or 0)  # browsers leave out the one that goes without saying
        origins.append(f"{found[1]}://{found[2]}" + (f":{port}" if port not in (0, _PORTS[found[1]]) else ""))
    return tuple(origins)


def _base(name: str, value: object) -> str:
    text = str(value).strip().rstrip("/")
    if text and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", text):
        raise SettingError(name, value, "a path such as /live")
    return text


def _count(name: str, value: object) -> int:
    text = str(value).strip()
    if text.isascii() and text.isdigit() and 0 < int(text[:10]) <= 10**9:
        return int(text)
    raise SettingError(name, value, "a whole number from 1 to 1000000000")


def _option(
    parse: Callable[[str, object], _T],
    default: _T,
    metavar: str,
    meaning: str,
    flag: str = "",
) -> Any:
    return field(default=default, metadata={"parse": parse, "metavar": metavar, "help": meaning, "flag": flag})


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the server is told. Build it with `Options.read()`; `serve --help` says what each means."""

    host: str = _option(_host, "127.0.0.1", "ADDRESS", "listen there; another than this machine needs both tokens")
    port: int = _option(_port, 8765, "PORT", "of the page and the API; 0 is any that is free")
    otlp_http_port: int = _option(_port_or_off, 4318, "PORT", "of OTLP over HTTP, beside the page's; or off")
    otlp_grpc_port: int = _option(_port_or_off, 4317, "PORT", "of OTLP over gRPC; or off")
    db: str = _option(_text, "", "FILE|URL", "keep the runs in a SQLite file, or redis://HOST; in memory unless told")
    token: str = _option(_token, "", "TOKEN", "for readers; random unless told (better by its variable)")
    ingest_token: str = _option(_token, "", "TOKEN", "for who sends OTLP (better by its variable)")
    allowed_hosts: tuple[str, ...] = _option(
        _hosts, (), "NAME", "a further name that the server is called by; may be repeated", flag="--allowed-host"
    )
    base_path: str = _option(_base, "", "PATH", "what stands before all paths, such as /live")
    cors: tuple[str, ...] = _option(
        _origins, (), "ORIGIN", "a page that may read with a token, such as https://dash.example; may be repeated"
    )
    retain_runs: int = _option(_count, 1000, "NUMBER", "finished runs that are kept")
    max_streams: int = _option(_count, 10_000, "NUMBER", "streams that may be open at once")
    max_streams_per_address: int = _option(_count, 5_000, "NUMBER", "of them for one client address")

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None, **arguments: Any) -> Options:
        """Read the options: an argument that is not None wins over its variable, the variable over the default.

        Args:
            environ: the environment; `os.environ` unless told.
            arguments: options by attribute name.

        Raises:
            SettingError: a value is out of range; the error names the flag or the variable.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for each in fields(cls):
            argument, said = arguments.get(each.name), environ.get(variable(each.name))
            if argument is not None:
                values[each.name] = each.metadata["parse"](each.name, argument)
            elif said:
                values[each.name] = each.metadata["parse"](variable(each.name), said)
        return cls(**values)


def variable(name: str) -> str:
    """The variable of an option."""
    return PREFIX + name.upper()


def flag(name: str) -> str:
    """The flag of an option."""
    (found,) = [each.metadata["flag"] for each in fields(Options) if each.name == name]
    return found or f"--{name.replace('_', '-')}"


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own: only its own programs reach it."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
