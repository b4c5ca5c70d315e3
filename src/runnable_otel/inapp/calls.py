"""How runnable is called for a pipeline that lives in an app: without a module that defines it, and many at once."""

from __future__ import annotations

import inspect
import json
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final

MODULE: Final = "runnable_otel_inapp"
"""The module under which runnable finds the pipeline object of the run that asks."""

_pipeline: ContextVar[Any] = ContextVar("runnable_otel_inapp_pipeline", default=None)


def named(pipeline: Any, name: str) -> Any:
    """The pipeline itself, or a copy with a name where it has none."""
    return pipeline if pipeline.name else pipeline.model_copy(update={"name": name})


def new_run_id() -> str:
    """A run id as runnable makes them, and a random end: its own repeat within a minute, and a run log is a file."""
    from runnable import names

    make: Callable[[], str] = names.get_random_name
    return f"{make()}-{datetime.now():%H%M}-{secrets.token_hex(4)}"  # noqa: DTZ005 - local time, as runnable has it


def execute(pipeline: Any, options: Mapping[str, Any]) -> Any:
    """Execute a `Pipeline` object that no module defines.

    `Pipeline.execute` takes the file and function of its caller, imports that file as a module and calls the function
    again to get the graph. A request handler can't be called again, and a file outside of the working folder is
    refused. So `execute` is called from a function that seems to stand in the working folder, in the module `MODULE`;
    the function of that name answers with the pipeline of the run that asks.
    """
    sys.modules.setdefault(MODULE, _module())
    _pipeline.set(pipeline)
    code = _call.__code__.replace(co_filename=str(Path.cwd() / f"{MODULE}.py"), co_name="main")
    return FunctionType(code, globals())(pipeline, options)


def _call(pipeline: Any, options: Mapping[str, Any]) -> Any:
    return pipeline.execute(**options)


def _module() -> ModuleType:
    module = ModuleType(MODULE, "Made by runnable_otel: answers runnable's question for the graph of a run.")
    module.main = _pipeline.get  # type: ignore[attr-defined]
    return module


def accepted(function: Callable[..., Any], options: Mapping[str, Any], run_id: str) -> dict[str, Any]:
    """The options for a function of the user's, with the run id where it takes one."""
    parameters = inspect.signature(function).parameters.values()
    takes = any(each.kind is each.VAR_KEYWORD or each.name == "run_id" for each in parameters)
    return {**options, "run_id": run_id} if takes else dict(options)


# YAML takes these for the end of a line, or for no character at all, also between quotes.
_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def write_parameters(parameters: Mapping[str, Any]) -> str:
    """Parameters as a file of their own, for its `parameters_file`; return its path.

    Raises:
        TypeError, ValueError: they are not JSON.
    """
    text = json.dumps(dict(parameters), ensure_ascii=False, allow_nan=False)  # an escaped pair is no pair in YAML
    data = _NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()
    number, path = tempfile.mkstemp(prefix="runnable-otel-", suffix=".yaml")
    with open(number, "wb") as file:
        file.write(data)
    return path


@contextmanager
def removing(path: str) -> Generator[None, None, None]:
    """Remove a file in the end; no path, no file."""
    try:
        yield
    finally:
        if path:
            with suppress(OSError):  # in the folder for temporary files somebody else may have been first
                os.unlink(path)
