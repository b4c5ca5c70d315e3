"""The import hook around `runnable`; standard library only, because the start-up file loads it into every process.

`runnable_otel.pth` in site-packages calls `watch(activate=True)` where a variable of way in 2 is set: then nothing more
happens until something imports runnable. The instrumentor calls `watch()`, to be there before runnable's own set-up.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType


class _Loader(Loader):
    """runnable's own loader, with our instrumentation before it and around it."""

    def __init__(self, wrapped: Loader, *, activate: bool) -> None:
        self._wrapped = wrapped
        self._activate = activate

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._wrapped.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self._wrapped  # others look at it: it is as without us
        try:
            from runnable_otel.instrumentor import around_import

            around = around_import(activate=self._activate)
        except Exception:
            import logging

            logging.getLogger(__name__).warning("runnable is not instrumented", exc_info=True)
            self._wrapped.exec_module(module)
            return
        with around:
            self._wrapped.exec_module(module)


class RunnableFinder(MetaPathFinder):
    """Finds `runnable`, once, by whoever finds it without us."""

    def __init__(self) -> None:
        self.activate = False
        self._searching = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "runnable" or self._searching:
            return None
        self._searching = True
        try:
            spec = find_spec(fullname)
        finally:
            self._searching = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, activate=self.activate)
        return spec


_FINDER = RunnableFinder()


def watch(*, activate: bool = False) -> None:
    """Be there when `runnable` is imported; with `activate`, instrument it then."""
    _FINDER.activate |= activate
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


def unwatch() -> None:
    """The inverse of `watch`."""
    _FINDER.activate = False
    if _FINDER in sys.meta_path:
        sys.meta_path.remove(_FINDER)
