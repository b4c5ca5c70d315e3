"""What runnable sees as `subprocess`: a shell task's child gets the trace, and how it ends is seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runnable_otel.facade import step
from runnable_otel.propagation import inject
from runnable_otel.scopes import current, harmless
from runnable_otel.task_scope import TaskScope


class SubprocessProxy:
    """Stands in for the `subprocess` module in `runnable.tasks`: gives a child the trace, and sees how it ends."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)

    def Popen(self, *args: Any, **kwargs: Any) -> Any:  # noqa: N802 - subprocess's own word
        """Start the child with TRACEPARENT; its `communicate` shows nothing of that to the parent."""
        scope = current.get()
        environ = kwargs.get("env")
        if not isinstance(scope, TaskScope) or environ is None:
            return self._wrapped.Popen(*args, **kwargs)
        kwargs["env"] = self._environment(scope, environ) or environ
        return _watched(self._wrapped.Popen(*args, **kwargs), scope)

    @harmless
    def _environment(self, scope: TaskScope, environ: Mapping[str, Any]) -> dict[str, Any]:
        known = step.get()
        names = getattr(known[1], "secrets", ()) if known else ()
        scope.mask(str(environ[name]) for name in names if name in environ)
        # runnable prints the child's environment: settings of ours are nothing that belongs there.
        child = {name: value for name, value in environ.items() if not name.startswith("RUNNABLE_OTEL_")}
        inject(child)
        return child


def _watched(process: Any, scope: TaskScope) -> Any:
    """Let `communicate` note the exit code, and leave TRACEPARENT out of the dump of the environment it returns."""
    original = process.communicate

    def communicate(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        stdout, stderr = original(*args, **kwargs)
        scope.exit_code = process.returncode
        head, mark, dump = stdout.rpartition("=== COLLECT ===\n") if isinstance(stdout, str) else ("", "", "")
        if mark:
            lines = dump.splitlines(keepends=True)
            dump = "".join(line for line in lines if not line.startswith(("TRACEPARENT=", "TRACESTATE=")))
            stdout = head + mark + dump
        return stdout, stderr

    process.communicate = communicate
    return process
