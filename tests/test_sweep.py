"""No secret leaves: each kind of secret in each place, and every byte that telemetry lets out is read.

2,000 cases in `make faults`, the first ones of them in `make test`. A case is a pipeline of its own in a real
interpreter: its spans, events and metrics go over the wire, to a file, to standard error and to the caller's queue.
"""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from runnable_otel.settings import Settings
from support.fault_table import FIGURES
from support.planted import PLACES, cases, leaks
from support.sweep import EACH, let_out

QUICK, WHOLE = 120, 2000
SINKS = ("wire", "events.jsonl", "files")
"""Where what a task says arrives in full."""


def sweep(chosen: list[dict[str, Any]]) -> list[tuple[list[dict[str, Any]], dict[str, bytes]]]:
    """The cases, some to a process, a few processes at once; with what each process let out."""
    parts = [chosen[at : at + EACH] for at in range(0, len(chosen), EACH)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(zip(parts, pool.map(let_out, parts), strict=True))


@pytest.mark.parametrize("count", [QUICK, pytest.param(WHOLE, marks=pytest.mark.faults)])
def test_no_secret_leaves(count: int) -> None:
    """0 leaks at any sink, in any file, line or byte on the wire, though each case got there; innocents are shown."""
    found: list[str] = []
    reached: Counter[str] = Counter()
    masked: list[str] = []
    total: Counter[str] = Counter()
    for part, out in sweep(list(cases(count))):
        for case in part:
            total[case["place"]] += 1
            reached[case["place"]] += any(case["control"].encode() in out[sink] for sink in SINKS)
            if case.get("innocent"):
                if not any(case["core"].encode() in out[sink] for sink in SINKS):
                    masked.append(f"{case['key']} in {case['place']}")
                continue
            found += [f"{name}: {case}" for name, sink in out.items() if leaks(case, sink)]
    innocent = sum(bool(case.get("innocent")) for case in cases(count))
    FIGURES.append(f"secrets: {count - innocent} planted in {len(PLACES)} places, {len(found)} leaks")
    FIGURES.append(f"innocent names that look alike: {innocent}, {len(masked)} masked")
    assert not found, "\n".join(found[:20])
    assert not masked
    missed = {place: f"{reached[place]} of {total[place]}" for place in total if reached[place] < 0.9 * total[place]}
    if not hasattr(Settings, "logs"):
        missed.pop("printed", None)
    assert not missed, "these say nothing, for they were never there"
