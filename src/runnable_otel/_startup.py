"""The import hook around `runnable`. It imports nothing but `sys`: the start-up file loads it into every process.

`runnable_otel.pth` in site-packages calls `watch(activate=True)` where a variable of way in 2 is set: then nothing more
happens until something imports runnable. The instrumentor calls `watch()`, to be there before runnable's own set-up.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class _Loader:
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
            from runnable_otel.hooks import around_import

            around = around_import(activate=self._activate)
        except Exception:
            import logging

            logging.getLogger(__name__).warning("runnable is not instrumented", exc_info=True)
            self._wrapped.exec_module(module)
            return
        with around:
            self._wrapped.exec_module(module)


class RunnableFinder:
    """A `MetaPathFinder` that finds `runnable` by whoever finds it without us."""

    def __init__(self) -> None:
        self.activate = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "runnable":
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader, activate=self.activate)  # type: ignore[assignment]
                return spec
        return None


_FINDER = RunnableFinder()


def watch(*, activate: bool = False) -> None:
    """Be there when `runnable` is imported; with `activate`, instrument it then."""
    _FINDER.activate |= activate
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)  # type: ignore[arg-type]


def unwatch() -> None:
    """The inverse of `watch`."""
    _FINDER.activate = False
    if _FINDER in sys.meta_path:
        sys.meta_path.remove(_FINDER)  # type: ignore[arg-type]
