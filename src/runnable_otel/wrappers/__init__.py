"""The table of what stands around runnable's own functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from runnable_otel.wrappers import graphs, steps, tasks

Wrapper = Callable[..., Any]

WRAPPERS: Mapping[str, tuple[tuple[str, Wrapper], ...]] = {
    "runnable.tasks": (
        ("BaseTaskType.execution_context", tasks.execution_context),
        ("BaseTaskType.expose_secrets", tasks.expose_secrets),
        ("BaseTaskType._safe_serialize_params", tasks.safe_serialize_params),
        ("BaseTaskType._emit_event", tasks.emit_event),
    ),
    "runnable.sdk": (
        ("Pipeline.return_dag", graphs.return_dag),
        ("AsyncPipeline.return_dag", graphs.return_dag),
    ),
    "extensions.nodes.task": (
        ("TaskNode.execute", tasks.task_execute),
        ("TaskNode.execute_async", tasks.task_execute_async),
    ),
    "extensions.nodes.stub": (("StubNode.execute", tasks.stub_execute),),
    "extensions.nodes.fail": (("FailNode.execute", graphs.fail_execute),),
    **{
        f"extensions.nodes.{module}": (
            (f"{node}.execute_as_graph", graphs.composite),
            (f"{node}.execute_as_graph_async", graphs.composite_async),
        )
        for module, node in (("parallel", "ParallelNode"), ("map", "MapNode"), ("conditional", "ConditionalNode"))
    },
    "extensions.nodes.loop": (("LoopNode.execute_as_graph", graphs.composite),),
    "extensions.pipeline_executor": (
        ("GenericPipelineExecutor.execute_graph", graphs.execute_graph),
        ("GenericPipelineExecutor._sync_catalog", steps.sync_catalog),
        ("GenericPipelineExecutor._prepare_node_for_execution", steps.prepare_node),
    ),
    "extensions.pipeline_executor.local": (("LocalExecutor.execute_graph_async", graphs.execute_graph_async),),
    "extensions.job_executor": (
        ("GenericJobExecutor.execute_job", tasks.execute_job),
        ("GenericJobExecutor._sync_catalog", steps.sync_job_catalog),
    ),
}
"""Module to `(dotted attribute, wrapper)`."""
