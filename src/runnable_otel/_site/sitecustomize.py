"""The start-up file of `runnable-otel run`: watches for `runnable` where `runnable_otel.pth` is not read.

`runnable-otel run` puts this file's folder first in PYTHONPATH, so every Python that the command starts runs it, of
whatever version and environment: the syntax is old, and nothing here may break a program that is no business of ours.
"""

import os
import sys


def _watch():
    here = os.path.dirname(os.path.abspath(__file__))
    if os.environ.get("_RUNNABLE_OTEL_PREFIX") == sys.prefix:
        # Same environment: where the package was not installed but run from its folder, it is found there again.
        home = os.path.dirname(os.path.dirname(here))
        if home not in sys.path:
            sys.path.append(home)
    # What Python would have done without us: no trace of this folder, and the user's own sitecustomize.
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]
    try:
        from runnable_otel._startup import watch
    except Exception:  # noqa: BLE001 - another environment, or a Python that is too old: no telemetry there
        return
    watch(activate=True)


def _run_the_next():
    ours = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # pyright: ignore[reportUnusedImport] # noqa: F401
    except ImportError as error:
        if getattr(error, "name", "sitecustomize") != "sitecustomize":
            raise
    finally:
        if ours is not None:
            sys.modules.setdefault("sitecustomize", ours)


_watch()
_run_the_next()
