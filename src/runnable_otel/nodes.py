"""Wrappers around runnable's nodes and executors: which step runs, and spans of composites, branches, catalog, skips.

Each is a `wrapt` wrapper, `(wrapped, instance, args, kwargs)`; the table at the end says what it stands around.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any

from opentelemetry.trace import Link, StatusCode

from runnable_otel import naming, semconv, spans
from runnable_otel.events import TASK_SKIPPED
from runnable_otel.facade import Parameters, step, task_event
from runnable_otel.propagation import RunRoot
from runnable_otel.scopes import NodeScope, RunScope, TaskScope, current, harmless
from runnable_otel.spans import Origin, Step
from runnable_otel.telemetry import TELEMETRY
from runnable_otel.tracing import remote

Wrapped = Callable[..., Any]
Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def step_of(node: Any, iter_variable: Any, attempt: int = 1) -> Step:
    """runnable's node as a step."""
    maps = getattr(iter_variable, "map_variable", None) or {}
    return Step(
        name=node._get_step_log_name(iter_variable),  # noqa: SLF001 - runnable's own name for the step log
        short=node.name,
        branch=node._get_branch_log_name(iter_variable),  # noqa: SLF001
        attempt=attempt,
        maps={variable: each.value for variable, each in maps.items()},
    )


def _argument(args: Args, kwargs: Kwargs, position: int, name: str, default: Any = None) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, default)


# --- tasks -----------------------------------------------------------------------------------------------------------


@harmless
def _enter_step(node: Any, args: Args, kwargs: Kwargs) -> Any:
    iter_variable = _argument(args, kwargs, 1, "iter_variable")
    return step.set((step_of(node, iter_variable, int(kwargs.get("attempt_number", 1))), node.executable))


@harmless
def _mocked(node: Any, args: Args, kwargs: Kwargs) -> None:
    """A step that is mocked or a stub does not run: no span, but the trace says that it was passed."""
    scope = current.get()
    if scope is not None:
        name = spans.text(node._get_step_log_name(_argument(args, kwargs, 1, "iter_variable")))  # noqa: SLF001
        scope.span.add_event("Step not executed", {semconv.STEP_NAME: name, "runnable.step.type": node.node_type})


