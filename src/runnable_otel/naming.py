"""What a run is called: the pipeline's name, else where it is defined.

runnable drops the name of a pipeline that is defined in Python on the way to its graph: it is kept here, from the call
that makes the graph (`return_dag`) to the run of that graph.
"""

from __future__ import annotations

import sys
import weakref
from pathlib import PurePath
from types import FrameType
from typing import Any

_names: dict[int, str] = {}


def remember_name(dag: Any, name: str) -> None:
    """Keep the name of a graph as long as the graph lives."""
    key = id(dag)
    if name and key not in _names:
        _names[key] = name
        weakref.finalize(dag, _names.pop, key, None)


def run_name(context: Any) -> str:
    """The name of the run that a runnable context describes.

    The pipeline's own name; else `module.function` of a pipeline or job defined in Python; else the stem of the file.
    """
    if hasattr(context, "job_definition_file"):
        return str(context.job_definition_file)
    dag = context.dag
    name = str(getattr(dag, "name", "") or "") or _names.get(id(dag), "")
    if name:
        return name
    definition = str(getattr(context, "pipeline_definition_file", "") or "")
    if getattr(context, "execution_mode", "") == "yaml":
        return PurePath(definition).stem
    return definition or "pipeline"


def calling_function() -> str:
    """`module.function` of the nearest caller that is neither runnable's nor ours; for a pipeline that has no file."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - documented, and without the cost of inspect.stack
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] not in ("runnable", "runnable_otel", "wrapt"):
            stem = PurePath(frame.f_code.co_filename).stem if module == "__main__" else module
            return f"{stem}.{frame.f_code.co_name}"
        frame = frame.f_back
    return ""
