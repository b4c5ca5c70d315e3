"""What the wrappers share. Each is a `wrapt` wrapper: `(wrapped, instance, args, kwargs)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runnable_otel.spans import Step

Wrapped = Callable[..., Any]
Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def step_of(node: Any, iter_variable: Any, attempt: int = 1) -> Step:
    """runnable's node as a step."""
    return Step(
        name=node._get_step_log_name(iter_variable),  # noqa: SLF001 - runnable's own name for the step log
        short=node.name,
        branch=node._get_branch_log_name(iter_variable),  # noqa: SLF001
        attempt=attempt,
        maps=maps_of(iter_variable),
    )


def maps_of(iter_variable: Any) -> dict[str, Any]:
    """Variable and value of each enclosing map, outermost first."""
    variables: dict[str, Any] = getattr(iter_variable, "map_variable", None) or {}
    return {variable: each.value for variable, each in variables.items()}


def argument(args: Args, kwargs: Kwargs, position: int, name: str, default: Any = None) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, default)
