"""Around what starts containers: they are given the trace, and what telemetry is to know, without credentials."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, Final, NamedTuple

from runnable_otel.facade import run_scope
from runnable_otel.handover import credentials, local_endpoints, passed_on, reference, resolved
from runnable_otel.propagation import SEED, inject, inject_run
from runnable_otel.run_scope import RunScope
from runnable_otel.scopes import current, harmless
from runnable_otel.telemetry import TELEMETRY
from runnable_otel.wrappers.common import Args, Kwargs, Wrapped, argument

logger = logging.getLogger(__name__)


class Fix(NamedTuple):
    """What to do about an endpoint on this machine: in what it is another one, where to set it, and to what."""

    kind: str
    where: str
    example: str


_IN_DOCKER: Final = Fix(
    "container", "`environment`", "http://host.docker.internal:4317, on Linux http://172.17.0.1:4317"
)
_IN_KUBERNETES: Final = Fix("pod", "the `env` of the job's container", "http://collector.monitoring:4317")
_JOB_UID: Final = "metadata.labels['batch.kubernetes.io/controller-uid']"
_said: set[str] = set()


def resolve_executor_config(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """The configuration of a step's container, with its environment."""
    _rich_traceback_omit = True
    del instance
    config = wrapped(*args, **kwargs)
    harmless(_complete)(config)
    return config


def _complete(config: dict[str, Any]) -> None:
    config["environment"] = _environment(config.get("environment") or {})


def _environment(configured: Mapping[str, str]) -> dict[str, str]:
    """What is configured, and what a process of this run needs beside it."""
    scope = current.get()
    run = scope.run if scope else None
    if run is None:
        return dict(configured)
    found = passed_on(os.environ, TELEMETRY.redactor)
    inject_run(found, run.root, run.dimensions, scope.salt if scope else "")
    return {**found, **configured, **resolved(configured, os.environ)}


def execute_graph(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """A pipeline whose steps run in containers, or a branch of it."""
    _rich_traceback_omit = True
    _warn_of_docker(instance, argument(args, kwargs, 0, "dag"))
    return wrapped(*args, **kwargs)


@harmless
def _warn_of_docker(executor: Any, dag: Any) -> None:
    if not dag.internal_branch_name:
        _warn(executor.environment, _IN_DOCKER)


def spin_container(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """A job that runs in a container."""
    _rich_traceback_omit = True
    given = _job_environment(instance)
    if given is None:
        return wrapped(*args, **kwargs)
    configured, instance.environment = instance.environment, given
    try:
        return wrapped(*args, **kwargs)
    finally:
        instance.environment = configured


@harmless
def _job_environment(executor: Any) -> dict[str, str]:
    _warn(executor.environment, _IN_DOCKER)
    return _environment(executor.environment)


@harmless
def _warn(configured: Mapping[str, str], fix: Fix) -> None:
    """Say once what can't work in a container, and what to do."""
    warn_of_endpoints({**passed_on(os.environ, TELEMETRY.redactor), **configured}, fix)
    for name in credentials(os.environ, TELEMETRY.redactor):
        if name not in configured:
            _say(name, "%s holds a credential and is not given to containers: `runnable-otel env` shows how", name)


def warn_of_endpoints(given: Mapping[str, str], fix: Fix) -> None:
    """Say once of each endpoint on this machine that it is another one there."""
    for name in local_endpoints(given):
        shown = TELEMETRY.redactor.text(given[name])
        said = "%s=%s is the %s itself when it is in one: set it in %s to what is reached from there, such as %s"
        _say(name, said, name, shown, *fix)


def _say(key: str, message: str, *args: object) -> None:
    if key not in _said:
        _said.add(key)
        logger.warning(message, *args)


class _Entry:
    """An entry of a container's environment, in place of runnable's own model, which knows no references."""

    def __init__(self, name: str, **more: Any) -> None:
        self._entry = {"name": name, **more}

    def model_dump(self) -> dict[str, Any]:
        """What `V1EnvVar` is made of."""
        return self._entry


def submit_k8s_job(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """A job that runs on Kubernetes, or that is scheduled there: then each of its runs is a trace of its own."""
    _rich_traceback_omit = True
    found = _pod_environment(instance)
    if found is None:
        return wrapped(*args, **kwargs)
    container, given = found
    configured, container.env = container.env, given
    try:
        return wrapped(*args, **kwargs)
    finally:
        container.env = configured


@harmless
def _pod_environment(executor: Any) -> tuple[Any, list[Any]]:
    """The container of a job, and what its environment is to be."""
    container = executor.job_spec.template.spec.container
    _warn({each.name: each.value for each in container.env}, _IN_KUBERNETES)
    return container, _entries(container.env, scheduled=bool(executor.schedule))


def _entries(configured: list[Any], *, scheduled: bool) -> list[Any]:
    from kubernetes import client

    kinds: Any = client  # its annotations are incomplete
    named = {each.name: each.value for each in configured}
    given = passed_on(os.environ, TELEMETRY.redactor)
    if not scheduled:
        inject(given)
    entries = [_Entry(name, value=value) for name, value in given.items() if name not in named]
    if SEED not in named:
        uid = kinds.V1ObjectFieldSelector(field_path=_JOB_UID)
        entries.append(_Entry(SEED, value_from=kinds.V1EnvVarSource(field_ref=uid)))
    for each in configured:
        key = reference(each.value)
        if key is None:
            entries.append(each)
        else:
            selector = kinds.V1SecretKeySelector(name=key.secret, key=key.key)
            entries.append(_Entry(each.name, value_from=kinds.V1EnvVarSource(secret_key_ref=selector)))
    return entries


def execute_k8s_job(wrapped: Wrapped, instance: Any, args: Args, kwargs: Kwargs) -> Any:
    """In the pod: who submitted the job does not wait for it, so the run is here."""
    _rich_traceback_omit = True
    with harmless(_job)() or nullcontext():
        return wrapped(*args, **kwargs)


def _job() -> RunScope:
    return run_scope(TELEMETRY, "job", submits=False, seed=os.environ.get(SEED, ""))
