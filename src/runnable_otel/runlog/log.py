"""runnable's run log as a plain object: what is where in it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias, cast

Log: TypeAlias = Mapping[str, Any]
IsOurs: TypeAlias = Callable[[Log], bool]
"""Whether an attempt belongs to the run that is meant: a run log is that of all runs of a run id."""

_SLACK_NS = 1_000_000


class Workflow(NamedTuple):
    """Which execution of an Argo workflow made an attempt: what the ids of its spans are derived from.

    Attributes:
        seed: the workflow's uid.
        indicator: runnable's retry indicator.
    """

    seed: str
    indicator: str

    def made(self, attempt: Log) -> bool:
        """Whether an attempt is one of this execution."""
        return workflow_of(attempt) == self


def nanoseconds(text: str) -> int:
    """Time as the run log writes it, which is local, in nanoseconds since 1970; 0 where there is none."""
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1e6) * 1000
    except (ValueError, TypeError, OverflowError):
        return 0


def member(of: Log, key: str) -> Log:
    """A member that is an object; an empty one where it is null or not there."""
    return cast("Log", of.get(key) or {})


def graph_of(log: Log) -> Log:
    """The graph of the run's pipeline; empty for a job."""
    return member(member(log, "run_config"), "dag")


def branch_graph(node: Log, branch: str) -> Log:
    """The graph of one branch of a composite node."""
    many = member(node, "branches")
    return member(many, branch if branch in many else branch.rpartition(".")[2]) or member(node, "branch")


def attempts(log: Log) -> Iterator[Log]:
    """All attempts of all steps, or of the job."""
    for step in all_steps(log):
        yield from step.get("attempts") or ()


def all_steps(log: Log) -> Iterator[Log]:
    """The logs of all steps, whatever they are in, or of the job."""
    pending: list[Log] = list(member(log, "steps").values())
    if log.get("job"):
        pending.append(log["job"])
    while pending:
        step = pending.pop(0)
        yield step
        for branch in member(step, "branches").values():
            pending += branch["steps"].values()


def earliest(log: Log, is_ours: IsOurs = lambda attempt: True) -> int:
    """When the first of these attempts began; 0 where there is none."""
    return min(filter(None, (nanoseconds(each["start_time"]) for each in attempts(log) if is_ours(each))), default=0)


def within(started_ns: int, until_ns: int | None) -> IsOurs:
    """Whether an attempt began in a span of time, which is how the runs of a run id are told apart on one machine."""

    def is_ours(attempt: Log) -> bool:
        began = nanoseconds(attempt["start_time"])
        return bool(began) and began + _SLACK_NS >= started_ns and (until_ns is None or began < until_ns)

    return is_ours


def workflow_of(attempt: Log) -> Workflow | None:
    """The Argo workflow that made an attempt, as runnable notes it; None where it was none."""
    for identity in attempt.get("code_identities") or ():
        if identity.get("code_identifier_type") == "argo" and identity.get("code_identifier"):
            return Workflow(str(identity["code_identifier"]), str(attempt.get("retry_indicator") or ""))
    return None


def workflows(log: Log) -> list[Workflow]:
    """The executions of Argo workflows that this run log is of, oldest first."""
    began: dict[Workflow, int] = {}
    for attempt in attempts(log):
        workflow = workflow_of(attempt)
        if workflow is not None:
            start = nanoseconds(attempt["start_time"])
            began[workflow] = min(start, began.get(workflow, start))
    return sorted(began, key=lambda workflow: began[workflow])


def secret_names(graph: Log) -> Iterator[str]:
    """The names of the secrets that the tasks of a graph are given."""
    for node in cast("dict[str, Log]", member(graph, "nodes")).values():
        yield from map(str, node.get("secrets") or ())
        for inner in [*member(node, "branches").values(), member(node, "branch")]:
            yield from secret_names(inner)
