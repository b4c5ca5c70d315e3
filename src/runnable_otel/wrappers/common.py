"""What the wrappers share. Each is a `wrapt` wrapper: `(wrapped, instance, args, kwargs)`.

runnable prints what a task raises with rich, which leaves out a frame that has a local `_rich_traceback_omit`: each
function of ours has one through which an exception may pass that is not ours.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import Any

from runnable_otel.scopes import current
from runnable_otel.spans import HiddenItems, Step, map_attributes
from runnable_otel.telemetry import TELEMETRY

Wrapped = Callable[..., Any]
Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def step_of(node: Any, iter_variable: Any, attempt: int = 1) -> Step:
    """runnable's node as a step."""
    return make_step(
        node._get_step_log_name(iter_variable),  # noqa: SLF001 - runnable's own name for the step log
        node.name,
        node._get_branch_log_name(iter_variable),  # noqa: SLF001
        iter_variable,
        attempt,
    )


def make_step(name: str, short: str, branch: str, iter_variable: Any, attempt: int = 1) -> Step:
    """A step as it may be shown: a map's value is part of its names, and may be a secret."""
    scope = current.get()
    redactor = TELEMETRY.redactor if scope is None else scope.redactor
    maps = maps_of(iter_variable)
    no_values = TELEMETRY.settings.capture == "none"
    masked = {variable: str(value) for variable, value in maps.items() if no_values or redactor.key(variable)}
    hidden = HiddenItems(masked.values())
    return Step(
        name=redactor.text(hidden.masked(name)),
        short=redactor.text(short),
        branch=redactor.text(hidden.masked(branch)),
        attempt=attempt,
        maps=maps,
        map_attributes=map_attributes(maps, redactor, masked=masked),
        key=name,
    )


def maps_of(iter_variable: Any) -> dict[str, Any]:
    """Variable and value of each enclosing map, outermost first."""
    variables: dict[str, Any] = getattr(iter_variable, "map_variable", None) or {}
    return {variable: each.value for variable, each in variables.items()}


def put_back(variable: ContextVar[Any], token: Token[Any] | None) -> None:
    """Reset a variable. A coroutine that is closed from elsewhere has another context, with nothing to reset in it."""
    if token is not None:
        with suppress(ValueError):
            variable.reset(token)


def argument(args: Args, kwargs: Kwargs, position: int, name: str, default: Any = None) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, default)
