"""Threads that a task starts, and pools of them that it uses: what happens there has the task for its parent.

A pool's thread serves whoever asks, so it brings nothing along: each call brings the context in which it was asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry.context import Context

from runnable_otel.scopes import Scope, current, harmless
from runnable_otel.wrappers.common import Args, Kwargs, Wrapped

_POOLS: Final = ("concurrent.futures.", "multiprocessing.", "runnable_otel.", "opentelemetry.")
"""Where the threads come from that work for others than who started them."""


def call(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """A method of a pool that takes first what it is to call."""
    _rich_traceback_omit = True
    del instance
    scope = current.get()
    if scope is None or not args:
        return wrapped(*args, **kwargs)
    function, *rest = args
    return wrapped(partial(_within, otel_context.get_current(), scope, function), *rest, **kwargs)


def start(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """A thread of its own."""
    _rich_traceback_omit = True
    scope = current.get()
    if scope is not None:
        harmless(_bring)(instance, scope)
    return wrapped(*args, **kwargs)


def _bring(thread: Any, scope: Scope) -> None:
    run = thread.run
    # The target of a plain thread; a subclass has a `run` of its own.
    module = getattr(getattr(thread, "_target", None) or run, "__module__", None)
    if "run" not in vars(thread) and not f"{module}.".startswith(_POOLS):
        context = otel_context.get_current()

        def within() -> None:
            _rich_traceback_omit = True
            del thread.run  # no cycle is left, and the thread is as it was
            _within(context, scope, run)

        thread.run = within


def _within(context: Context, scope: Scope, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    _rich_traceback_omit = True
    entered, attached = current.set(scope), otel_context.attach(context)
    try:
        return function(*args, **kwargs)
    finally:
        otel_context.detach(attached)
        current.reset(entered)
