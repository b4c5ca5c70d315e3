"""What a cell of the fault matrix promised, what was measured, and whether that holds."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections import Counter
from typing import Any, Final, NamedTuple

from support.fault_cells import FAULTS, Cell
from support.fault_run import Ran, executed, still

ALLOWANCE: Final = float(os.environ.get("RUNNABLE_OTEL_FAULTS_ALLOWANCE", "1.0"))
"""Seconds beyond a bound on time that a loaded machine may take."""
_OURS: Final = re.compile(
    r"not delivered|TRACEPARENT=|telemetry is off|no spans are exported|\d+ (?:spans?|events?)(?: to \S+)? lost so far"
)
_OWN: Final = ("own", "burst", "in the child")


class Verdict(NamedTuple):
    """One promise in one cell."""

    promise: str
    promised: str
    measured: str
    held: bool
    detail: str = ""


def judge(cell: Cell, ran: Ran, without: Ran) -> list[Verdict]:
    """All promises that can be judged by one run of a cell."""
    found = [_same(cell, ran, without), _accounted(cell, ran)]
    if cell.promise.arrives in ("all", "ended"):
        found += [_arrived(cell, ran), _innocent(ran), *_complete(cell, ran)]
    elif cell.promise.arrives == "old":
        found.append(_old(cell, ran))
    elif cell.promise.arrives == "none":
        found.append(Verdict("P4", "none arrives", f"{len(ran.spans)}", not ran.spans))
    return [*found, _events(cell, ran), _quiet(cell, ran)]


def _same(cell: Cell, ran: Ran, without: Ran) -> Verdict:
    """P1: what the user sees is the same, byte for byte."""
    with_us, as_is = ran.sight, without.sight
    if cell.fault.startswith("pool_"):  # processes write at once: their lines come in any order
        with_us, as_is = ({**sight, "stdout": sorted(sight["stdout"].splitlines())} for sight in (with_us, as_is))
    if cell.input != "normal" or cell.promise.strikes or ran.stderr:
        with_us = _without_said(with_us, ran.stderr, without.stderr)
    differ = sorted(name for name in as_is.keys() | with_us.keys() if as_is.get(name) != with_us.get(name))
    detail = "\n".join(f"{name}:\n{_difference(as_is.get(name), with_us.get(name))}" for name in differ)
    if ran.code is None or without.code is None:
        differ.append("it hangs")
    return Verdict("P1", "the same", ", ".join(differ) or "the same", not differ, detail)


def _without_said(sight: dict[str, Any], said: str, before: str) -> dict[str, Any]:
    """Tasks' logs hold what went to standard error meanwhile: a line there that says more is no difference."""
    more = set(still(said).splitlines()) - set(still(before).splitlines())
    return {
        name: "".join(line for line in text.splitlines(keepends=True) if line.rstrip("\n") not in more)
        if name.endswith("execution.log")
        else text
        for name, text in sight.items()
    }


def _difference(before: object, after: object) -> str:
    one, two = (value if isinstance(value, list) else str(value).splitlines() for value in (before, after))
    return "\n".join(list(difflib.unified_diff(one, two, "without", "with", lineterm="", n=1))[:40])


