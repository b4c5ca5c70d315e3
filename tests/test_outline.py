"""The graph in `pipeline_started`: what may come, as it is defined."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from runnable_otel.outline import LIMIT, outline
from support.project import Project
from support.runlog import attempts, run_logs
from test_events import queued


class Node:
    """Has what runnable's nodes have."""

    def __init__(self, name: str, after: str = "", **more: Any) -> None:
        self.name = self.internal_name = name
        self.node_type, self.next_node, self.internal_branch_name = "task", after, ""
        vars(self).update(more)


class Graph:
    def __init__(self, *nodes: Node) -> None:
        self.nodes = {node.name: node for node in nodes}


def started(project: Project, name: str) -> dict[str, Any]:
    done = project.pipeline(name, QUEUE="1", RUNNABLE_OTEL_SINKS="file:events.jsonl")
    return queued(done)[0]


@pytest.mark.parametrize(
    "name", ["python", "nested", "map_nested", "conditional", "loop", "recovers", "async_sequence"]
)
def test_each_step_that_runs_is_in_the_graph(project: Project, name: str) -> None:
    """Real pipelines: each attempt of the run log is of a node of the graph, with its type of task."""
    graph = started(project, name)["graph"]
    nodes = {re.escape(node["id"]).replace(r"\*", "[^.]+"): node for node in graph["nodes"]}
    (log,) = run_logs(project.folder)
    for attempt in attempts(log["steps"]):
        found = [node for pattern, node in nodes.items() if re.fullmatch(pattern, attempt.step)]
        assert len(found) == 1, attempt.step
        assert found[0]["type"] == "task"
        assert found[0]["task_type"] in ("python", "async-python", "shell")
        assert found[0]["name"] == attempt.step.split(".")[-1]


def test_parents_branches_and_edges(project: Project) -> None:
    """A step inside of a composite names that and its branch; edges join steps of one graph."""
    graph = started(project, "conditional")["graph"]
    nodes = {node["id"]: node for node in graph["nodes"]}
    assert list(nodes) == ["choose", "toss", "toss.heads.h", "toss.tails.t"]
    assert nodes["toss"] == {"id": "toss", "name": "toss", "type": "conditional"}
    assert nodes["toss.heads.h"]["parent"] == "toss"
    assert nodes["toss.heads.h"]["branch"] == "toss.heads"
    assert graph["edges"] == [["choose", "toss"]]


def test_an_edge_after_a_failure_says_so(project: Project) -> None:
    """`on_failure` is no ordinary successor."""
    edges = started(project, "recovers")["graph"]["edges"]
    assert [edge[2:] for edge in edges].count(["on_failure"]) == 1


def test_a_job_has_no_graph(project: Project) -> None:
    """A job is one task."""
    assert "graph" not in started(project, "job")


def test_a_large_graph_is_left_out() -> None:
    """Half a graph would be a wrong one; the largest that is sent is within the limit."""
    last = None
    for count in range(100, 1000, 10):
        graph = outline(Graph(*(Node(f"step_{n}", f"step_{n + 1}") for n in range(count))), str)
        if graph is None:
            break
        last = graph
    assert graph is None
    assert last is not None
    assert LIMIT - 2000 < len(json.dumps(last, separators=(",", ":"))) <= LIMIT


def test_names_pass_what_they_are_given() -> None:
    """Ids, names, parents, branches and edges go through the same redaction."""
    inner = Node("top.hunter2.x", internal_branch_name="top.hunter2")
    graph = Graph(Node("top", "hunter2", branches={"hunter2": Graph(inner)}), Node("hunter2"))
    assert "hunter2" not in json.dumps(outline(graph, lambda name: name.replace("hunter2", "***")))


def test_graphs_without_end() -> None:
    """A graph that holds itself ends at a depth, not in a RecursionError."""
    node = Node("a")
    node.branch = Graph(node)  # type: ignore[attr-defined]
    graph = outline(Graph(node), str)
    assert graph is not None
    assert len(graph["nodes"]) == 33
