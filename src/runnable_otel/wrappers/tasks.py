"""Around a task: which step runs, what it raises before runnable swallows it, its values before they are text."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from runnable_otel import naming, semconv, spans
from runnable_otel.facade import Parameters, step, task_event
from runnable_otel.output import Copy, Output
from runnable_otel.pools import before_call
from runnable_otel.scopes import current, harmless
from runnable_otel.spans import Step
from runnable_otel.task_scope import TaskScope
from runnable_otel.telemetry import TELEMETRY
from runnable_otel.unused import UNUSED
from runnable_otel.wrappers import managers
from runnable_otel.wrappers.common import Args, Kwargs, Wrapped, argument, put_back, step_of


@harmless
def _enter_step(node: Any, args: Args, kwargs: Kwargs) -> Any:
    iter_variable = argument(args, kwargs, 1, "iter_variable")
    if node.executable.secrets:
        managers.watch()
    return step.set((step_of(node, iter_variable, int(kwargs.get("attempt_number", 1))), node.executable))


@harmless
def _mocked(node: Any, args: Args, kwargs: Kwargs) -> None:
    """A step that is mocked or a stub does not run: no span, but the trace says that it was passed."""
    scope = current.get()
    if scope is not None:
        name = spans.text(step_of(node, argument(args, kwargs, 1, "iter_variable")).name)
        scope.span.add_event("Step not executed", {semconv.STEP_NAME: name, "runnable.step.type": node.node_type})


def stub_execute(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    _rich_traceback_omit = True
    _mocked(instance, args, kwargs)
    return wrapped(*args, **kwargs)


def task_execute(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    _rich_traceback_omit = True
    if argument(args, kwargs, 0, "mock", default=False):
        return stub_execute(wrapped, instance, args, kwargs)
    token = _enter_step(instance, args, kwargs)
    try:
        return wrapped(*args, **kwargs)
    finally:
        put_back(step, token)


async def task_execute_async(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    _rich_traceback_omit = True
    if kwargs.get("mock"):
        _mocked(instance, (None, *args[:1]), kwargs)
        return await wrapped(*args, **kwargs)
    token = _enter_step(instance, (None, *args[:1]), kwargs)
    try:
        return await wrapped(*args, **kwargs)
    finally:
        put_back(step, token)


def execute_job(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """A job is one task: its step is called as the job is."""
    _rich_traceback_omit = True
    token = _enter_job(instance, argument(args, kwargs, 0, "job"))
    try:
        return wrapped(*args, **kwargs)
    finally:
        put_back(step, token)


@harmless
def _enter_job(executor: Any, job: Any) -> Any:
    context = executor._context  # noqa: SLF001
    name = naming.run_name(context)
    attempt = 1
    if not getattr(executor, "_should_setup_run_log_at_traversal", True):
        attempt = harmless(_attempts)(context) or 1
    if job.secrets:
        managers.watch()
    return step.set((Step(name=name, short=name, attempt=attempt, key=name), job))


def _attempts(context: Any) -> int:
    """Kubernetes tries a job again, in another pod; runnable calls each attempt the first."""
    return len(context.run_log_store.get_job_log(run_id=context.run_id).attempts) + 1


class _Watching(AbstractContextManager[Any]):
    """Around one of runnable's context managers that swallow what the task raises: sees it before they do."""

    def __init__(self, wrapped: AbstractContextManager[Any]) -> None:
        self._wrapped = wrapped

    def __enter__(self) -> Any:
        _rich_traceback_omit = True
        return self._wrapped.__enter__()

    def __exit__(self, kind: Any, exc: BaseException | None, traceback: Any) -> bool | None:
        _rich_traceback_omit = True
        if exc is not None:
            self._note(exc)
        return self._wrapped.__exit__(kind, exc, traceback)

    @harmless
    def _note(self, exc: BaseException) -> None:
        scope = current.get()
        if isinstance(scope, TaskScope):
            scope.swallowed(exc)


def watching(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    _rich_traceback_omit = True
    del instance
    return _Watching(wrapped(*args, **kwargs))


def safe_serialize_params(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """runnable serialises each value here, whole and twice: inside a task of ours the values go on as they are."""
    _rich_traceback_omit = True
    del instance
    if isinstance(current.get(), TaskScope):
        return harmless(Parameters)(*args, **kwargs) or {}
    return wrapped(*args, **kwargs)


def filter_arguments(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """What comes between the import of a task's module and the call of its function."""
    _rich_traceback_omit = True
    del instance
    before_call()
    return wrapped(*args, **kwargs)


class _Listening(AbstractContextManager[Any]):
    """Around runnable's `redirect_output`, whose streams copy what the task prints to where it printed before."""

    def __init__(self, wrapped: AbstractContextManager[Any], scope: TaskScope) -> None:
        self._wrapped, self._scope = wrapped, scope

    def __enter__(self) -> Any:
        _rich_traceback_omit = True
        streams = self._wrapped.__enter__()
        self._tees = self._copied(streams) or []
        return streams

    def __exit__(self, kind: Any, exc: BaseException | None, traceback: Any) -> bool | None:
        _rich_traceback_omit = True
        for tee, before in self._tees:
            tee.output_stream = before
        return self._wrapped.__exit__(kind, exc, traceback)

    @harmless
    def _copied(self, streams: Any) -> list[tuple[Any, Any]]:
        tees = [(tee, tee.output_stream) for tee in streams]
        for (tee, stream), name in zip(tees, ("stdout", "stderr"), strict=True):
            tee.output_stream = Copy(stream, name, self._whose)
        return tees

    def _whose(self) -> Output | None:
        """The output of the task that writes: of this one where a thread does that has no context.

        Other runs may write meanwhile, whose messages are no task's.
        """
        scope = current.get()
        if scope is None and not TELEMETRY.run_id():
            return self._scope.output
        while scope is not None and not isinstance(scope, TaskScope):
            scope = scope.parent
        return None if scope is None else scope.output


def redirect_output(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    _rich_traceback_omit = True
    del instance
    scope = current.get()
    redirected = wrapped(*args, **kwargs)
    return _Listening(redirected, scope) if isinstance(scope, TaskScope) and scope.listen() else redirected


def emit_event(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    _rich_traceback_omit = True
    del instance
    return task_event(TELEMETRY, wrapped, *args, **kwargs)


def set_stream_queue(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """Nobody hears of a queue that is set where no run starts."""
    _rich_traceback_omit = True
    del instance
    harmless(UNUSED.set)(argument(args, kwargs, 0, "q"))
    return wrapped(*args, **kwargs)
