"""The settings table as one frozen object, read once: argument > environment variable > default."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar, cast

from runnable_otel.redact import NO_PATTERN

CaptureMode = Literal["values", "keys", "none"]
_T = TypeVar("_T")


class SettingError(ValueError):
    """A setting is out of range: the message names the variable, the value and what is allowed.

    Args:
        variable: its name.
        value: what it is; `…` for a secret.
        allowed: what it may be; or what is missing for it, with `needs` as `says`.
        says: the word before that.
    """

    def __init__(self, variable: str, value: object, allowed: str, *, says: str = "expected") -> None:
        super().__init__(f"{variable}={_shown(value)}: {says} {allowed}")
        self.variable = variable
        self.allowed = allowed


def _shown(value: object) -> str:
    """A bad value as an error line may show it: short, on one line, without what stands before an `@`."""
    return re.sub(r"//.*@", "//…@", repr(value))[:80]


def _flag(variable: str, value: object) -> bool:
    text = str(value).strip().lower()
    if text in ("true", "1", "yes", "on"):
        return True
    if text in ("false", "0", "no", "off", ""):
        return False
    raise SettingError(variable, value, "true or false")


def _mode(variable: str, value: object) -> CaptureMode:
    text = str(value).strip().lower()
    if text not in ("values", "keys", "none"):
        raise SettingError(variable, value, "values, keys or none")
    return text


def _size(variable: str, value: object) -> int:
    try:
        number = int(str(value).strip())
    except ValueError:
        number = -1
    if not 32 <= number <= 65536:
        raise SettingError(variable, value, "a whole number of bytes from 32 to 65536")
    return number


def _seconds(variable: str, value: object) -> float:
    try:
        number = float(str(value).strip())
    except ValueError:
        number = math.nan
    if not 0 <= number <= 3600:
        raise SettingError(variable, value, "seconds from 0 to 3600")
    return number


def _words(value: object) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else cast("list[object]", value)
    return tuple(text for text in (str(part).strip() for part in parts) if text)


def _patterns(variable: str, value: object) -> tuple[str, ...]:
    patterns = _words(value)
    for pattern in patterns:
        try:
            re.compile(pattern)
        except NO_PATTERN as error:
            raise SettingError(variable, pattern, f"regular expressions, comma-separated ({error})") from None
    return patterns


def _urls(variable: str, value: object) -> tuple[str, ...]:
    urls = _words(value)
    for url in urls:
        if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", url):
            raise SettingError(variable, url, "sink URLs, comma-separated, such as file:events.jsonl")
        if re.search(r"//[^/?#]*@", url):
            # runnable copies RUNNABLE_* into the environment of shell tasks, and prints that environment.
            raise SettingError(variable, url, "a URL without credentials; put them in OTEL_RUNNABLE_SINK_TOKEN")
    return urls


def _folder(variable: str, value: object) -> str:
    text = str(value).strip()
    if "\0" in text:
        raise SettingError(variable, value, "the path of a folder")
    return os.path.abspath(os.path.expanduser(text)) if text else ""  # a task may change the working directory


def _setting(variable: str, parse: Callable[[str, object], _T], default: _T) -> Any:
    """A field that knows its variable and how to read it."""
    return field(default=default, metadata={"variable": variable, "parse": parse})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a user can set. Build it with `Settings.read()`.

    Attributes:
        enabled: `RUNNABLE_OTEL_ENABLED`; false leaves the package installed but inert.
        console: `RUNNABLE_TELEMETRY_CONSOLE`; draw each run as a tree on the terminal.
        sinks: `RUNNABLE_OTEL_SINKS`; URLs of the sinks that get each event.
        capture: `RUNNABLE_OTEL_CAPTURE`; what `inputs` and `outputs` hold.
        max_value_bytes: `RUNNABLE_OTEL_MAX_VALUE_BYTES`; UTF-8 bytes of `inputs`, `outputs` and `status`.
        redact: `RUNNABLE_OTEL_REDACT`; further patterns of keys whose values are masked.
        logs: `RUNNABLE_OTEL_LOGS`; what tasks write to stdout and stderr becomes `task_log` events.
        exit_timeout: `RUNNABLE_OTEL_EXIT_TIMEOUT`; seconds that telemetry may hold the process at its end.
        spool: `RUNNABLE_OTEL_SPOOL`; the folder in which what could not be delivered is kept; none where it is empty.
    """

    enabled: bool = _setting("RUNNABLE_OTEL_ENABLED", _flag, default=True)
    console: bool = _setting("RUNNABLE_TELEMETRY_CONSOLE", _flag, default=False)
    sinks: tuple[str, ...] = _setting("RUNNABLE_OTEL_SINKS", _urls, default=())
    capture: CaptureMode = _setting("RUNNABLE_OTEL_CAPTURE", _mode, default="values")
    max_value_bytes: int = _setting("RUNNABLE_OTEL_MAX_VALUE_BYTES", _size, default=256)
    redact: tuple[str, ...] = _setting("RUNNABLE_OTEL_REDACT", _patterns, default=())
    logs: bool = _setting("RUNNABLE_OTEL_LOGS", _flag, default=False)
    exit_timeout: float = _setting("RUNNABLE_OTEL_EXIT_TIMEOUT", _seconds, default=2.0)
    spool: str = _setting("RUNNABLE_OTEL_SPOOL", _folder, default="")

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None, **arguments: Any) -> Settings:
        """Read the settings: an argument that is not None wins over its variable, the variable over the default.

        Args:
            environ: the environment; `os.environ` unless told.
            arguments: settings by attribute name.

        Raises:
            SettingError: a value is out of range.
            TypeError: there is no setting of that name.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for each in fields(cls):
            variable, parse = each.metadata["variable"], each.metadata["parse"]
            argument = arguments.pop(each.name, None)
            if argument is not None:
                values[each.name] = parse(each.name, argument)
            elif environ.get(variable):
                values[each.name] = parse(variable, environ[variable])
        if arguments:
            raise TypeError(f"no such setting: {', '.join(sorted(arguments))}")
        return cls(**values)


def disabled_by_opentelemetry(environ: Mapping[str, str] | None = None) -> bool:
    """Whether `OTEL_PYTHON_DISABLED_INSTRUMENTATIONS` names `runnable` or `*`."""
    environ = os.environ if environ is None else environ
    names = {name.strip() for name in environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")}
    return bool(names & {"runnable", "*"})


def sdk_disabled(environ: Mapping[str, str] | None = None) -> bool:
    """Whether `OTEL_SDK_DISABLED` is true, as the SDK reads it."""
    environ = os.environ if environ is None else environ
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def activated(environ: Mapping[str, str] | None = None) -> bool:
    """Whether a variable is set that switches a plain run on (way in 2 of the README)."""
    environ = os.environ if environ is None else environ
    if any(environ.get(variable) for variable in ACTIVATING if variable != "RUNNABLE_TELEMETRY_CONSOLE"):
        return True
    try:  # runnable itself takes only `true`, in any case, for a yes
        return _flag("RUNNABLE_TELEMETRY_CONSOLE", environ.get("RUNNABLE_TELEMETRY_CONSOLE", ""))
    except SettingError:
        return True  # who reads the settings then says so


ACTIVATING = (
    "RUNNABLE_TELEMETRY_CONSOLE",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "LOGFIRE_TOKEN",
    "RUNNABLE_OTEL_SINKS",
)
"""The variables of way in 2; the start-up file `runnable_otel.pth` names the same ones."""
