"""Cost of `capture` beside runnable's own `truncate_value`, side by side in one process.

    python benchmarks/bench_capture.py [--rounds N] [--limit BYTES] [--huge]

Each round times both on each value, one after the other; a ratio is the median of the rounds' ratios, a time the median
of the rounds' times. `truncate_value` is applied to each value and the whole written as JSON, as runnable's span
attributes are. It reads the whole value, so it is left out for values over 10 MB.
"""

from __future__ import annotations

import argparse
import datetime
import decimal
import json
import statistics
import time
import tracemalloc
import uuid
from collections.abc import Callable
from typing import Any

from runnable.telemetry import truncate_value

from runnable_otel.capture import capture
from runnable_otel.redact import Redactor

MB = 1_000_000
PROSE = "The quick brown fox: it jumped over 12 lazy dogs, in /tmp/a-b_c. "


def cyclic() -> dict[str, Any]:
    made: dict[str, Any] = {"a": 1}
    made["self"] = made
    return made


def deep(levels: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(levels):
        made = [made]
    return made


def branching(width: int, levels: int) -> Any:
    made: Any = 1
    for _ in range(levels):
        made = [made] * width
    return made


def small() -> dict[str, dict[str, Any]]:
    """What a task usually takes: here the ratio counts."""
    return {
        "one int": {"x": 10},
        "four values": {"x": 10, "name": "hello", "n": 3, "path": "data/in.csv"},
        "eight values": {f"key_{at}": at if at % 2 else f"value {at}" for at in range(8)},
        "nested": {"config": {"rate": 0.1, "layers": [64, 32]}, "names": ["a", "b"]},
        "a sentence": {"text": "The quick brown fox jumped over the lazy dog."},
    }


def large() -> dict[str, dict[str, Any]]:
    """What must not cost more than a small value."""
    values: dict[str, dict[str, Any]] = {
        "str 1 MB": {"v": (PROSE * (MB // len(PROSE)))},
        "str 10 MB": {"v": (PROSE * (10 * MB // len(PROSE)))},
        "str 1 MB, 4-byte": {"v": "\U0001f600" * (MB // 4)},
        "str 1 MB, escapes": {"v": "\x00" * MB},
        "bytes 10 MB": {"v": b"x" * (10 * MB)},
        "list of 1e6 ints": {"v": list(range(MB))},
        "list of 100 x 1 kB": {"v": [PROSE * 16] * 100},
        "list of 32 short": {"v": [PROSE] * 32},
        "list of 1e5 floats": {"v": [at * 0.37 for at in range(MB // 10)]},
        "dict of 1e6 keys": {f"key_{at}": at for at in range(MB)},
        "nested dict of 1e5": {"v": {f"key_{at}": at for at in range(MB // 10)}},
        "50 texts of 1 kB": {f"key_{at}": PROSE * 16 for at in range(50)},
        "26 members": {f"k{at}": at for at in range(26)},
        "deep 2,000": {"v": deep(2000)},
        "cyclic": cyclic(),
        "10 wide, 6 deep": {"v": branching(10, 6)},
        "objects": {f"o{at}": object() for at in range(30)},
        "int of 1e6 digits": {"v": 1 << 3_321_928},
        "standard library": {
            "at": datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone.utc),
            "id": uuid.UUID(int=1),
            "price": decimal.Decimal("1.50"),
        },
        "a few secrets": {"password": "x", "url": "postgres://u:p@h/d", "text": "token=abc " + PROSE},
        "nothing but secrets": {"v": "token: abc " * MB},
    }
    return values | arrays()


def arrays() -> dict[str, dict[str, Any]]:
    try:
        import numpy as np
        import pandas as pd
    except ImportError:
        return {}
    frame = pd.DataFrame({"a": np.arange(10 * MB), "b": 1.5, "c": 2})
    return {"array 1e6 x 3": {"v": np.zeros((MB, 3))}, "frame 1e7 x 3": {"v": frame}}


def huge() -> dict[str, dict[str, Any]]:
    return {
        "str 1 GB": {"v": "x" * 2**30},
        "bytes 1 GB": {"v": b"x" * 2**30},
        "list of 1e7 ints": {"v": list(range(10 * MB))},
    }


def theirs(values: dict[str, Any]) -> str:
    return json.dumps({name: truncate_value(value) for name, value in values.items()})


def microseconds(action: Callable[[], object], seconds: float) -> float:
    """Time of one call, repeated for about that long."""
    start = time.perf_counter()
    action()
    once = time.perf_counter() - start
    count = max(1, min(10_000, int(seconds / max(once, 1e-7))))
    start = time.perf_counter()
    for _ in range(count):
        action()
    return (time.perf_counter() - start) / count * 1e6


def peak(action: Callable[[], object]) -> int:
    """Bytes beyond the value, at the worst moment."""
    action()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    action()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most - before


def report(title: str, shapes: dict[str, dict[str, Any]], rounds: int, limit: int, peer: bool) -> None:
    redactor = Redactor()
    print(f"\n{title:22}{'capture':>12}{'peak':>9}{'truncate_value':>17}{'peak':>14}{'ratio':>10}")
    for name, values in shapes.items():

        def ours(values: dict[str, Any] = values) -> object:
            return capture(values, limit, redactor=redactor)

        def other(values: dict[str, Any] = values) -> object:
            return theirs(values)

        times: list[tuple[float, float]] = []
        for _ in range(rounds):
            first = microseconds(ours, 0.02)
            times.append((first, microseconds(other, 0.02) if peer else 0.0))
        mine, them = (statistics.median(column) for column in zip(*times, strict=True))
        line = f"{name:22}{mine:9.1f} us{peak(ours):7,} B"
        if peer:
            ratio = statistics.median(second / first for first, second in times)
            line += f"{them:14,.1f} us{peak(other):12,} B{ratio:9,.1f}x"
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds, at least 5")
    parser.add_argument("--limit", type=int, default=256, help="bytes of the result")
    parser.add_argument("--huge", action="store_true", help="values of 1 GB too (needs 4 GB of memory)")
    options = parser.parse_args()
    rounds = max(5, options.rounds)
    report("small values", small(), rounds, options.limit, peer=True)
    report("large values", large(), rounds, options.limit, peer=True)
    if options.huge:
        report("huge values", huge(), rounds, options.limit, peer=False)


if __name__ == "__main__":
    main()
