"""The table of what stands around runnable's own functions, and around Python's that start threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from runnable_otel.wrappers import argo, containers, entries, graphs, steps, tasks, threads

Wrapper = Callable[..., Any]

WRAPPERS: Mapping[str, tuple[tuple[str, Wrapper], ...]] = {
    "runnable.tasks": (
        ("BaseTaskType.execution_context", tasks.watching),
        ("BaseTaskType.expose_secrets", tasks.watching),
        ("BaseTaskType._safe_serialize_params", tasks.safe_serialize_params),
        ("BaseTaskType._emit_event", tasks.emit_event),
        ("redirect_output", tasks.redirect_output),
    ),
    "threading": (("Thread.start", threads.start),),
    "concurrent.futures.thread": (("ThreadPoolExecutor.submit", threads.call),),
    "multiprocessing.pool": tuple(
        (f"ThreadPool.{name}", threads.call) for name in ("apply_async", "_map_async", "imap", "imap_unordered")
    ),
    "runnable.entrypoints": (
        ("execute_single_node", entries.execute_single_node),
        ("execute_job_non_local", entries.execute_job),
    ),
    "runnable.parameters": (("filter_arguments_for_func", tasks.filter_arguments),),
    "runnable.telemetry": (("set_stream_queue", tasks.set_stream_queue),),
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
        ("GenericPipelineExecutor._set_up_run_log", steps.set_up_run_log),
        ("GenericPipelineExecutor._execute_node", steps.execute_node),
        ("GenericPipelineExecutor._sync_catalog", steps.sync_catalog),
        ("GenericPipelineExecutor._prepare_node_for_execution", steps.prepare_node),
    ),
    "extensions.pipeline_executor.local": (
        ("LocalExecutor.execute_graph_async", graphs.execute_graph_async),
        ("LocalExecutor._execute_node_async", steps.execute_node_async),
    ),
    "extensions.pipeline_executor.argo": (
        ("ArgoExecutor.execute_graph", argo.execute_graph),
        ("ArgoExecutor._create_container_template", argo.create_container_template),
        ("ArgoExecutor._create_fan_templates", argo.create_fan_templates),
        ("ArgoExecutor.execute_node", argo.execute_node),
        ("ArgoExecutor.fan_out", argo.fan_out),
        ("ArgoExecutor.fan_in", argo.fan_in),
    ),
    "extensions.pipeline_executor.local_container": (
        ("LocalContainerExecutor.execute_graph", containers.execute_graph),
        ("LocalContainerExecutor._resolve_executor_config", containers.resolve_executor_config),
    ),
    "extensions.job_executor.local_container": (
        ("LocalContainerJobExecutor.spin_container", containers.spin_container),
    ),
    "extensions.job_executor.k8s": (
        ("GenericK8sJobExecutor.submit_k8s_job", containers.submit_k8s_job),
        ("MiniK8sJobExecutor.execute_job", containers.execute_k8s_job),
        ("K8sJobExecutor.execute_job", containers.execute_k8s_job),
    ),
    "extensions.job_executor": (
        ("GenericJobExecutor.execute_job", tasks.execute_job),
        ("GenericJobExecutor._set_up_run_log", steps.set_up_run_log),
        ("GenericJobExecutor._sync_catalog", steps.sync_job_catalog),
    ),
}
"""Module to `(dotted attribute, wrapper)`."""
