"""Runs to look at, as lists of events: made with a fixed clock and fixed ids."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone
from typing import Any

Event = dict[str, Any]

TRACE = """Traceback (most recent call last):
  File "/app/forecast/publish.py", line 48, in publish
    response = client.upload(bucket, model)
  File "/app/forecast/store.py", line 112, in upload
    raise ConnectionError(f"{self.host} closed the connection after {sent} bytes")
ConnectionError: models.internal closed the connection after 4194304 bytes
"""

NO_UNITS = """Traceback (most recent call last):
  File "/app/forecast/train.py", line 83, in fit
    model = Seasonal(period=7).fit(frame["units"])
  File "/app/forecast/models.py", line 41, in fit
    raise ValueError(f"{missing:,} rows of {region} hold no units: nothing to fit")
ValueError: 1,204 rows of west hold no units: nothing to fit
"""


def ago(seconds: float) -> datetime:
    """So many seconds before now: the start of a run that is under way."""
    return datetime.now(timezone.utc) - timedelta(seconds=seconds)


def seconds(time: str) -> float:
    """A moment of an event, in seconds since 1970."""
    return datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp()


class Run:
    """Writes the events of one run; times are seconds after its start."""

    def __init__(self, name: str, trace: int, start: datetime | None = None) -> None:
        self.name, self.trace = name, f"{trace:032x}"
        self.zero = start or datetime(2026, 11, 20, 9, 30, tzinfo=timezone.utc)
        self.run_id = f"{name}-{trace:04d}"
        self.root = f"{trace:012x}0001"
        self.spans = 1
        self.events: list[tuple[float, Event]] = []

    def at(self, seconds: float) -> str:
        return (self.zero + timedelta(seconds=seconds)).isoformat(timespec="microseconds").replace("+00:00", "Z")

    def span(self) -> str:
        self.spans += 1
        return f"{int(self.trace, 16):012x}{self.spans:04x}" if self.spans < 65536 else f"{self.spans:016x}"

    def common(self, span: str, parent: str = "", **more: Any) -> Event:
        known = {"run_id": self.run_id, "trace_id": self.trace, "span_id": span, "parent_span_id": parent, **more}
        return {**{key: value for key, value in known.items() if value}, "pid": 4711, "host": "worker-3"}

    def add(self, seconds: float, event: Event, edge: str = "") -> None:
        event["time"] = self.at(seconds)
        event["uid"] = f"{self.trace}:{event['span_id']}:{edge}" if edge else f"log:{self.trace}:{len(self.events)}"
        self.events.append((seconds, event))

    def start(self, graph: Event | None = None) -> None:
        own = {"type": "pipeline_started", "name": self.name, **({"graph": graph} if graph else {})}
        self.add(0, {**own, **self.common(self.root)}, "start")

    def end(self, seconds: float, status: str = "success", error: str = "") -> None:
        own = {"type": "pipeline_completed", "name": self.name, "status": status, **({"error": error} if error else {})}
        self.add(seconds, {**own, **self.common(self.root), **self.took(0, seconds)}, "end")

    def took(self, start: float, end: float) -> Event:
        return {"started": self.at(start), "duration_ms": round((end - start) * 1000, 3)}

    def task(
        self, step: str, start: float, seconds: float | None, *, branch: str = "", error: str = "", **more: Any
    ) -> str:
        """A task's attempt; without `seconds` it does not end."""
        name, attempt = more.pop("name", f"forecast.{step.split('.')[-1]}"), more.pop("attempt", 1)
        kind, parent = more.pop("task_type", "python"), more.pop("parent", self.root)
        inputs, outputs, trace = more.pop("inputs", {}), more.pop("outputs", {}), more.pop("trace", TRACE)
        common = self.common(self.span(), parent, step=step, attempt=attempt, task_type=kind, branch=branch, **more)
        self.add(start, {"type": "task_started", "name": name, "inputs": inputs, **common}, "start")
        if seconds is not None:
            own: Event = {"type": "task_completed", "name": name, "outputs": outputs}
            if error:
                own = {"type": "task_error", "name": name, "error": error, "stack_trace": trace}
            self.add(start + seconds, {**own, "inputs": inputs, **common, **self.took(start, start + seconds)}, "end")
        return common["span_id"]

    def composite(
        self, kind: str, step: str, start: float, end: float, *, branch: str = "", status: str = "unset"
    ) -> str:
        """The span of a composite or of a branch: it arrives when it has ended."""
        common = self.common(self.span(), self.root, step=step, branch=branch)
        own = {"type": "span", "name": f"{kind}:{step.split('.')[-1]}", "status": status, "kind": "internal"}
        attributes = {"runnable.step.name": step, **({"runnable.branch.name": branch} if branch else {})}
        self.add(end, {**own, "attributes": attributes, **common, **self.took(start, end)}, "end")
        return common["span_id"]

    def log(self, seconds: float, span: str, step: str, text: str, stream: str = "stdout") -> None:
        own = {"type": "task_log", "name": step, "stream": stream, "text": text}
        self.add(seconds, {**own, **self.common(span, step=step)})

    def until(self, seconds: float = float("inf")) -> list[Event]:
        """The events up to a moment, in the order in which they happened."""
        return [event for when, event in sorted(self.events, key=lambda pair: pair[0]) if when <= seconds]


