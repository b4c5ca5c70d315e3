"""One event built, encoded and framed, against a frame of sse-starlette, as ratios: rounds interleaved, the median.

python benchmarks/bench_events.py
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

from runnable_otel import spans, sse
from runnable_otel.events import TASK_COMPLETED, Event
from runnable_otel.spans import Origin, Step
from runnable_otel.tracing import Ids

ROUNDS, CALLS = 21, 5000

STEP = Step(name="each.3.work", short="work", branch="each.3", attempt=1, maps={}, map_attributes={}, key="each.3.work")
ORIGIN = Origin(
    Ids(0x5B8EFFF798038103D269B633813FC60C, 0xEEE19B7EC3C1B174, 0xEEE19B7EC3C1B173), "quiet-noether-0912", STEP
)


def build() -> Event:
    own = {"inputs": {"x": 10}, "outputs": {"result": 20}, "status": "success"}
    return spans.end_event(TASK_COMPLETED, ORIGIN, 1_790_000_000_000_000_000, 1_790_000_000_100_000_000, "work", own)


def whole() -> bytes:
    return sse.frame("1.42", build().to_json())


def sse_starlette() -> Callable[[], bytes]:
    """Its frame of the same event, from the same dict: what a user of it writes."""
    from sse_starlette.event import ServerSentEvent

    fields = build().to_dict()
    return lambda: ServerSentEvent(data=json.dumps(fields), id="1.42").encode()


def microseconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        function()
    return (time.perf_counter() - start) / CALLS * 1e6


def main() -> None:
    event = build()
    text = event.to_json()
    functions: dict[str, Callable[[], object]] = {
        "built": build,
        "encoded": event.to_json,
        "framed": lambda: sse.frame("1.42", text),
        "all three": whole,
    }
    try:
        functions["sse-starlette: encoded and framed"] = sse_starlette()
    except ImportError:
        print("without sse-starlette: pip install sse-starlette")
    rounds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(ROUNDS):
        for name, function in functions.items():
            rounds[name].append(microseconds(function))
    print(f"an event of {len(text)} bytes, microseconds, median of {ROUNDS} rounds; each is made once for all clients")
    for name, measured in rounds.items():
        print(f"  {name:36} {statistics.median(measured):6.2f}")
    if len(functions) > 4:
        *_, peer = rounds.values()
        ratio = statistics.median(theirs / ours for theirs, ours in zip(peer, rounds["all three"], strict=True))
        print(f"  sse-starlette / all three            {ratio:6.2f}")


if __name__ == "__main__":
    main()