def exit_delay(fault: str, runs: list[tuple[Ran, Ran]]) -> Verdict:
    """P3: the median of what the exit takes longer than without us, run by run side by side."""
    bound = FAULTS[fault].exit_seconds
    assert bound is not None
    added = sorted(ran.seconds - without.seconds for ran, without in runs)
    median = added[len(added) // 2]
    measured = f"{median:+.2f} s, of {len(added)} from {added[0]:+.2f} to {added[-1]:+.2f}"
    return Verdict("P3", f"≤ {bound} s", measured, median <= bound + ALLOWANCE)


def _arrived(cell: Cell, ran: Ran) -> Verdict:
    """P4, P5: every span is there, once; those that ran when it struck, too."""
    whole = ran.made | ran.open
    missing = whole - set(ran.arrived)
    twice = sum(count - 1 for count in ran.arrived.values())
    least = 0.99 if cell.promise.arrives == "ended" else 1.0
    share = 1 - len(missing) / len(whole) if whole else 1.0
    measured = f"{len(whole) - len(missing)} of {len(whole)}" + (f", {twice} twice" if twice else "")
    name = "P5" if cell.promise.arrives == "ended" else "P4"
    return Verdict(name, f"{least:.0%}, once", measured, share >= least and not twice, _names(ran, missing))


def _old(cell: Cell, ran: Ran) -> Verdict:
    """P6: of a process that is killed all is there that ended more than a second before."""
    missing = ran.made - set(ran.arrived)
    measured = f"{len(ran.made) - len(missing)} of {len(ran.made)}, {ran.seconds:.1f} s after"
    empty = cell.input == "normal" and not ran.made
    return Verdict("P6", "what had ended before", measured, not missing and not empty, _names(ran, missing))


def _names(ran: Ran, spans: set[tuple[str, str]]) -> str:
    return ", ".join(sorted({line["name"] for line in ran.census if (line["trace"], line["span"]) in spans}))


def _innocent(ran: Ran) -> Verdict:
    """P7: of the spans that are not the hostile one none is lost."""
    lost = (ran.made | ran.open) - set(ran.arrived)
    names = [name for name in _names(ran, lost).split(", ") if name and not name.startswith(_OWN)]
    return Verdict("P7", "0 lost", f"{len(names)} lost", not names, ", ".join(names))


def _complete(cell: Cell, ran: Ran) -> list[Verdict]:
    """P4 against runnable's run log: one trace a run, a task span for each executed attempt."""
    spans = [span for span in ran.spans if span.attributes.get("status") != "cancelled"]
    tasks = [span for span in spans if span.kind == "task"]
    runs = {span.trace for span in ran.spans if span.kind == "pipeline"}
    strays = {span.trace for span in ran.spans} - runs
    attempts, unwritten = executed(ran)
    cancelled = [span for span in ran.spans if span.kind == "task" and span.attributes.get("status") == "cancelled"]
    # Where runnable itself can't write what happened, the trace knows more than its log.
    held = (
        not strays and attempts <= len(tasks) + len(cancelled) and (len(tasks) <= attempts + unwritten or not ran.logs)
    )
    return [Verdict("P4", f"{attempts} attempts, one trace a run", f"{len(tasks)}, {len(strays)} astray", held)]


def _accounted(cell: Cell, ran: Ran) -> Verdict:
    """P9: made = delivered + spooled + dropped."""
    made, delivered = ran.made, ran.made & set(ran.arrived)
    spooled = (ran.made & ran.spooled) - delivered
    total = len(delivered) + len(spooled) + ran.dropped
    measured = f"{len(made)} = {len(delivered)} + {len(spooled)} + {ran.dropped}"
    if cell.promise.killed:
        return Verdict("P9", "-", measured, True)
    detail = f"counted {ran.marks.get('dropped')}, said {ran.said}"
    held = total == len(made) and ran.said == ran.dropped
    return Verdict("P9", "made = delivered + spooled + dropped", measured, held, detail)


def _quiet(cell: Cell, ran: Ran) -> Verdict:
    """P9: what this package says is said once, on one line; none of it is an endpoint's to choose, or a fault of ours.

    With a provider of the user's the SDK speaks for itself.
    """
    lines = (match[0] for line in ran.stderr.splitlines() if (match := _OURS.match(line)))
    causes = Counter(re.sub(r"\d+", "N", line) for line in lines)
    often = {cause: count for cause, count in causes.items() if count > 1}
    ours = cell.way in ("plain", "configure")
    forged = ours and "\x1b[31m" in ran.stderr
    gaps = [line for line in (ran.stdout + ran.stderr).splitlines() if "telemetry is incomplete" in line]
    measured = f"{sum(causes.values())} lines" + (", one of them forged" if forged else "")
    measured += f", {len(gaps)} of a fault of our own" if gaps else ""
    held = not often and not forged and not gaps
    return Verdict("log", "one line a cause", measured, held, f"{often} {gaps}")


def _events(cell: Cell, ran: Ran) -> Verdict:
    """Each event is at the sink once; a start for each end, but where the process was killed."""
    uids = Counter(event["uid"] for event in ran.events)
    twice = sum(count - 1 for count in uids.values())
    edges = {edge: {uid.rpartition(":")[0] for uid in uids if uid.endswith(edge)} for edge in (":start", ":end")}
    lost = edges[":end"] - edges[":start"]
    cut_off = cell.promise.killed
    open_ones = set() if cut_off else edges[":start"] - edges[":end"]
    bad = [json.dumps(event)[:60] for event in ran.events if not event.get("type")]
    measured = f"{len(uids)}, {twice} twice, {len(lost | open_ones)} halves"
    return Verdict("events", "each once, whole", measured, not twice and not lost and not open_ones and not bad)