def node(id_: str, type_: str = "task", parent: str = "", branch: str = "", task_type: str = "python") -> Event:
    found = {"id": id_, "name": id_.rpartition(".")[2], "type": type_}
    more = {"parent": parent, "branch": branch, "task_type": task_type if type_ == "task" else ""}
    return {**found, **{key: value for key, value in more.items() if value}}


REGIONS = ("north", "south", "east", "west", "islands")
HOLE = "*"

GRAPH: Event = {
    "nodes": [
        node("load", task_type="shell"),
        node("validate"),
        node("prepare", "parallel"),
        node("prepare.calendar.holidays", parent="prepare", branch="prepare.calendar"),
        node("prepare.calendar.promotions", parent="prepare", branch="prepare.calendar"),
        node("prepare.weather.fetch", parent="prepare", branch="prepare.weather"),
        node("prepare.weather.align", parent="prepare", branch="prepare.weather"),
        node("train", "map"),
        node(f"train.{HOLE}.features", parent="train", branch=f"train.{HOLE}"),
        node(f"train.{HOLE}.fit", parent="train", branch=f"train.{HOLE}"),
        node(f"train.{HOLE}.score", parent="train", branch=f"train.{HOLE}"),
        node("compare"),
        node("report", task_type="notebook"),
        node("publish"),
    ],
    "edges": [["load", "validate"], ["validate", "prepare"], ["prepare", "train"], ["train", "compare"]],
}


