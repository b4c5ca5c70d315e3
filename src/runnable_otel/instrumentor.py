"""`RunnableInstrumentor`: hooks on runnable, set when its modules are imported, and their inverse.

It never imports runnable, whose import prints and configures logfire.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import wrapt
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from runnable_otel import _startup
from runnable_otel.facade import Facade, SubprocessProxy, shim_methods
from runnable_otel.nodes import WRAPPERS
from runnable_otel.patches import Patches
from runnable_otel.settings import SettingError, Settings, disabled_by_opentelemetry
from runnable_otel.telemetry import TELEMETRY

logger = logging.getLogger(__name__)

_MINIMUM = (0, 50)


class RunnableInstrumentor(BaseInstrumentor):
    """Instruments runnable.

    `instrument()` takes `tracer_provider=`, the provider that all spans go to; without it the provider is resolved when
    a span opens. Calling it again is no error: it adopts the provider that it is given. `uninstrument()` puts every
    original back.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """What the OpenTelemetry loader checks before it loads this instrumentor."""
        return ("runnable >= 0.50",)

    def instrument(self, **kwargs: Any) -> Any:
        """Set the hooks.

        Args:
            kwargs: `tracer_provider`, an OpenTelemetry `TracerProvider`; `skip_dep_check` and
                `raise_exception_on_conflict` as in the base class.
        """
        if kwargs.get("tracer_provider") is not None:
            TELEMETRY.tracing.explicit = kwargs["tracer_provider"]
        if not self.is_instrumented_by_opentelemetry:
            super().instrument(**kwargs)

    def uninstrument(self, **kwargs: Any) -> Any:
        """Put every original back. Calling it again is no error."""
        if self.is_instrumented_by_opentelemetry:
            super().uninstrument(**kwargs)

    def _instrument(self, **kwargs: Any) -> None:
        del kwargs
        settings = read_settings()
        if settings is None or not settings.enabled or disabled_by_opentelemetry() or not _supported():
            return
        from runnable_otel import provider

        TELEMETRY.use(settings)
        provider.attach(TELEMETRY)
        _HOOKS.on()

    def _uninstrument(self, **kwargs: Any) -> None:
        del kwargs
        from runnable_otel import provider

        _HOOKS.off()
        provider.detach(TELEMETRY)


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
        _startup.unwatch()
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


def _patch_context(patches: Patches, module: ModuleType) -> None:
    patches.replace(module, "logfire", lambda _: Facade(TELEMETRY))


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
    "runnable.tasks": _patch_tasks,
    "runnable.context": _patch_context,
}
_HOOKS = _Hooks()


def around_import(*, activate: bool) -> AbstractContextManager[Any]:
    """What the import of runnable happens in; with `activate`, as of way in 2, it is instrumented first."""
    _HOOKS.set_aside = True  # runnable's module exists already, but nothing of it has run
    if activate:
        RunnableInstrumentor().instrument(skip_dep_check=True)
        if read_settings_is_bad():
            return setting_aside()
    return setting_aside() if _HOOKS.is_on else nullcontext()


def read_settings_is_bad() -> bool:
    """Whether a setting is out of range; then telemetry is off, runnable's own too."""
    try:
        Settings.read()
    except SettingError:
        return True
    return False


@contextmanager
def setting_aside() -> Iterator[None]:
    """Ignore the one `logfire.configure` call that runnable makes while it is imported.

    It would shut down the processors that the user gave to logfire, and add an exporter of its own beside logfire's, of
    which one speaks the wrong protocol.
    """
    if find_spec("logfire") is None:
        yield
        return
    try:
        import logfire
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
    """runnable was imported before it could be instrumented, and may have configured logfire: say so, repair nothing."""
    variables = ("OTEL_EXPORTER_OTLP_ENDPOINT", "RUNNABLE_TELEMETRY_CONSOLE", "LOGFIRE_TOKEN")
    if "logfire" in sys.modules and any(map(os.environ.get, variables)):
        logger.warning(
            "runnable was imported before runnable_otel and has configured logfire itself: "
            "spans may be exported twice; import runnable_otel and instrument first"
        )
