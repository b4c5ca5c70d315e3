"""The graph of `pipeline_started`, as a reader needs it: which steps a branch holds, and where a branch lies. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

COMPOSITES: Final = frozenset({"parallel", "map", "loop", "conditional"})
_DEEPEST: Final = 64


class Step(NamedTuple):
    """A node of the graph: the step's name and its type, such as `task` or `map`."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A graph, by templates: dotted names with `*` for the item of a map and the round of a loop.

    Attributes:
        steps: by the template of a branch (empty for the run), the steps in it, in order.
        branches: by the template of a composite node, the names of its branches, without `*`.
        text: the graph as JSON text; of two graphs of one run, the greater one counts.
    """

    steps: Mapping[str, tuple[Step, ...]]
    branches: Mapping[str, tuple[str, ...]]
    text: str

    @classmethod
    def read(cls, graph: object) -> Plan | None:
        """The plan in a graph; what is no node of one is passed over. None: there is no node."""
        nodes = cast("Mapping[str, Any]", graph).get("nodes") if isinstance(graph, Mapping) else None
        steps: dict[str, dict[str, Step]] = {}
        for node in cast("list[Any]", nodes) if isinstance(nodes, list) else []:
            if isinstance(node, dict):
                found = cast("dict[str, Any]", node)
                name, kind, branch = (found.get(key, "") for key in ("name", "type", "branch"))
                if not (isinstance(name, str) and isinstance(kind, str) and isinstance(branch, str)):
                    continue
                if name and branch.count(".") < _DEEPEST:
                    steps.setdefault(branch, {})[name] = Step(name, kind)
        branches: dict[str, list[str]] = {}
        for branch in steps:
            composite, _, name = branch.rpartition(".")
            if composite and name != "*":
                branches.setdefault(composite, []).append(name)
        if not steps:
            return None
        return cls(
            {branch: tuple(each.values()) for branch, each in steps.items()},
            {composite: tuple(names) for composite, names in branches.items()},
            json.dumps(graph, sort_keys=True),
        )

    def above(self, branch: str) -> str:
        """The composite node that a branch, by its dotted name, belongs to.

        No name of a step has a dot in it, but the item of a map may: the graph tells where it begins.
        """
        found = [
            place
            for within, steps in self.steps.items()
            for step in steps
            if step.type in COMPOSITES and (place := _match(f"{within}.{step.name}" if within else step.name, branch))
        ]
        return max(found, key=lambda place: (place.count("."), place), default="") or above(branch)


def above(branch: str) -> str:
    """The same without a graph: names of composite nodes and of branches take turns."""
    composite, _, _ = branch.rpartition(".")
    regular = composite and branch.count(".") % 2 and branch.count(".") < _DEEPEST
    return composite if regular else branch.partition(".")[0]


def join(branch: str, name: str) -> str:
    """The dotted name of what lies in a branch, which is empty for the run."""
    return f"{branch}.{name}" if branch else name


def _match(template: str, branch: str) -> str | None:
    """The part of a branch's name that a composite's template stands for; None where it is not one of its branches."""
    first, *others = f"{template}.".split("*")
    if not branch.startswith(first):
        return None
    end = len(first)
    for literal in others:  # an item has at least one character; what follows it is found where it comes first
        at = branch.find(literal, end + 1)
        if at < 0:
            return None
        end = at + len(literal)
    return branch[: end - 1] if end < len(branch) else None
