"""The picture of a run: what its events say, in whatever order and however often they come."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runnable_otel.events import nanoseconds
from runnable_otel.picture import Item, Picture
from runnable_otel.picture.items import ENDS, STARTS
from runnable_otel.picture.plan import Plan

Event = dict[str, Any]
DAY = "2026-11-24T10:00:"


def at(second: float) -> str:
    return f"{DAY}{second:09.6f}Z"


def started(span: str, second: float = 1, /, kind: str = "task_started", **fields: Any) -> Event:
    return {"type": kind, "name": f"f.{span}", "time": at(second), "run_id": "r", "span_id": span, **fields}


def ended(span: str, first: float = 1, last: float = 2, /, kind: str = "task_completed", **fields: Any) -> Event:
    took = {"started": at(first), "duration_ms": round((last - first) * 1000, 3)}
    return {**started(span, last), "type": kind, **took, **fields}


def span(name: str, id_: str, first: float = 1, last: float = 2, /, **fields: Any) -> Event:
    return ended(id_, first, last, kind="span", **{"name": name, "status": "unset", **fields})


def graph(*nodes: tuple[str, str, str]) -> Event:
    """A `pipeline_started` with nodes as (branch, name, type)."""
    shown = [{"id": f"{b}.{n}".strip("."), "name": n, "type": t, **({"branch": b} if b else {})} for b, n, t in nodes]
    return started("run", 0, kind="pipeline_started", name="p", graph={"nodes": shown, "edges": []})


RUN = started("run", 0, kind="pipeline_started", name="p")
END = ended("run", 0, 9, kind="pipeline_completed", name="p", status="success")
MAP = graph(("", "first", "task"), ("", "m", "map"), ("m.*", "a", "task"), ("m.*", "b", "task"), ("", "last", "task"))
PARALLEL = graph(("", "p", "parallel"), ("p.l", "a", "task"), ("p.r", "b", "task"), ("p.r", "s", "stub"))


def fold(events: Iterable[Event]) -> Picture:
    picture = Picture()
    for event in events:
        picture.add(event)
    return picture


def walk(items: Iterable[Item], depth: int = 0, seen: frozenset[str] = frozenset()) -> Iterator[tuple[int, Item]]:
    for item in sorted(items, key=lambda item: item.order):
        if item.key not in seen:
            yield depth, item
            yield from walk(item.children.values(), depth + 1, seen | {item.key})


def lines(picture: Picture) -> list[str]:
    """The picture as text: a line for each item, two blanks for each level."""
    return [f"{'  ' * depth}{item.label} {item.state or '-'}" for depth, item in walk(picture.roots)]


def everything(picture: Picture) -> list[tuple[Any, ...]]:
    facts = [
        (depth, item.key, item.kind, item.label, item.state, item.started, item.ended, item.open, item.start, item.end)
        for depth, item in walk(picture.roots)
    ]
    counts = {state: number for state, number in picture.tasks.items() if number}
    groups = sorted(picture.running), sorted(picture.failed), sorted(picture.runs), sorted(picture.items)
    main = picture.main
    return [*facts, (counts, groups, picture.newest, picture.over, main.key if main else None)]


TABLE: dict[str, tuple[list[Event], list[str]]] = {
    "nothing": ([], []),
    "only a start": ([RUN], ["pipeline:p running"]),
    "a task that runs": ([RUN, started("t", step="t")], ["pipeline:p running", "  task:f.t running"]),
    "a whole run": (
        [RUN, started("t", step="t"), ended("t", step="t"), END],
        ["pipeline:p success", "  task:f.t success"],
    ),
    "an end wins over a start that comes late": (
        [ended("t", step="t"), started("t", step="t")],
        ["run:r -", "  task:f.t success"],
    ),
    "ends without starts": ([END, ended("t", step="t")], ["pipeline:p success", "  task:f.t success"]),
    "failed": (
        [RUN, ended("t", kind="task_error", error="ValueError: no", step="t"), {**END, "status": "error"}],
        ["pipeline:p failed", "  task:f.t failed"],
    ),
    "cancelled": (
        [ended("t", kind="task_error", error="cancelled", step="t"), {**END, "status": "cancelled"}],
        ["pipeline:p cancelled", "  task:f.t cancelled"],
    ),
    "a task whose end nobody saw": (
        [ended("t", step="t", status="unknown"), END],
        ["pipeline:p success", "  task:f.t -"],
    ),
    "an end that does not say how": ([{**END, "status": None}], ["pipeline:p -"]),
    "skipped": ([RUN, started("t", kind="task_skipped", step="t")], ["pipeline:p running", "  task:f.t skipped"]),
    "attempts": (
        [
            ended("t1", 1, 2, kind="task_error", step="t", attempt=1, name="f"),
            started("t2", 3, step="t", attempt=2, name="f"),
        ],
        ["run:r -", "  task:f failed", "  task:f (attempt 2) running"],
    ),
    "unknown types": (
        [
            RUN,
            {"type": "chunk", "text": "x", "runnable": {"span_id": "t"}},
            {"type": "sign_of_life", "span_id": "run"},
            {"type": "task_log", "span_id": "t"},
            {"type": 5},
            {},
        ],
        ["pipeline:p running"],
    ),
    "a shell task has the step's name": (
        [started("t", name="echo  hi", task_type="shell", step="m.1.say", branch="m.1")],
        ["run:r -", "  m -", "    branch:1 -", "      task:say running"],
    ),
    "composites from dotted names": (
        [started("t", step="a.b.c.d.e", branch="a.b.c.d")],
        ["run:r -", "  a -", "    branch:b -", "      c -", "        branch:d -", "          task:f.t running"],
    ),
    "a dotted item without a graph": (
        [ended("t", step="m.x.csv.clean", branch="m.x.csv")],
        ["run:r -", "  m -", "    branch:x.csv -", "      task:f.t success"],
    ),
    "a dotted item that only the graph can tell": (
        [
            graph(("", "m", "map"), ("m.*", "in", "loop"), ("m.*.in.*", "t", "task")),
            ended("t", step="m.a.b.in.0.t", branch="m.a.b.in.0"),
        ],
        [
            "pipeline:p running",
            *["  map:m -", "    branch:a.b -", "      loop:in -", "        branch:0 -", "          task:f.t success"],
        ],
    ),
    "spans of composites and branches": (
        [
            ended("t", step="m.1.a", branch="m.1"),
            span("branch:x", "b", step="m", branch="m.1"),
            span("map:m", "m", step="m", status="error"),
        ],
        ["run:r -", "  map:m failed", "    branch:1 success", "      task:f.t success"],
    ),
    "what the graph expects": (
        [MAP],
        ["pipeline:p running", "  first waiting", "  map:m waiting", "  last waiting"],
    ),
    "an item of a map, and what it has still to do": (
        [MAP, ended("f", step="first"), started("a", 2, step="m.1.a", branch="m.1")],
        [
            *["pipeline:p running", "  task:f.f success", "  map:m -", "    branch:1 -"],
            *["      task:f.a running", "      b waiting", "  last waiting"],
        ],
    ),
    "branches that the graph names, without stubs": (
        [PARALLEL, started("b", step="p.r.b", branch="p.r")],
        [
            *["pipeline:p running", "  parallel:p -", "    branch:r -", "      task:f.b running"],
            *["    branch:l waiting", "      a waiting"],
        ],
    ),
    "a graph that comes last": (
        [started("a", 2, step="m.1.x.a", branch="m.1.x"), ended("f", step="first"), MAP],
        [
            *["pipeline:p running", "  task:f.f success", "  map:m -", "    branch:1.x -"],
            *["      task:f.a running", "      b waiting", "  last waiting"],
        ],
    ),
    "spans of others below a task, the inner one first": (
        [
            span("SELECT", "2", parent_span_id="1"),
            span("GET /", "1", parent_span_id="t", status="error"),
            started("t", step="t"),
        ],
        ["run:r -", "  task:f.t running", "    GET / failed", "      SELECT success"],
    ),
    "catalog spans are no composites": (
        [span("catalog:put", "c", step="t", parent_span_id="run"), RUN],
        ["pipeline:p running", "  catalog:put success"],
    ),
    "a trace without a run": (
        [span("GET /", "1", run_id=None), span("SELECT", "2", run_id=None, parent_span_id="1")],
        ["GET / success", "  SELECT success"],
    ),
    "a parent that never comes": ([span("SELECT", "2", run_id=None, parent_span_id="1")], ["SELECT success"]),
    "spans that cause each other": (
        [
            span("a", "a", run_id=None, parent_span_id="b"),
            span("b", "b", run_id=None, parent_span_id="a"),
            span("c", "c", run_id=None, parent_span_id="b"),
        ],
        ["a success", "  b success", "    c success"],
    ),
    "a run inside of a task": (
        [
            RUN,
            started("t", step="t"),
            started("i", 2, kind="pipeline_started", name="inner", run_id="r2", parent_span_id="t"),
            started("t2", 3, step="t", run_id="r2"),
        ],
        ["pipeline:p running", "  task:f.t running", "    pipeline:inner running", "      task:f.t2 running"],
    ),
    "below the caller's span": (
        [{**RUN, "parent_span_id": "0"}, span("POST /run", "0", 0, 9, run_id=None)],
        ["POST /run success", "  pipeline:p running"],
    ),
    "the same run again": (
        [RUN, END, started("run2", 20, kind="pipeline_started", name="p")],
        ["pipeline:p running"],
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_table(name: str) -> None:
    """Each case is what its name says."""
    events, expected = TABLE[name]
    assert lines(fold(events)) == expected


@pytest.mark.parametrize("name", TABLE)
def test_table_in_any_order(name: str) -> None:
    """Each case is the same in whatever order its events come, and if each comes three times."""
    events, expected = TABLE[name]
    whole = everything(fold(events))
    for seed in range(20):
        shuffled = events * 3
        random.Random(seed).shuffle(shuffled)
        picture = fold(shuffled)
        assert lines(picture) == expected
        assert everything(picture) == whole


ids = st.sampled_from(["a", "b", "c"])
dotted = st.sampled_from(["", "m.1", "m.1.x", "m.2", "p.l", "m.1.n.2", "."])
optional = {
    "run_id": st.sampled_from(["r", "q"]),
    "parent_span_id": ids,
    "step": st.sampled_from(["m", "first", "m.1.a", "m.2.b", "p.l.a", "m.1.n", "m.1.n.2.c"]),
    "branch": dotted,
    "status": st.sampled_from(["success", "error", "cancelled", 5]),
    "error": st.just("cancelled"),
    "started": st.integers(0, 3).map(at),
    "duration_ms": st.integers(0, 3000) | st.just("long"),
    "attempt": st.integers(0, 2),
    "task_type": st.just("shell"),
    "host": ids,
    "graph": st.sampled_from([MAP["graph"], PARALLEL["graph"], {"nodes": [1, {"name": "x"}]}, 5]),
}
events = st.fixed_dictionaries(
    {
        "type": st.sampled_from([*STARTS, *ENDS]),
        "span_id": ids,
        "name": st.sampled_from(["map:m", "branch:x", "parallel:p", "f", "catalog:get"]),
        "time": st.integers(0, 3).map(at) | st.just("then"),
    },
    optional=optional,
)  # fmt: skip


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(events, max_size=12).flatmap(lambda some: st.tuples(st.just(some), st.permutations(some + some[:4]))))
def test_any_events_in_any_order(case: tuple[list[Event], list[Event]]) -> None:
    """Any events, also such as contradict each other, give the same picture in any order and with repetitions."""
    some, shuffled = case
    picture = fold(some)
    assert everything(fold(shuffled)) == everything(picture)
    shown = {item.key for _, item in walk(picture.roots)}
    assert shown == set(picture.items)


json_values = st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda v: st.lists(v), max_leaves=3)
names = st.sampled_from(["type", "span_id", "name", "time", *optional])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.dictionaries(names, json_values | st.sampled_from(["span", "task_error"]), max_size=8)))
def test_any_json_object(some: list[Event]) -> None:
    """No JSON object makes it raise."""
    everything(fold(some))


def test_times() -> None:
    """Start and end are what the events say; a composite lasts from the first start to the last end in it."""
    picture = fold(
        [
            started("a", 1, step="m.1.a", branch="m.1"),
            ended("a", 1, 3, step="m.1.a", branch="m.1"),
            ended("b", 2, 5, step="m.2.b", branch="m.2"),
            {**ended("c", 5, 6, step="m.2.c", branch="m.2"), "started": None},
        ]
    )
    second = nanoseconds(at(0))
    assert second is not None
    found = {item.label: ((item.started or 0) - second, (item.ended or 0) - second) for _, item in walk(picture.roots)}
    assert {label: (first / 1e9, last / 1e9) for label, (first, last) in found.items() if label != "run:r"} == {
        "m": (1, 6),
        "branch:1": (1, 3),
        "branch:2": (2, 6),
        "task:f.a": (1, 3),
        "task:f.b": (2, 5),
        "task:f.c": (5, 6),
    }


def test_open() -> None:
    """A composite and a branch know how many tasks below them run."""
    picture = fold([RUN, *(started(f"t{n}", step=f"m.{n % 2}.n.{n}.t", branch=f"m.{n % 2}.n.{n}") for n in range(5))])
    assert picture.items["step r m"].open == 5
    assert picture.items["branch r m.0"].open == 3
    picture.add(ended("t0", step="m.0.n.0.t", branch="m.0.n.0"))
    assert (picture.items["step r m"].open, picture.items["branch r m.0"].open) == (4, 2)
    assert len(picture.running) == picture.tasks["running"] == 4


@pytest.mark.parametrize("late", [False, True])
def test_open_of_what_moves(late: bool) -> None:
    """What runs counts where it lies, also when the span that it lies below is heard of later."""
    above, below = span("map:m", "a", step="m"), started("b", 1, parent_span_id="a")
    picture = fold([RUN, below, above] if late else [RUN, above, below])
    assert picture.items["step r m"].open == 1
    picture.add(ended("b", 1, 2, parent_span_id="a"))
    assert picture.items["step r m"].open == 0


def test_what_is_new() -> None:
    """`add` names the item that an event told something of, and nothing for one that is known."""
    picture = Picture()
    assert picture.add(RUN) is picture.items["run r"]
    assert picture.add(dict(RUN)) is None
    assert picture.add({"type": "chunk"}) is None
    assert picture.add(ended("t", step="t")) is picture.items["span t"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", 10**9),
        ("1970-01-01T01:00:01.000001+01:00", 10**9 + 1000),
        ("1970-01-01T00:00:01", 10**9),
        ("0001-01-01T00:00:00+23:59", -62135683140 * 10**9),
        ("now", None),
        ("", None),
        (5, None),
        (None, None),
    ],
)
def test_nanoseconds(text: object, expected: int | None) -> None:
    """RFC 3339 is read, in any zone; anything else is no time."""
    assert nanoseconds(text) == expected


@pytest.mark.parametrize(
    ("branch", "expected"),
    [
        ("m.1", "m"),
        ("m.a.b", "m"),
        ("m.1.n.2", "m.1.n"),
        ("m.1.n.2.3", "m.1.n"),
        ("m.a.b.n.2", "m.a.b.n"),
        ("m.n.n.n", "m.n.n"),
        ("other.1", "other"),
        ("m.", "m"),
        ("m", "m"),
        ("", ""),
    ],
)
def test_above(branch: str, expected: str) -> None:
    """A plan finds the node that a branch belongs to, with dots in the items of maps."""
    plan = Plan.read(graph(("", "m", "map"), ("m.*", "n", "loop"), ("m.*.n.*", "t", "task"))["graph"])
    assert plan is not None
    assert plan.above(branch) == expected


def test_deep_names() -> None:
    """Names of a thousand dots, and a graph as deep as it can be, are no reason to fail."""
    deep = ".".join(["x"] * 1000)
    nodes = [(".".join(["x"] * depth), "x", "map") for depth in range(0, 1000, 2)]
    assert fold([graph(*nodes), started("t", step=deep, branch=deep[:-2])]).tasks["running"] == 1
