"""Around runnable's secrets managers: what one hands out must not leave, whichever task asked for it, and what for."""

from __future__ import annotations

import sys
from typing import Any, cast

from runnable_otel.patches import Patches
from runnable_otel.scopes import current, harmless
from runnable_otel.wrappers.common import Args, Kwargs, Wrapped

PATCHES = Patches()
"""The managers' classes that are watched: they may be anybody's, so each is known only when it is used."""

_watched: set[type] = set()


@harmless
def watch() -> None:
    """Watch the secrets manager of the run of this context."""
    context: Any = sys.modules["runnable.context"].get_run_context()
    kind = cast("type[object]", type(context.secrets))
    if kind not in _watched:
        _watched.add(kind)
        PATCHES.wrap_method(kind, "get", _handed)


def unwatch() -> None:
    """The inverse of `watch`."""
    PATCHES.undo()
    _watched.clear()


def _handed(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    _rich_traceback_omit = True
    del instance
    value = wrapped(*args, **kwargs)
    _mask(value)
    return value


@harmless
def _mask(value: Any) -> None:
    scope = current.get()
    if scope is not None and isinstance(value, str):
        scope.mask([value])
