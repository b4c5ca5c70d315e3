"""The graph of a pipeline as nodes and edges: what `pipeline_started` says of the steps that may come."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

LIMIT: Final = 64 * 1024
"""How many bytes the graph may take as JSON. A larger one is left out: half a graph would be a wrong one."""

_MAX_DEPTH: Final = 32
_ENDS: Final = ("success", "fail")
_PLACEHOLDERS: Final = ("map_variable_placeholder", "loop_variable_placeholder")  # runnable.defaults


def outline(dag: Any, text: Callable[[str], str]) -> dict[str, Any] | None:
    """A graph and the graphs inside of its nodes.

    Args:
        dag: runnable's `Graph`.
        text: what a name passes before it is shown: redaction and bounds.

    Returns:
        `{"nodes": [{"id", "name", "type", "task_type"?, "parent"?, "branch"?}, …], "edges": [[from, to], …]}` with the
        nodes in the order in which they are defined, without the `success` and `fail` that end each graph. An id is
        the dotted name of the step, with `*` for the item of a map and the round of a loop. An edge that is taken only
        after a failure has `"on_failure"` as a third element. None where that takes more than `LIMIT` bytes.
    """
    nodes: list[dict[str, Any]] = []
    edges: list[list[str]] = []
    size = len('{"nodes":[],"edges":[]}')
    for found, element in _walk(dag, text, "", 0):
        (nodes if found == "node" else edges).append(element)
        size += len(json.dumps(element, separators=(",", ":"))) + 1
        if size > LIMIT:
            return None
    return {"nodes": nodes, "edges": edges} if nodes else None


def _walk(dag: Any, text: Callable[[str], str], parent: str, depth: int) -> Iterator[tuple[str, Any]]:
    steps = {name: node for name, node in dag.nodes.items() if node.node_type not in _ENDS}
    ids = {name: text(_shown(node.internal_name)) for name, node in steps.items()}
    for name, node in steps.items():
        yield "node", _node(node, ids[name], text, parent)
        after, failed = getattr(node, "next_node", ""), getattr(node, "on_failure", "")
        if after in ids:
            yield "edge", [ids[name], ids[after]]
        if failed in ids:
            yield "edge", [ids[name], ids[failed], "on_failure"]
        if depth < _MAX_DEPTH:
            for branch in _branches(node):
                yield from _walk(branch, text, ids[name], depth + 1)


def _node(node: Any, shown: str, text: Callable[[str], str], parent: str) -> dict[str, Any]:
    known = {
        "id": shown,
        "name": text(node.name),
        "type": node.node_type,
        "task_type": getattr(getattr(node, "executable", None), "task_type", None),
        "parent": parent or None,
        "branch": text(_shown(node.internal_branch_name)) if node.internal_branch_name else None,
    }
    return {key: value for key, value in known.items() if value is not None}


def _branches(node: Any) -> list[Any]:
    many = getattr(node, "branches", None)
    one = getattr(node, "branch", None)
    return list(many.values()) if many else [one] if one is not None else []


def _shown(name: str) -> str:
    """A dotted name of runnable's, with `*` for what is known only when it runs."""
    return ".".join("*" if part in _PLACEHOLDERS else part for part in name.split("."))
