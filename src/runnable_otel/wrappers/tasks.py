"""Around a task: which step runs, what it raises before runnable swallows it, its values before they are text."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Any

from runnable_otel import naming, semconv, spans
from runnable_otel.facade import Parameters, step, task_event
from runnable_otel.scopes import current, harmless
from runnable_otel.spans import Step
from runnable_otel.task_scope import TaskScope
from runnable_otel.telemetry import TELEMETRY
from runnable_otel.wrappers.common import Args, Kwargs, Wrapped, argument, step_of


@harmless
def _enter_step(node: Any, args: Args, kwargs: Kwargs) -> Any:
    iter_variable = argument(args, kwargs, 1, "iter_variable")
    return step.set((step_of(node, iter_variable, int(kwargs.get("attempt_number", 1))), node.executable))


@harmless
def _mocked(node: Any, args: Args, kwargs: Kwargs) -> None:
    """A step that is mocked or a stub does not run: no span, but the trace says that it was passed."""
    scope = current.get()
    if scope is not None:
        name = spans.text(step_of(node, argument(args, kwargs, 1, "iter_variable")).name)
        scope.span.add_event("Step not executed", {semconv.STEP_NAME: name, "runnable.step.type": node.node_type})


def stub_execute(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    _mocked(instance, args, kwargs)
    return wrapped(*args, **kwargs)


def task_execute(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    if argument(args, kwargs, 0, "mock", default=False):
        return stub_execute(wrapped, instance, args, kwargs)
    token = _enter_step(instance, args, kwargs)
    try:
        return wrapped(*args, **kwargs)
    finally:
        if token is not None:
            step.reset(token)


async def task_execute_async(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    if kwargs.get("mock"):
        _mocked(instance, (None, *args[:1]), kwargs)
        return await wrapped(*args, **kwargs)
    token = _enter_step(instance, (None, *args[:1]), kwargs)
    try:
        return await wrapped(*args, **kwargs)
    finally:
        if token is not None:
            step.reset(token)


def execute_job(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """A job is one task: its step is called as the job is."""
    token = _enter_job(instance, argument(args, kwargs, 0, "job"))
    try:
        return wrapped(*args, **kwargs)
    finally:
        if token is not None:
            step.reset(token)


@harmless
def _enter_job(executor: Any, job: Any) -> Any:
    name = naming.run_name(executor._context)  # noqa: SLF001
    return step.set((Step(name=name, short=name, key=name), job))


class _Watching(AbstractContextManager[Any]):
    """Around one of runnable's context managers that swallow what the task raises: sees it before they do."""

    def __init__(self, wrapped: AbstractContextManager[Any], secrets: Any = ()) -> None:
        self._wrapped = wrapped
        self._secrets = secrets

    def __enter__(self) -> Any:
        value = self._wrapped.__enter__()
        if self._secrets:
            self._mask()
        return value

    def __exit__(self, kind: Any, exc: BaseException | None, traceback: Any) -> bool | None:
        if exc is not None:
            self._note(exc)
        return self._wrapped.__exit__(kind, exc, traceback)

    @harmless
    def _note(self, exc: BaseException) -> None:
        scope = current.get()
        if isinstance(scope, TaskScope):
            scope.swallowed(exc)

    @harmless
    def _mask(self) -> None:
        scope = current.get()
        if isinstance(scope, TaskScope):
            scope.mask(os.environ.get(name, "") for name in self._secrets)


def execution_context(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    del instance
    return _Watching(wrapped(*args, **kwargs))


def expose_secrets(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    return _Watching(wrapped(*args, **kwargs), instance.secrets)


def safe_serialize_params(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """runnable serialises each value here, whole and twice: inside a task of ours the values go on as they are."""
    del instance
    if isinstance(current.get(), TaskScope):
        return harmless(Parameters)(*args, **kwargs) or {}
    return wrapped(*args, **kwargs)


def emit_event(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    del instance
    return task_event(TELEMETRY, wrapped, *args, **kwargs)