def stub_execute(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    _mocked(instance, args, kwargs)
    return wrapped(*args, **kwargs)


def task_execute(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    if _argument(args, kwargs, 0, "mock", default=False):
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
    token = _enter_job(instance, _argument(args, kwargs, 0, "job"))
    try:
        return wrapped(*args, **kwargs)
    finally:
        if token is not None:
            step.reset(token)


@harmless
def _enter_job(executor: Any, job: Any) -> Any:
    name = naming.run_name(executor._context)  # noqa: SLF001
    return step.set((Step(name=name, short=name), job))


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
        import os

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


# --- composites and branches -----------------------------------------------------------------------------------------


@harmless
def _composite(node: Any, args: Args, kwargs: Kwargs) -> NodeScope:
    return NodeScope(TELEMETRY, node.node_type, node.name, step_of(node, _argument(args, kwargs, 0, "iter_variable")))


def composite(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    with _composite(instance, args, kwargs) or nullcontext():
        return wrapped(*args, **kwargs)


async def composite_async(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    with _composite(instance, args, kwargs) or nullcontext():
        return await wrapped(*args, **kwargs)


@harmless
def _branch(dag: Any, iter_variable: Any) -> NodeScope | None:
    template = dag.internal_branch_name
    if not template:
        return None  # the pipeline's own graph: its span is the run
    # The class method replaces the placeholders of maps and loops: runnable's own name for the branch log.
    full = next(iter(dag.nodes.values()))._resolve_iter_placeholders(template, iter_variable)  # noqa: SLF001
    maps = {variable: each.value for variable, each in (getattr(iter_variable, "map_variable", None) or {}).items()}
    placeholder = template.rpartition(".")[2]
    # The name stays one of few: a map's items and a loop's rounds are told apart by `runnable.branch.name`.
    if placeholder == "map_variable_placeholder":
        name = next(reversed(maps), "item")
    elif placeholder == "loop_variable_placeholder":
        name = "round"
    else:
        name = placeholder
    parent = template.rpartition(".")[0]
    return NodeScope(TELEMETRY, "branch", name, Step(name=_resolved(dag, parent, iter_variable), short=name, branch=full, maps=maps))


def _resolved(dag: Any, name: str, iter_variable: Any) -> str:
    return next(iter(dag.nodes.values()))._resolve_iter_placeholders(name, iter_variable)  # noqa: SLF001


def execute_graph(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    del instance
    dag, iter_variable = _argument(args, kwargs, 0, "dag"), _argument(args, kwargs, 1, "iter_variable")
    with _branch(dag, iter_variable) or nullcontext():
        return wrapped(*args, **kwargs)


async def execute_graph_async(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    del instance
    dag, iter_variable = _argument(args, kwargs, 0, "dag"), _argument(args, kwargs, 1, "iter_variable")
    with _branch(dag, iter_variable) or nullcontext():
        return await wrapped(*args, **kwargs)


def fail_execute(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """The graph that this node ends has failed: that of the innermost branch, or of the run."""
    del instance
    scope = current.get()
    if scope is not None:
        scope.failed = True
    return wrapped(*args, **kwargs)


# --- catalog and skipped steps ---------------------------------------------------------------------------------------


def sync_catalog(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """A span for a sync that moved files, or failed; which one knows afterwards, so its start is given."""
    started_ns = time.time_ns()
    stage = str(_argument(args, kwargs, 0, "stage", "put"))
    try:
        moved = wrapped(*args, **kwargs)
    except Exception as exc:
        _catalog_span(instance, stage, started_ns, (), exc)
        raise
    if moved:
        _catalog_span(instance, stage, started_ns, moved, None)
    return moved


def sync_job_catalog(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """A job only puts; its first argument is the settings, not the stage."""
    return sync_catalog(lambda *_args, **_kwargs: wrapped(*args, **kwargs), instance, ("put",), {})


@harmless
def _catalog_span(executor: Any, stage: str, started_ns: int, moved: Any, exc: BaseException | None) -> None:
    scope = current.get()
    node = getattr(executor, "_context_node", None)
    attributes: dict[str, Any] = spans.step_attributes(scope.run.run_id if scope and scope.run else "", None)
    if node is not None:
        attributes[semconv.STEP_NAME] = spans.text(node.internal_name)
    attributes[semconv.CATALOG_FILES] = len(moved)
    name = spans.span_name("catalog", stage)
    opened = TELEMETRY.tracing.start(
        name, attributes=attributes, parent=scope.ids if scope else None, start_ns=started_ns
    )
    status = semconv.SUCCESS
    if exc is not None and scope is not None:
        failure = scope.describe(exc)
        opened.span.add_event("exception", spans.exception_attributes(failure))
        status = scope.status_of(failure)
        opened.span.set_status(StatusCode.ERROR, status)
        scope.failure = failure
        if scope.run is not None:
            scope.run.seen = exc
    opened.span.set_attribute(semconv.STATUS, status)
    opened.span.end()


def prepare_node(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """`_prepare_node_for_execution` gives None for a step that a retry does not run again."""
    step_log = wrapped(*args, **kwargs)
    if step_log is None:
        _skipped(instance, _argument(args, kwargs, 0, "node"), _argument(args, kwargs, 1, "iter_variable"))
    return step_log


@harmless
def _skipped(executor: Any, node: Any, iter_variable: Any) -> None:
    run = _run_of_current()
    scope = current.get()
    if run is None or scope is None:
        return
    context = executor._context  # noqa: SLF001
    attempts = context.run_log_store.get_step_log(node._get_step_log_name(iter_variable), context.run_id).attempts  # noqa: SLF001
    last = attempts[-1] if attempts else None
    where = step_of(node, iter_variable, last.attempt_number if last else 1)
    executable = getattr(node, "executable", None)
    task_type = str(getattr(executable, "task_type", "") or "")
    kind = "task" if executable is not None else node.node_type
    name = spans.task_name(task_type, executable.command) if executable is not None else node.name
    attributes = (
        spans.task_attributes(run.run_id, where, name, task_type)
        if executable is not None
        else spans.step_attributes(run.run_id, where)
    )
    attributes[semconv.STATUS] = semconv.SKIPPED
    now = time.time_ns()
    opened = TELEMETRY.tracing.start(
        spans.span_name(kind, node.name if task_type in ("", "shell") else name),
        attributes=attributes,
        parent=scope.ids,
        links=_links(run.earlier, where, last),
        start_ns=now,
    )
    opened.span.end(now)
    origin = Origin(opened.ids, run.run_id, where, task_type)
    TELEMETRY.hub.emit(spans.start_event(TASK_SKIPPED, origin, now, name, {}), run.queue)


def _run_of_current() -> RunScope | None:
    scope = current.get()
    return scope.run if scope else None


def _links(earlier: list[tuple[RunRoot, int]], where: Step, attempt: Any) -> list[Link]:
    """The attempt that did run the step: it lies in the last trace that began before it."""
    if attempt is None or not earlier:
        return [Link(remote(*earlier[-1][0]))] if earlier else []
    started_ns = int(datetime.fromisoformat(attempt.start_time).timestamp() * 1e9)
    roots = [root for root, began in earlier if began <= started_ns + 1_000_000] or [earlier[0][0]]
    root = roots[-1]
    return [Link(remote(root.trace_id, root.attempt_span_id(where.name, where.attempt)))]


# --- names -----------------------------------------------------------------------------------------------------------


def return_dag(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    dag = wrapped(*args, **kwargs)
    harmless(_remember)(dag, instance)
    return dag


def _remember(dag: Any, pipeline: Any) -> None:
    unnamed_and_fileless = not pipeline.name and type(pipeline).__name__ == "AsyncPipeline"
    naming.remember_name(dag, naming.calling_function() if unnamed_and_fileless else pipeline.name)


Wrapper = Callable[[Wrapped, Any, Args, Kwargs], Any] | Callable[[Wrapped, Any, Args, Kwargs], Awaitable[Any]]

WRAPPERS: Mapping[str, tuple[tuple[str, Wrapper], ...]] = {
    "runnable.tasks": (
        ("BaseTaskType.execution_context", execution_context),
        ("BaseTaskType.expose_secrets", expose_secrets),
        ("BaseTaskType._safe_serialize_params", safe_serialize_params),
        ("BaseTaskType._emit_event", emit_event),
    ),
    "runnable.sdk": (
        ("Pipeline.return_dag", return_dag),
        ("AsyncPipeline.return_dag", return_dag),
    ),
    "extensions.nodes.task": (
        ("TaskNode.execute", task_execute),
        ("TaskNode.execute_async", task_execute_async),
    ),
    "extensions.nodes.stub": (("StubNode.execute", stub_execute),),
    "extensions.nodes.fail": (("FailNode.execute", fail_execute),),
    **{
        f"extensions.nodes.{module}": (
            (f"{node}.execute_as_graph", composite),
            (f"{node}.execute_as_graph_async", composite_async),
        )
        for module, node in (("parallel", "ParallelNode"), ("map", "MapNode"), ("conditional", "ConditionalNode"))
    },
    "extensions.nodes.loop": (("LoopNode.execute_as_graph", composite),),
    "extensions.pipeline_executor": (
        ("GenericPipelineExecutor.execute_graph", execute_graph),
        ("GenericPipelineExecutor._sync_catalog", sync_catalog),
        ("GenericPipelineExecutor._prepare_node_for_execution", prepare_node),
    ),
    "extensions.pipeline_executor.local": (("LocalExecutor.execute_graph_async", execute_graph_async),),
    "extensions.job_executor": (
        ("GenericJobExecutor.execute_job", execute_job),
        ("GenericJobExecutor._sync_catalog", sync_job_catalog),
    ),
}
"""Module to `(dotted attribute, wrapper)`."""
