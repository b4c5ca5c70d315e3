"""The hooks on runnable's modules, set when these are imported, and their inverse.

Nothing in here imports runnable, whose import prints and configures logfire; nor `opentelemetry.instrumentation`, whose
import a plain run need not pay for: `RunnableInstrumentor` is the glue to that.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import wrapt

from runnable_otel import _startup
from runnable_otel.facade import Facade, shim_methods
from runnable_otel.patches import Patches
from runnable_otel.pools import observed
from runnable_otel.settings import SettingError, Settings, activated, disabled_by_opentelemetry
from runnable_otel.sinks import Sink
from runnable_otel.subprocesses import EmulatorSubprocess, SubprocessProxy
from runnable_otel.telemetry import TELEMETRY
from runnable_otel.wrappers import WRAPPERS, managers

logger = logging.getLogger(__name__)

_MINIMUM = (0, 50)


def switch_on() -> bool:
    """Set the hooks, if settings and versions allow it; whether they are set. Calling it again changes nothing."""
    if HOOKS.is_on:
        return True
    settings = read_settings()
    if settings is None or not settings.enabled or disabled_by_opentelemetry() or not _supported():
        return False
    TELEMETRY.use(settings)
    _SINKS.open(settings.sinks)
    HOOKS.on()
    return True


def switch_off() -> None:
    """Put every original back, and close the sinks that the environment named."""
    HOOKS.off()
    end: Any = sys.modules.get("runnable_otel.end")
    if end is not None:
        end.END.release()
    _SINKS.close()
    TELEMETRY.tracing.explicit = None
    TELEMETRY.tracing.forget()


def read_settings() -> Settings | None:
    """The settings of the environment; None, and one line, where one of them is out of range."""
    try:
        return Settings.read()
    except SettingError as error:
        logger.error("telemetry is off: %s", error)
        return None


def _supported() -> bool:
    try:
        found = version("runnable")
    except PackageNotFoundError:
        return True  # not installed as a distribution: whatever it is, missing targets switch off their hooks
    numbers = tuple(int(part) if part.isdigit() else 0 for part in found.split(".")[:2])
    if numbers < _MINIMUM:
        logger.warning("runnable %s is not supported, 0.50 or later is: nothing is instrumented", found)
        return False
    return True


class _Sinks:
    """The sinks that settings name, as opposed to those of a processor."""

    def __init__(self) -> None:
        self._open: list[Sink] = []
        self._logs: list[Sink] = []  # the one for what tasks write, where it is there

    def open(self, sinks: Iterable[Sink | str]) -> None:
        """Open and add them; one that can't be opened costs one line, and the others work."""
        for each in sinks:
            try:
                sink = TELEMETRY.hub.open(each) if isinstance(each, str) else each
            except SettingError as error:
                logger.error("%s", error)
                continue
            self._open.append(sink)
            TELEMETRY.hub.add([sink])
        if self._logs or TELEMETRY.settings.logs:
            self._open_logs()

    def _open_logs(self) -> None:
        """What tasks write goes to the OTLP endpoint of the environment, unless a sink takes it to one anyway."""
        from runnable_otel.sinks.otlp import takes_logs

        TELEMETRY.hub.remove(self._logs, 0)
        self._logs = []
        if TELEMETRY.settings.logs and takes_logs(TELEMETRY.hub.sinks):
            try:
                self._logs = [TELEMETRY.hub.open("otlp-logs:")]
            except SettingError as error:
                logger.error("%s", error)
            TELEMETRY.hub.add(self._logs)

    def close(self) -> None:
        sinks, self._open, self._logs = [*self._open, *self._logs], [], []
        TELEMETRY.hub.remove(sinks, TELEMETRY.settings.exit_timeout)


_SINKS = _Sinks()
open_sinks = _SINKS.open


class _Hooks:
    """The hooks on runnable's modules. wrapt can't take back a post-import hook, so each asks whether it is on."""

    def __init__(self) -> None:
        self._on = False
        self._registered = False
        self._patches = Patches()
        self.set_aside = False

    @property
    def is_on(self) -> bool:
        return self._on

    def on(self) -> None:
        if self._on:
            return
        self._on = True
        _startup.watch()
        if "runnable" in sys.modules and not self.set_aside:
            warn_if_configured_itself()
        if self._registered:
            for name, patch in _PATCHERS.items():
                if name in sys.modules:
                    self._patch(name, patch, sys.modules[name])
            return
        self._registered = True
        for name, patch in _PATCHERS.items():
            wrapt.register_post_import_hook(partial(self._patch, name, patch), name)

    def off(self) -> None:
        self._on = False
        TELEMETRY.times_off += 1  # before the hooks go: a scope that hears nothing from then on can tell why
        _startup.unwatch()
        managers.unwatch()
        self._patches.undo()

    def _patch(self, name: str, patch: Callable[[Patches, ModuleType], None], module: ModuleType) -> None:
        if self._on and (not name.startswith("extensions.") or _is_runnables(module)):
            patch(self._patches, module)


