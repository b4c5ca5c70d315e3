"""Around Argo workflows: their rendering, and the nodes that their pods execute."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import Any, Final

from runnable_otel.argo.pod import Pod
from runnable_otel.argo.workflow import complete, told
from runnable_otel.scopes import current, harmless
from runnable_otel.telemetry import TELEMETRY
from runnable_otel.wrappers.common import Args, Kwargs, Wrapped, argument
from runnable_otel.wrappers.containers import Fix, warn_of_endpoints

_FIX: Final = Fix("pod", "the `env` of the configuration's defaults", "http://collector.monitoring:4317")


def execute_graph(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """The rendering of a workflow."""
    _rich_traceback_omit = True
    harmless(_warn)(instance)
    return wrapped(*args, **kwargs)


def _warn(executor: Any) -> None:
    given = {getattr(each, "name", ""): getattr(each, "value", "") for each in executor.defaults.env}
    warn_of_endpoints(given, _FIX)


def create_container_template(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """The container of a task, stub, success or fail node."""
    _rich_traceback_omit = True
    template = wrapped(*args, **kwargs)
    harmless(complete)(instance, template, fan=False)
    return template


def create_fan_templates(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """The container that fans out or in; runnable puts it to the others."""
    _rich_traceback_omit = True
    result = wrapped(*args, **kwargs)
    harmless(_complete_last)(instance)
    return result


def _complete_last(executor: Any) -> None:
    complete(executor, executor._templates[-1], fan=True)  # noqa: SLF001 - nothing else has it


def execute_node(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """One node in its pod."""
    _rich_traceback_omit = True
    if isinstance(current.get(), Pod):
        return wrapped(
            *args, **kwargs
        )  # the fail node, which comes after a task in its pod, and has one of its own too
    return _in_pod(wrapped, instance, args, kwargs, "")


def fan_out(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """The start of a composite node."""
    _rich_traceback_omit = True
    return _in_pod(wrapped, instance, args, kwargs, "out")


def fan_in(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """The end of a composite node."""
    _rich_traceback_omit = True
    return _in_pod(wrapped, instance, args, kwargs, "in")


def _in_pod(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs, fan: str) -> Any:
    _rich_traceback_omit = True
    with _pod(instance, args, kwargs, fan) or nullcontext():
        return wrapped(*args, **kwargs)


@harmless
def _pod(executor: Any, args: Args, kwargs: Kwargs, fan: str) -> Pod | None:
    known = told(os.environ)
    if known is None:
        return None
    node, iter_variable = argument(args, kwargs, 0, "node"), argument(args, kwargs, 1, "iter_variable")
    return Pod(TELEMETRY, executor, node, iter_variable, fan=fan, told=known)
