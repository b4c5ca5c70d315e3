"""What is known of a run, folded from its events: the same whatever their order, and however often each comes. Pure.

Nothing is invented: what has only started runs, what has only ended ran, and what the graph names but no event has
reached waits. A composite node without a span of its own says no more than its tasks do.
"""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from typing import Final

from runnable_otel.events import PIPELINE_STARTED, SPAN, nanoseconds
from runnable_otel.picture.items import (
    ENDS,
    RUNS,
    STARTS,
    Fields,
    Item,
    State,
    canonical,
    circles,
    facts,
    rank,
    task_label,
    text_of,
)
from runnable_otel.picture.plan import COMPOSITES, Plan, above, join

_DEEPEST: Final = 64


__all__ = ["Item", "Picture", "State"]


class Picture:
    """The picture of one trace.

    Attributes:
        items: all items, by key.
        runs: the runs and jobs among them.
        running: the tasks that run.
        failed: the tasks, and spans of others, that failed.
        tasks: how many attempts of tasks there are in each state.
        newest: the newest time in an event of each host: a clock that is ahead of ours shows here.
    """

    def __init__(self) -> None:
        self._digests: set[bytes] = set()
        self._events: list[Fields] = []
        self._plans: dict[str, Plan] = {}  # by run id
        self.newest: dict[str, int] = {}
        self._clear()

    def _clear(self) -> None:
        self.items: dict[str, Item] = {}
        self.runs: dict[str, Item] = {}
        self.running: dict[str, Item] = {}
        self.failed: dict[str, Item] = {}
        self.tasks: Counter[State] = Counter()
        self._top: dict[str, Item] = {}
        self._begun: set[tuple[str, str]] = set()  # run id and path of each step that a task has been seen of
        self._spans: dict[str, Item] = {}  # by span id
        self._caused: dict[str, dict[str, Item]] = {}  # by the id of the span that caused them, known or not
        self._circular = False

    @property
    def roots(self) -> list[Item]:
        """The items at the top, in their order; of spans that cause each other in a circle, the first."""
        top = [*self._top.values(), *(circles(self.items) if self._circular else ())]
        return sorted(top, key=lambda item: item.order)

    @property
    def main(self) -> Item | None:
        """The run that all is about: the first run or job at the top, or the first span where there is none."""
        runs = [run for run in self.runs.values() if run.parent is None] or list(self.runs.values())
        return min(runs, key=lambda item: item.order) if runs else next(iter(self.roots), None)

    @property
    def over(self) -> bool:
        """Whether each run and job that has been heard of has ended."""
        return bool(self.runs) and all(run.end is not None and run.state != "running" for run in self.runs.values())

    def add(self, event: Fields) -> Item | None:
        """Take in one event; any JSON object will do.

        Returns:
            The item that it tells something new of, or None.
        """
        kind = event.get("type")
        if not isinstance(kind, str) or (kind not in STARTS and kind not in ENDS):
            return None
        digest = blake2b(canonical(event).encode("utf-8", "replace"), digest_size=16).digest()
        if digest in self._digests:
            return None
        self._digests.add(digest)
        host, when = text_of(event, "host"), nanoseconds(event.get("time"))
        if when is not None:
            self.newest[host] = max(self.newest.get(host, when), when)
        if kind == PIPELINE_STARTED and self._plan(event):
            self._clear()  # what came before the graph may lie elsewhere now
            for each in self._events:
                self._take(each)
        self._events.append(event)
        return self._take(event)

    def _plan(self, event: Fields) -> bool:
        """Keep the graph of a run; whether that is news."""
        run, plan = text_of(event, "run_id"), Plan.read(event.get("graph"))
        known = self._plans.get(run)
        if plan is None or not run or (known is not None and known.text >= plan.text):
            return False
        self._plans[run] = plan
        return True

    def _take(self, event: Fields) -> Item | None:
        item = self._item(event)
        if item is None:
            return None
        before = item.state, item.start, item.end
        if event["type"] in STARTS:
            item.start = event if item.start is None else max(item.start, event, key=rank)
        else:
            item.end = event if item.end is None else max(item.end, event, key=rank)
        self._settle(item)
        return item if before != (item.state, item.start, item.end) else None

    # Which item an event tells of. What is not there is made, for each event alike: so the order makes no difference.

    def _item(self, event: Fields) -> Item | None:
        kind, span, run, step, branch = (text_of(event, key) for key in ("type", "span_id", "run_id", "step", "branch"))
        item: Item | None = None
        if kind in RUNS:
            item = self._run(run or span) if run or span else None
        elif kind == SPAN and run and step:
            of = text_of(event, "name").partition(":")[0]
            if of in COMPOSITES or (of == "branch" and branch):
                item = self._branch(run, branch) if of == "branch" else self._composite(run, step)
            if item is not None and item.parent is not None:
                self._reach(item.parent, event)
        if item is None and run:
            self._begin(run, step if kind != SPAN else "")
            self._reach(self._branch(run, branch) if branch and kind != SPAN else self._run(run), event)
        if item is None and span and kind not in RUNS:
            item = self.items.get(f"span {span}") or self._new(Item(f"span {span}", "span", f"span:{span}"))
        if item is not None and span:
            self._known(span, item)
        return item

    def _begin(self, run: str, step: str) -> None:
        """A step no longer waits."""
        if step and (run, step) not in self._begun:
            self._begun.add((run, step))
            waiting = self.items.pop(f"expected {run} {step}", None)
            if waiting is not None:
                self._move(waiting, None)
                del self._top[waiting.key]

    def _reach(self, home: Item, event: Fields) -> None:
        """Something happens in a branch: it and what it lies in do not wait, and last as long as what happens there."""
        _, first, last = facts(None, event) if event["type"] in ENDS else facts(event, None)
        while home.kind != "run" and home.parent is not None:
            if home.end is None:
                home.state = ""
                if first is not None:
                    home.started = first if home.started is None else min(home.started, first)
                if last is not None:
                    home.ended = last if home.ended is None else max(home.ended, last)
            home = home.parent

    def _run(self, run: str) -> Item:
        item = self.items.get(f"run {run}")
        if item is None:
            item = self.runs[f"run {run}"] = self._new(Item(f"run {run}", "run", f"run:{run}", run))
            self._expect(item)
        return item

    def _composite(self, run: str, path: str) -> Item:
        item = self.items.get(f"step {run} {path}")
        if item is None:
            within, _, name = path.rpartition(".") if path.count(".") <= _DEEPEST else ("", "", path)
            parent = self._branch(run, within) if within else self._run(run)
            if (made := self.items.get(f"step {run} {path}")) is not None:
                return made  # with what it lies in, which the graph knows
            item = Item(f"step {run} {path}", "composite", name, run, path, join(parent.template, name))
            plan = self._plans.get(run)
            for index, step in enumerate(plan.steps.get(parent.template, ()) if plan else ()):
                if step.name == name and step.type in COMPOSITES:
                    item.index, item.label, item.state = index, f"{step.type}:{name}", "waiting"
            self._move(self._new(item), parent)
            for name in plan.branches.get(item.template, ()) if plan else ():
                self._branch(run, join(path, name))
        return item

    def _branch(self, run: str, path: str) -> Item:
        item = self.items.get(f"branch {run} {path}")
        if item is None:
            plan = self._plans.get(run)
            parent = self._composite(run, plan.above(path) if plan else above(path))
            if (made := self.items.get(f"branch {run} {path}")) is not None:
                return made
            name = path[len(parent.path) + 1 :] or path
            item = Item(f"branch {run} {path}", "branch", f"branch:{name}", run, path, join(parent.template, name))
            if plan and item.template not in plan.steps:
                item.template = join(parent.template, "*")
            item.state = "waiting" if plan and item.template in plan.steps else ""
            self._move(self._new(item), parent)
            self._expect(item)
        return item

    def _expect(self, parent: Item) -> None:
        """The steps of a run's graph, or of a branch in it, that have not been heard of; of stubs nobody will hear."""
        plan = self._plans.get(parent.run)
        for index, step in enumerate(plan.steps.get(parent.template, ()) if plan else ()):
            path = join(parent.path, step.name)
            if step.type in COMPOSITES:
                self._composite(parent.run, path)
            elif step.type == "task" and (parent.run, path) not in self._begun:
                key = f"expected {parent.run} {path}"
                item = Item(key, "expected", step.name, parent.run, path, index=index, state="waiting")
                self._move(self._new(item), parent)

    # Who lies below whom.

    def _new(self, item: Item) -> Item:
        self.items[item.key] = self._top[item.key] = item
        return item

    def _move(self, item: Item, parent: Item | None) -> None:
        if item.parent is not None:
            del item.parent.children[item.key]
        self._top.pop(item.key, None)
        item.parent = parent
        (self._top if parent is None else parent.children)[item.key] = item
        seen: set[str] = {item.key}
        while parent is not None and not self._circular:
            self._circular = parent.key in seen
            seen.add(parent.key)
            parent = parent.parent

    def _known(self, span: str, item: Item) -> None:
        """A span's id is known from now on: what it caused finds its place."""
        known = self._spans.get(span)
        if known is not item and (known is None or item.key < known.key):
            self._spans[span] = item
            for child in list(self._caused.get(span, {}).values()):
                self._count(child, child.state, -1)  # where it was
                self._below(child, span)
                self._count(child, child.state, 1)

    def _below(self, item: Item, cause: str) -> None:
        """Put an item below the span that caused it, once that is known; until then below its run, if it has one."""
        self._caused.get(item.cause, {}).pop(item.key, None)
        self._caused.setdefault(cause, {})[item.key] = item
        item.cause = cause
        run = text_of(item.fact, "run_id") if item.kind != "run" else ""
        parent = self._spans.get(cause) or (self._run(run) if run else None)
        self._move(item, None if parent is item else parent)

    def _settle(self, item: Item) -> None:
        """What is known of an item follows from the two events that say most of it."""
        fact, before = item.fact, item.state
        self._count(item, before, -1)
        cause, run, step, name = (text_of(fact, key) for key in ("parent_span_id", "run_id", "step", "name"))
        of = name.partition(":")[0]
        if item.kind == "composite":
            item.label = f"{of}:{item.path.rpartition('.')[2]}" if of in COMPOSITES else item.label
        elif item.kind == "run":
            item.label = f"{'job' if fact.get('kind') == 'job' else 'pipeline'}:{name}" if name else item.label
            self._below(item, cause)
        elif item.kind != "branch":
            ours = fact["type"] != SPAN
            item.kind, item.label = ("task", task_label(fact)) if ours else ("span", name or item.label)
            if ours and run and step:
                branch = text_of(fact, "branch")
                self._caused.get(item.cause, {}).pop(item.key, None)
                self._move(item, self._branch(run, branch) if branch else self._run(run))
            else:
                self._below(item, cause)
        item.state, item.started, item.ended = facts(item.start, item.end)
        self._count(item, item.state, 1)

    def _count(self, item: Item, state: State, by: int) -> None:
        if item.kind not in ("task", "span"):
            return
        for group, named in ((self.failed, "failed"), (self.running, "running")):
            if state == named and by > 0:
                group[item.key] = item
            elif state == named:
                group.pop(item.key, None)
        if item.kind == "task":
            self.tasks[state] += by
        above = item.parent if state == "running" else None
        while above is not None and above.kind in ("composite", "branch"):
            above.open += by
            above = above.parent
