"""What the doctor looks at, in this order. Each check gives findings; none of them raises or changes anything."""

from __future__ import annotations

import multiprocessing
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from importlib import import_module
from importlib.metadata import PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

from runnable_otel import hooks
from runnable_otel._version import __version__
from runnable_otel.doctor.endpoints import sinks, spans
from runnable_otel.doctor.finding import Finding
from runnable_otel.doctor.ownership import ownership
from runnable_otel.settings import (
    ACTIVATING,
    SettingError,
    Settings,
    activated,
    disabled_by_opentelemetry,
    sdk_disabled,
)
from runnable_otel.sinks import GROUP

Import = Callable[[], None]
"""Imports the user's file, where there is one."""

_ENTRY_POINTS: Final = {
    "opentelemetry_instrumentor": "runnable",
    "opentelemetry_resource_detector": "runnable",
    "opentelemetry_span_processor": "runnable",
    "opentelemetry_environment_variables": "runnable",
}


def versions(_: Import) -> Iterator[Finding]:
    """Who is here."""
    yield Finding("ok", "runnable-otel", f"{__version__}, Python {platform.python_version()}")
    for name in ("runnable", "opentelemetry-sdk", "logfire"):
        try:
            yield Finding("ok", name, version(name))
        except PackageNotFoundError:
            needed = name == "runnable"
            yield Finding("wrong" if needed else "note", name, "is not installed in this environment")


def entries(_: Import) -> Iterator[Finding]:
    """Which entry points load: ours, and the sinks of third parties."""
    for group, name in _ENTRY_POINTS.items():
        if not entry_points(group=group, name=name):
            yield Finding("wrong", group, f"names no {name}: install runnable-otel anew")
    for group, name in [*_ENTRY_POINTS.items(), (GROUP, None)]:
        for entry in entry_points(group=group) if name is None else entry_points(group=group, name=name):
            try:
                entry.load()
            except Exception as error:  # noqa: BLE001 - anybody's code
                yield Finding("wrong", f"{group} {entry.name}", f"does not load: {type(error).__name__}: {error}")
            else:
                yield Finding("ok", f"{group} {entry.name}", f"loads ({entry.value})")


def start_up_file(_: Import) -> Iterator[Finding]:
    """Whether the file is there that instruments a plain run."""
    found = next((path for path in map(Path, sys.path) if (path / "runnable_otel.pth").is_file()), None)
    if found is not None:
        yield Finding("ok", "start-up file", f"{found / 'runnable_otel.pth'}")
    else:
        yield Finding("warning", "start-up file", "is on no site-packages of sys.path: use runnable-otel run, or code")


def _off() -> str:
    """Why nothing is instrumented, whatever code asks for; empty where something may be."""
    try:
        found = Settings.read()
    except SettingError as error:
        return str(error)
    if not found.enabled:
        return f"RUNNABLE_OTEL_ENABLED is {os.environ['RUNNABLE_OTEL_ENABLED']}"
    return "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS names runnable" if disabled_by_opentelemetry() else ""


def settings(_: Import) -> Iterator[Finding]:
    """Whether the settings are in range, and switch telemetry on."""
    if why := _off():
        yield Finding("wrong", "settings", f"telemetry is off: {why}")
        return
    if sdk_disabled():
        yield Finding("wrong", "settings", "OTEL_SDK_DISABLED is true: there are events, and no spans")
    by = [name for name in ACTIVATING if os.environ.get(name)]
    if activated():
        yield Finding("ok", "settings", f"a plain run is switched on by {', '.join(by)}")
    else:
        yield Finding("note", "settings", f"a plain run is not switched on; set one of {', '.join(ACTIVATING)}")


def file(load: Import) -> Iterator[Finding]:
    """Whether runnable and the user's file can be imported: what their top level sets up is here from now on."""
    activate = activated() and hooks.switch_on()
    for name, each in (("import runnable", _import_runnable), ("import FILE", load)):
        try:
            each()
        except BaseException as error:  # noqa: BLE001 - anybody's code, and a script may exit
            yield Finding("wrong", name, f"{type(error).__name__}: {error}")
            return
    if not activate and hooks.HOOKS.is_on:
        yield Finding("ok", "instrumented", "by opentelemetry-instrument, or by code")


def _import_runnable() -> None:
    if find_spec("runnable") is not None:
        with redirect_stdout(sys.stderr):  # it greets
            import_module("runnable")


def fork(_: Import) -> Iterator[Finding]:
    """What a pool of runnable's (`enable_parallel: true`) does here."""
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_context().get_start_method()
    if method != "fork":
        yield Finding("ok", "pools", f"start their workers by {method}")
        return
    others = [each.name for each in threading.enumerate() if each is not threading.main_thread()]
    others = [name for name in others if not name.startswith(("runnable-otel", "Otel"))]  # they start anew in a child
    if others:
        yield Finding(
            "warning",
            "pools",
            f"fork this process, in which {len(others)} more threads run ({', '.join(others[:3])}): a lock that one of "
            "them holds stays locked in the child; multiprocessing.set_start_method('forkserver') avoids that",
        )
    else:
        yield Finding("ok", "pools", "fork this process, in which no other thread runs yet")


def destinations(load: Import) -> Iterator[Finding]:
    """Where spans and events go, and are kept; nowhere where telemetry is off."""
    if not _off():
        for check in (ownership, spans, sinks, spool):
            yield from check(load)


def spool(_: Import) -> Iterator[Finding]:
    """Whether something can be kept in the folder of `RUNNABLE_OTEL_SPOOL`."""
    folder = Settings.read().spool
    if not folder:
        return
    there = next(each for each in (Path(folder), *Path(folder).parents) if os.path.exists(each))
    try:
        with TemporaryFile(dir=there) as probe:
            probe.write(b"x")
            probe.flush()
    except OSError as error:
        yield Finding("wrong", "spool", f"nothing can be kept in {folder}: {error.strerror or error}")
    else:
        yield Finding("ok", "spool", folder)


CHECKS: Final = (versions, entries, start_up_file, settings, file, fork, destinations)
"""In the order of their lines; those after `file` see what it set up."""
