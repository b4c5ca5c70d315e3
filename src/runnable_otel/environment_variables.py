"""The `OTEL_*` variables that this package adds, for the `opentelemetry_environment_variables` entry point.

`opentelemetry-instrument` offers each of them as a command line option.
"""

OTEL_RUNNABLE_SINK_TOKEN = "OTEL_RUNNABLE_SINK_TOKEN"  # noqa: S105 - the name of a variable
"""
.. envvar:: OTEL_RUNNABLE_SINK_TOKEN

Bearer token that sinks send. It has no `RUNNABLE_` prefix on purpose: runnable copies `RUNNABLE_*` into the environment
of shell tasks and prints that environment.
"""
