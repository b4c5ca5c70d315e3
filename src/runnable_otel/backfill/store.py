"""runnable's run log, from whatever store it is in, as one plain object."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from runnable_otel.hooks import switch_off


def read(run_id: str, config: str = "") -> dict[str, Any]:
    """The run log of a run: what `.run_log_store/{run_id}.json` holds, put together where it lies in pieces.

    Args:
        run_id: runnable's run id.
        config: the file with runnable's configuration; unless told its own default, a folder here.

    Raises:
        LookupError: there is no such run log, or it can't be read.
    """
    switch_off()
    with contextlib.redirect_stdout(sys.stderr):  # runnable prints; our output is our own
        try:
            from runnable import context as runnable_context

            context: Any = runnable_context
            services = context.ServiceConfigurations(
                configuration_file=config or None, execution_context=context.ExecutionContext.PIPELINE
            ).services
            store: Any = context.get_service_by_name("run_log_store", services["run_log_store"], None)
            log: Any = store.get_run_log_by_id(run_id=run_id, full=True)
            return log.model_dump()
        except Exception as error:  # runnable's, a store's or pydantic's: whatever it is, it is the reason
            raise LookupError(f"there is no run log of {run_id!r} to read ({type(error).__name__}: {error})") from error
