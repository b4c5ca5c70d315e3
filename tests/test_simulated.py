"""Fault sequences by the thousand: the live server between simulated sockets, with a clock of its own.

The promise, for every client: no uid twice, and none missing without a gap. A sequence is its seed. `make test` runs
some of each store, `make test-live` 10,000 in all; `RUNNABLE_OTEL_SEQUENCES` is another number of those.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.web import skip_without

skip_without("starlette", "uvicorn", "httptools", "httpx", "psutil")

from support import clockwork  # noqa: E402
from support.redis import RedisServer, needs_redis  # noqa: E402
from support.world import World  # noqa: E402

SEQUENCES = int(os.environ.get("RUNNABLE_OTEL_SEQUENCES", "10000"))
SHARES = {"memory": 0.6, "redis": 0.3, "sqlite": 0.1}
"""Of all sequences: a file costs most."""
QUICK = {"memory": 60, "redis": 40, "sqlite": 20}
STEP = 100
"""Sequences of one test."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer | None]:
    if shutil.which("redis-server") is None:
        yield None
        return
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


def lives(store: str, seeds: range, folder: Path, server: RedisServer | None) -> Counter[str]:
    """Live through sequences; how often what went wrong."""
    seen: Counter[str] = Counter()
    for seed in seeds:
        world = World(seed, store, folder, server)
        try:
            clockwork.run(world.live())
        except Exception as error:
            raise AssertionError(f"{store}, seed {seed}, {world.did}: {error}") from error
        seen.update(world.did)
        seen.update(reason for told in world.told for reason, _ in told.gaps)
    return seen


def heavy() -> Iterator[tuple[str, range]]:
    for store, share in SHARES.items():
        first, last = QUICK[store], QUICK[store] + int(SEQUENCES * share)
        yield from ((store, range(start, min(start + STEP, last))) for start in range(first, last, STEP))


@pytest.mark.parametrize(
    ("store", "seeds"),
    [
        *((store, range(number)) for store, number in QUICK.items()),
        *(pytest.param(*each, marks=pytest.mark.live) for each in heavy()),
    ],
    ids=str,
)
def test_nothing_twice_and_nothing_missing(
    store: str, seeds: range, tmp_path: Path, server: RedisServer | None
) -> None:
    """Whatever is lost, cut, killed or trimmed: each client has every uid once, or has been told of a gap."""
    if store == "redis":
        needs_redis()
    assert sum(lives(store, seeds, tmp_path, server).values()) > len(seeds), "too little went wrong to show anything"