def _is_runnables(module: ModuleType) -> bool:
    """Whether a module named `extensions.…` lies beside the runnable package: the name is anybody's."""
    runnable = sys.modules.get("runnable") or find_spec("runnable")
    origin = getattr(runnable, "__file__", None) or getattr(runnable, "origin", None)
    if not origin or not module.__file__:
        return False
    return Path(origin).resolve().parent.parent in Path(module.__file__).resolve().parents


def _patch_wrappers(name: str, patches: Patches, module: ModuleType) -> None:
    for dotted, wrapper in WRAPPERS[name]:
        patches.wrap(module, dotted, wrapper)


def _patch_tasks(patches: Patches, module: ModuleType) -> None:
    patches.replace(module, "logfire", lambda _: Facade(TELEMETRY))
    patches.replace(module, "subprocess", SubprocessProxy)
    _patch_wrappers("runnable.tasks", patches, module)


def _patch_emulator(patches: Patches, module: ModuleType) -> None:
    patches.replace(module, "subprocess", EmulatorSubprocess)


def _patch_context(patches: Patches, module: ModuleType) -> None:
    patches.replace(module, "logfire", lambda _: Facade(TELEMETRY))


def _patch_pool(name: str, patches: Patches, module: ModuleType) -> None:
    patches.replace(module, "Pool", observed)
    _patch_wrappers(name, patches, module)


def _patch_logfire_shim(patches: Patches, module: ModuleType) -> None:
    """Without logfire, `logfire_api` is a stand-in that does nothing: inside a run its spans nest under the task."""
    shim: Any = sys.modules.get("logfire_api", module)
    if getattr(shim, "__name__", "") != "logfire_api":
        return  # logfire is installed, and stands there itself
    for name, wrapper in shim_methods(TELEMETRY).items():
        if hasattr(shim.Logfire, name):
            patches.wrap(shim, f"Logfire.{name}", wrapper)
        if hasattr(shim, name):
            patches.wrap(shim, name, wrapper)


_PATCHERS: dict[str, Callable[[Patches, ModuleType], None]] = {
    "logfire_api": _patch_logfire_shim,
    **{name: partial(_patch_wrappers, name) for name in WRAPPERS},
    **{name: partial(_patch_pool, name) for name in ("extensions.nodes.parallel", "extensions.nodes.map")},
    "runnable.tasks": _patch_tasks,
    "runnable.context": _patch_context,
    "extensions.pipeline_executor.emulate": _patch_emulator,
    "extensions.job_executor.emulate": _patch_emulator,
}
HOOKS = _Hooks()


def around_import(*, activate: bool) -> AbstractContextManager[Any]:
    """What the import of runnable happens in; with `activate`, as of way in 2, it is instrumented first."""
    activate = activate and activated()
    HOOKS.set_aside = True  # runnable's module exists already, but nothing of it has run
    off_by_mistake = activate and not switch_on() and not _readable()
    return setting_aside() if HOOKS.is_on or off_by_mistake else nullcontext()


def _readable() -> bool:
    """Whether the settings are in range; where not, telemetry is off, and runnable's own is set aside too."""
    try:
        Settings.read()
    except SettingError:
        return False
    return True


@contextmanager
def setting_aside() -> Generator[None, None, None]:
    """Ignore the one `logfire.configure` call that runnable makes while it is imported.

    It would shut down the processors that the user gave to logfire, and add an exporter of its own beside logfire's, of
    which one speaks the wrong protocol.
    """
    if find_spec("logfire") is None:
        yield
        return
    try:
        logfire: Any = import_module("logfire")
    except ImportError:
        yield
        return
    original = logfire.configure

    def configure(*args: Any, **kwargs: Any) -> Any:
        caller = sys._getframe(1)  # noqa: SLF001 - the question is who calls
        if caller.f_code.co_name == "_configure_telemetry" and caller.f_globals.get("__name__") == "runnable":
            return logfire.DEFAULT_LOGFIRE_INSTANCE
        return original(*args, **kwargs)

    logfire.configure = configure
    try:
        yield
    finally:
        if logfire.configure is configure:
            logfire.configure = original


def warn_if_configured_itself() -> None:
    """runnable was imported too early to be instrumented first, and may have configured logfire: say so, no more."""
    variables = ("OTEL_EXPORTER_OTLP_ENDPOINT", "RUNNABLE_TELEMETRY_CONSOLE", "LOGFIRE_TOKEN")
    if "logfire" in sys.modules and any(map(os.environ.get, variables)):
        logger.warning(
            "runnable was imported before runnable_otel and has configured logfire itself: "
            "spans may be exported twice; import runnable_otel and instrument first"
        )
