"""The settings table: argument over environment over default; a bad value is named in the error."""

from __future__ import annotations

import dataclasses
import sys

import pytest

from runnable_otel.exporters import logfire_exporter, otlp_exporter
from runnable_otel.settings import (
    ACTIVATING,
    SettingError,
    Settings,
    activated,
    disabled_by_opentelemetry,
    sdk_disabled,
)
from runnable_otel.sinks import open_sink
from support.environments import ROOT


def test_defaults() -> None:
    """Without variables the settings are those of the table in the README."""
    assert Settings.read({}) == Settings()
    assert dataclasses.asdict(Settings()) == {
        "enabled": True,
        "console": False,
        "sinks": (),
        "capture": "values",
        "max_value_bytes": 256,
        "redact": (),
        "logs": False,
        "exit_timeout": 2.0,
        "spool": "",
    }


@pytest.mark.parametrize(
    ("variable", "value", "name", "read"),
    [
        ("RUNNABLE_OTEL_ENABLED", "false", "enabled", False),
        ("RUNNABLE_OTEL_ENABLED", "0", "enabled", False),
        ("RUNNABLE_OTEL_SPOOL", "/a/../spool", "spool", "/spool"),
        ("RUNNABLE_TELEMETRY_CONSOLE", "TRUE", "console", True),
        ("RUNNABLE_TELEMETRY_CONSOLE", "1", "console", True),  # runnable's own reading: only `true`
        ("RUNNABLE_TELEMETRY_CONSOLE", "off", "console", False),
        ("RUNNABLE_OTEL_SINKS", "file:a.jsonl, console:", "sinks", ("file:a.jsonl", "console:")),
        ("RUNNABLE_OTEL_CAPTURE", "Keys", "capture", "keys"),
        ("RUNNABLE_OTEL_MAX_VALUE_BYTES", "32", "max_value_bytes", 32),
        ("RUNNABLE_OTEL_MAX_VALUE_BYTES", "65536", "max_value_bytes", 65536),
        ("RUNNABLE_OTEL_REDACT", "iban, tax_.*", "redact", ("iban", "tax_.*")),
        ("RUNNABLE_OTEL_EXIT_TIMEOUT", "0.5", "exit_timeout", 0.5),
    ],
)
def test_variable(variable: str, value: str, name: str, read: object) -> None:
    """Each variable is read as the table says."""
    assert getattr(Settings.read({variable: value}), name) == read


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RUNNABLE_OTEL_ENABLED", "maybe"),
        ("RUNNABLE_TELEMETRY_CONSOLE", "maybe"),
        ("RUNNABLE_OTEL_SINKS", "no-colon"),
        ("RUNNABLE_OTEL_CAPTURE", "all"),
        ("RUNNABLE_OTEL_MAX_VALUE_BYTES", "31"),
        ("RUNNABLE_OTEL_MAX_VALUE_BYTES", "65537"),
        ("RUNNABLE_OTEL_MAX_VALUE_BYTES", "many"),
        ("RUNNABLE_OTEL_REDACT", "("),
        ("RUNNABLE_OTEL_REDACT", "a{99999999999}"),
        ("RUNNABLE_OTEL_EXIT_TIMEOUT", "-1"),
        ("RUNNABLE_OTEL_EXIT_TIMEOUT", "nan"),
    ],
)
def test_bad_value(variable: str, value: str) -> None:
    """A value out of range is an error that names the variable, the value and what is allowed."""
    with pytest.raises(SettingError) as caught:
        Settings.read({variable: value})
    assert str(caught.value).startswith(f"{variable}={value!r}: expected ")


def test_a_pattern_that_is_too_deep() -> None:
    """What Python can't compile for its depth is said like any other mistake, with as much of it as fits on a line."""
    with pytest.raises(SettingError, match=r"^RUNNABLE_OTEL_REDACT='\(+: expected regular expressions"):
        Settings.read({"RUNNABLE_OTEL_REDACT": "(" * 10_000 + ")" * 10_000})


