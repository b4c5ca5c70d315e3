"""What a rendered workflow tells its pods: added when it is rendered, read in the pod."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from runnable_otel.events import nanoseconds
from runnable_otel.handover import reference
from runnable_otel.propagation import SEED

STARTED: Final = "RUNNABLE_OTEL_STARTED"
"""The variable with the time at which the workflow was created, as Argo writes it: RFC 3339."""
TRY: Final = "RUNNABLE_OTEL_TRY"
"""The variable that says which try of a pod this is, from 0, and how many retries there may be: `0/2`."""

_OURS: Final = ("OTEL_", "RUNNABLE_OTEL_", "LOGFIRE_TOKEN")


class Told(NamedTuple):
    """What a pod is told.

    Attributes:
        seed: the workflow's uid.
        started_ns: when the workflow was created, in nanoseconds since 1970; 0 where that is not known.
        first: whether this is the first pod of the workflow.
        again: whether it was tried before.
        last: whether Argo does not try again if it fails.
    """

    seed: str
    started_ns: int
    first: bool = False
    again: bool = False
    last: bool = True


def told(environ: Mapping[str, str]) -> Told | None:
    """What this pod is told; None where it is not one of a workflow.

    A workflow that was rendered without us has the uid too, in the variable that runnable writes into its run log.
    """
    seed = environ.get(SEED) or environ.get("RUNNABLE_CODE_ID_ARGO_WORKFLOW_UID")
    if not seed:
        return None
    number, _, limit = environ.get(TRY, "").partition("/")
    known = number.isdecimal() and limit.isdecimal()
    return Told(
        seed=seed,
        started_ns=nanoseconds(environ.get(STARTED, "")) or 0,
        first=environ.get("error_on_existing_run_id") == "true",
        again=known and int(number) > 0,
        last=not known or int(number) >= int(limit),
    )


def complete(executor: Any, template: Any, *, fan: bool) -> None:
    """Add to a rendered container what its pod is to be told.

    Args:
        executor: runnable's `ArgoExecutor`.
        template: its `ContainerTemplate`.
        fan: whether it fans in or out; runnable gives such a container nothing of `defaults.env`.
    """
    kinds: Any = sys.modules[type(executor).__module__]
    env: list[Any] = template.container.env
    given = {SEED: "{{workflow.uid}}", STARTED: "{{workflow.creationTimestamp}}"}
    if fan:
        given |= {name: value for name, value in map(_plain, executor.defaults.env) if name.startswith(_OURS)}
    limit = _retries(executor, template)
    if limit:
        given[TRY] = f"{{{{retries}}}}/{limit}"
    named = {_plain(each)[0] for each in env}
    env.extend(kinds.EnvVar(name=name, value=value) for name, value in given.items() if name not in named)
    for position, each in enumerate(env):
        name, value = _plain(each)
        key = reference(value) if name.startswith(_OURS) else None
        if key is not None:
            env[position] = kinds.SecretEnvVar(environment_variable=name, secret_name=key.secret, secret_key=key.key)


def _plain(entry: Any) -> tuple[str, str]:
    """Name and value of an entry of an environment; both empty where it is a reference to a secret."""
    return getattr(entry, "name", ""), getattr(entry, "value", "")


def _retries(executor: Any, template: Any) -> int:
    """How often Argo tries a container again that fails.

    `{{retries}}` is known only in a template that has a strategy of its own, so it gets the one that it has by default.
    """
    strategy = template.retry_strategy or executor.defaults.retry_strategy or executor.argo_workflow.spec.retry_strategy
    if strategy is None or strategy.retry_policy not in ("Always", "OnFailure"):
        return 0
    template.retry_strategy = strategy
    return int(strategy.limit)
