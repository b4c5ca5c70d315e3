"""Around composite nodes and their branches; and the name of a graph."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from runnable_otel import naming
from runnable_otel.node_scope import NodeScope
from runnable_otel.scopes import current, harmless
from runnable_otel.telemetry import TELEMETRY
from runnable_otel.wrappers.common import Args, Kwargs, Wrapped, argument, make_step, maps_of, step_of


@harmless
def _composite(node: Any, args: Args, kwargs: Kwargs) -> NodeScope:
    step = step_of(node, argument(args, kwargs, 0, "iter_variable"))
    return NodeScope(TELEMETRY, node.node_type, node.name, step, step.key)


def composite(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    _rich_traceback_omit = True
    with _composite(instance, args, kwargs) or nullcontext():
        return wrapped(*args, **kwargs)


async def composite_async(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    _rich_traceback_omit = True
    with _composite(instance, args, kwargs) or nullcontext():
        return await wrapped(*args, **kwargs)


@harmless
def _branch(dag: Any, iter_variable: Any) -> NodeScope | None:
    template = dag.internal_branch_name
    if not template:
        return None  # the pipeline's own graph: its span is the run
    full = _resolved(dag, template, iter_variable)
    maps = maps_of(iter_variable)
    placeholder = template.rpartition(".")[2]
    # The name stays one of few: a map's items and a loop's rounds are told apart by `runnable.branch.name`.
    if placeholder == "map_variable_placeholder":
        name = next(reversed(maps), "item")
    elif placeholder == "loop_variable_placeholder":
        name = "round"
    else:
        name = str(placeholder)
    above = _resolved(dag, template.rpartition(".")[0], iter_variable)
    return NodeScope(TELEMETRY, "branch", name, make_step(above, name, full, iter_variable), full)


def _resolved(dag: Any, name: str, iter_variable: Any) -> str:
    """A name with the placeholders of maps and loops replaced, as runnable names its logs."""
    return next(iter(dag.nodes.values()))._resolve_iter_placeholders(name, iter_variable)  # noqa: SLF001


def execute_graph(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    _rich_traceback_omit = True
    del instance
    dag, iter_variable = argument(args, kwargs, 0, "dag"), argument(args, kwargs, 1, "iter_variable")
    with _branch(dag, iter_variable) or nullcontext():
        return wrapped(*args, **kwargs)


async def execute_graph_async(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    _rich_traceback_omit = True
    del instance
    dag, iter_variable = argument(args, kwargs, 0, "dag"), argument(args, kwargs, 1, "iter_variable")
    with _branch(dag, iter_variable) or nullcontext():
        return await wrapped(*args, **kwargs)


def fail_execute(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """The graph that this node ends has failed: that of the innermost branch, or of the run."""
    _rich_traceback_omit = True
    del instance
    scope = current.get()
    if scope is not None:
        scope.failed = True
    return wrapped(*args, **kwargs)


def return_dag(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    _rich_traceback_omit = True
    dag = wrapped(*args, **kwargs)
    harmless(_remember)(dag, instance)
    return dag


def _remember(dag: Any, pipeline: Any) -> None:
    unnamed_and_fileless = not pipeline.name and type(pipeline).__name__ == "AsyncPipeline"
    naming.remember_name(dag, naming.calling_function() if unnamed_and_fileless else pipeline.name)