def forecast(trace: int = 7, *, fails: bool = False, start: datetime | None = None) -> Run:
    """A run of three minutes: all kinds of steps, a retry, output, and a failure if asked for."""
    run, pick = Run("retail-forecast", trace, start), random.Random(11)
    run.start(GRAPH)
    loaded = run.task(
        "load", 0.4, 11.2, task_type="shell", name="duckdb sales.db -c 'copy …'", outputs={"rows": 1_284_551}
    )
    for second in range(11):
        run.log(0.6 + second, loaded, "load", f"copied {second * 117_000:>9,} rows\n")
    run.log(11.4, loaded, "load", "warning: 3 rows without a store id\n", "stderr")
    run.task(
        "validate", 11.9, 4.3, inputs={"rows": 1_284_551}, outputs={"valid": True, "columns": ["sku", "day", "units"]}
    )
    run.task("prepare.calendar.holidays", 16.6, 3.1, branch="prepare.calendar", outputs={"days": 34})
    run.task("prepare.calendar.promotions", 19.9, 6.8, branch="prepare.calendar", outputs={"promotions": 212})
    fetched = {"inputs": {"stations": 48, "source": "https://weather.example/v2"}, "branch": "prepare.weather"}
    run.task("prepare.weather.fetch", 16.7, 5.2, error="TimeoutError: no answer from station 17 in 5 s", **fetched)
    run.task("prepare.weather.fetch", 22.4, 8.9, attempt=2, outputs={"stations": 48}, **fetched)
    run.task("prepare.weather.align", 31.6, 4.4, branch="prepare.weather")
    run.composite("branch", "prepare", 16.5, 26.9, branch="prepare.calendar")
    run.composite("branch", "prepare", 16.5, 36.1, branch="prepare.weather")
    run.composite("parallel", "prepare", 16.4, 36.2)
    last = 0.0
    for number, region in enumerate(REGIONS):
        at, branch = 37.0 + number * 3.4, f"train.{region}"
        for step, seconds in (("features", 9 + 6 * pick.random()), ("fit", 38 + 34 * pick.random()), ("score", 6.5)):
            broken = fails and region == "west" and step == "fit"
            shown = {
                "inputs": {"region": region, "horizon": 28},
                "outputs": {"mape": round(pick.uniform(0.08, 0.2), 4)},
            }
            error = "ValueError: 1,204 rows of west hold no units: nothing to fit" if broken else ""
            trace = NO_UNITS if broken else TRACE
            span = run.task(f"{branch}.{step}", at, seconds, branch=branch, error=error, trace=trace, **shown)
            if step == "fit":
                for epoch in range(1, 25):
                    text = f"epoch {epoch:>2}  loss {1.8 / epoch + 0.21:.4f}  mape {0.4 / epoch + 0.11:.4f}\n"
                    run.log(at + seconds * epoch / 25, span, f"{branch}.fit", text)
            at += seconds + 0.3
            if broken:
                break
        run.composite(
            "branch",
            "train",
            36.8 + number * 3.4,
            at,
            branch=branch,
            status="error" if broken_in(fails, region) else "unset",
        )
        last = max(last, at)
    run.composite("map", "train", 36.5, last + 0.1, status="error" if fails else "unset")
    if fails:
        run.task(
            "notify",
            last + 0.4,
            1.2,
            error="ConnectionError: models.internal closed the connection after 4194304 bytes",
        )
        run.end(last + 2.0, "error", "ValueError: 1,204 rows of west hold no units: nothing to fit")
        return run
    run.task("compare", last + 0.5, 7.7, outputs={"best": "south", "mape": 0.0921})
    run.task("report", last + 8.6, 21.4, task_type="notebook", name="reports/forecast.ipynb")
    run.task("publish", last + 30.4, 5.1, outputs={"url": "https://models.example/retail/2026-11-24"})
    run.end(last + 36.0)
    return run


def broken_in(fails: bool, region: str) -> bool:
    return fails and region == "west"


def large(tasks: int = 10_000, trace: int = 99, *, branches: int = 40, start: datetime | None = None) -> Run:
    """A map of many items; a few of its tasks fail."""
    run, pick = Run("reindex-archive", trace, start), random.Random(5)
    run.start()
    ends = [1.0] * branches
    for number in range(tasks):
        item = number % branches
        seconds = 0.2 + 2.4 * pick.random() ** 3
        branch = f"reindex.shard-{item:02d}"
        error = "OSError: [Errno 5] Input/output error: '/archive/part-0412.parquet'" if number % 1777 == 1003 else ""
        step = f"{branch}.part-{number // branches:04d}"
        run.task(step, ends[item], seconds, branch=branch, error=error, name="archive.reindex", inputs={"part": number})
        ends[item] += seconds + 0.01
    run.end(max(ends) + 0.5, "error", "6 of 10,000 parts failed")
    return run
