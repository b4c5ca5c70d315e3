"""Changes to modules of runnable, each with its inverse."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import wrapt

logger = logging.getLogger(__name__)

_ABSENT: Any = object()


class Patches:
    """What was changed, and what stood there before."""

    def __init__(self) -> None:
        self._undo: list[tuple[Any, str, Any]] = []

    def wrap(self, module: ModuleType, dotted: str, wrapper: Callable[..., Any]) -> None:
        """Put a `wrapt` wrapper around a function of a module or class; where there is none, warn and leave it."""
        owner_name, _, name = dotted.rpartition(".")
        owner: Any = getattr(module, owner_name, None) if owner_name else module
        if owner is None or getattr(owner, name, None) is None:
            logger.warning("runnable has no %s.%s: this hook is off", module.__name__, dotted)
            return
        attributes: Mapping[str, Any] = owner.__dict__
        before = attributes.get(name, _ABSENT)
        wrapt.wrap_function_wrapper(module, dotted, wrapper)
        self._undo.append((owner, name, before))

    def wrap_method(self, owner: type, name: str, wrapper: Callable[..., Any]) -> None:
        """Put a `wrapt` wrapper around a method of a class."""
        before = vars(owner).get(name, _ABSENT)
        wrapt.wrap_function_wrapper(owner, name, wrapper)
        self._undo.append((owner, name, before))

    def replace(self, module: ModuleType, name: str, make: Callable[[Any], Any]) -> None:
        """Put another object in place of a module's attribute; `make` gets the one that is there."""
        before = vars(module).get(name, _ABSENT)
        if before is _ABSENT:
            logger.warning("runnable has no %s.%s: this hook is off", module.__name__, name)
            return
        setattr(module, name, make(before))
        self._undo.append((module, name, before))

    def undo(self) -> None:
        """Put every original back, the last change first."""
        while self._undo:
            owner, name, before = self._undo.pop()
            if before is _ABSENT:
                delattr(owner, name)  # it was inherited
            else:
                setattr(owner, name, before)