@pytest.mark.parametrize(
    ("value", "shown"),
    [("größe", "'größe'"), ("…", "'…'"), ("a\n\x1b\u2028\u202e\ud800", r"'a\n\x1b\u2028\u202e\ud800'")],
)
def test_how_a_value_is_shown(value: str, shown: str) -> None:
    """What can be printed is shown as it is; what would break the line, or turn it round, is not."""
    with pytest.raises(SettingError) as caught:
        Settings.read({"RUNNABLE_OTEL_CAPTURE": value})
    assert str(caught.value) == f"RUNNABLE_OTEL_CAPTURE={shown}: expected values, keys or none"


@pytest.mark.parametrize("user", ["user:hunter2", "user:hun/ter2", "user:hun@ter2"])
def test_credentials_are_not_shown(user: str) -> None:
    """Nor are those that should have been quoted."""
    with pytest.raises(SettingError) as caught:
        open_sink(f"nope://{user}@host")
    assert str(caught.value).startswith("RUNNABLE_OTEL_SINKS='nope://…@host': expected a URL of one of console:, file:")
    assert "otlp-logs:" not in str(caught.value)


def test_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said what a value needs, and how to install it; the token itself is not shown."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    needs = "needs opentelemetry-exporter-otlp-proto-http: pip install 'runnable-otel[http]'"
    with pytest.raises(SettingError) as caught:
        otlp_exporter("http/protobuf")
    assert str(caught.value) == f"OTEL_EXPORTER_OTLP_PROTOCOL='http/protobuf': {needs}"
    with pytest.raises(SettingError) as caught:
        logfire_exporter("pylf_v1_eu_hunter2")
    assert str(caught.value) == f"LOGFIRE_TOKEN='…': {needs}"


def test_credentials_in_a_sink_url() -> None:
    """A sink URL with credentials is refused, and the error does not show them."""
    with pytest.raises(SettingError, match="OTEL_RUNNABLE_SINK_TOKEN") as caught:
        Settings.read({"RUNNABLE_OTEL_SINKS": "otlp:http://user:hunter2@host:4318"})
    assert "hunter2" not in str(caught.value)


def test_argument_wins() -> None:
    """An argument wins over its variable, and an empty variable is no value."""
    environ = {"RUNNABLE_OTEL_MAX_VALUE_BYTES": "100", "RUNNABLE_OTEL_CAPTURE": ""}
    assert Settings.read(environ, max_value_bytes=200, capture=None).max_value_bytes == 200
    assert Settings.read(environ).capture == "values"
    with pytest.raises(SettingError, match="max_value_bytes=7"):
        Settings.read(environ, max_value_bytes=7)
    with pytest.raises(TypeError, match="no such setting: colour"):
        Settings.read(environ, colour="red")


def test_switches_of_opentelemetry() -> None:
    """`OTEL_SDK_DISABLED` and `OTEL_PYTHON_DISABLED_INSTRUMENTATIONS` are read as OpenTelemetry reads them."""
    assert not disabled_by_opentelemetry({})
    assert not disabled_by_opentelemetry({"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "redis,flask"})
    assert disabled_by_opentelemetry({"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "redis, runnable"})
    assert disabled_by_opentelemetry({"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*"})
    assert sdk_disabled({"OTEL_SDK_DISABLED": " True "})
    assert not sdk_disabled({"OTEL_SDK_DISABLED": "1"})


def test_start_up_file_names_the_same_variables() -> None:
    """The start-up file, which imports nothing, looks at the variables of the table."""
    line = (ROOT / "src" / "runnable_otel.pth").read_text()
    assert line.count("\n") == 1
    assert [name for name in ACTIVATING if f'"{name}"' in line] == list(ACTIVATING)
    assert activated({"LOGFIRE_TOKEN": "x"})
    assert not activated({"LOGFIRE_TOKEN": ""})
