"""The fault matrix: its inputs, its faults, its ways in, and what each cell promises."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

APP: Final = Path(__file__).parent.parent / "faults"
sys.path.insert(0, str(APP))

from values import ERRORS, RUN_IDS, VALUES  # noqa: E402 - the app's own table

_OTHERS: Final = ("surrogate_in_name", "surrogate_in_event", "traceparent_parameter")
INPUTS: Final = ("normal", *VALUES, *ERRORS, *RUN_IDS, *_OTHERS)
WAYS: Final = ("plain", "instrument", "configure", "processor")
PROTOCOLS: Final = ("grpc", "http/protobuf")


class Fault(NamedTuple):
    """What goes wrong.

    Attributes:
        endpoint: the trouble of the endpoint, see `support.endpoint`.
        arrives: which spans must be there: `all`, `none`, or `any` where the promise is only that they are accounted
            for; `ended` are all whose end came before the strike, and those that ran, as cancelled; `old` those that
            ended more than a second before.
        exit_seconds: how much later the process may end than without us (P3); None: nothing is promised.
        variables: of the environment.
        strikes: it happens in the process, so the run without us has it too.
        killed: nobody can account for what the process had: it was killed, or left by `os._exit`.
    """

    endpoint: str = "healthy"
    arrives: str = "all"
    exit_seconds: float | None = 0.1
    variables: tuple[tuple[str, str], ...] = ()
    strikes: bool = False
    killed: bool = False


def _endpoint(trouble: str, seconds: float, arrives: str = "none") -> Fault:
    return Fault(trouble, arrives, seconds)


# The spans wait until the end: where a process forks while its first export over gRPC is under way, gRPC itself may
# send that twice (README, known limits).
_PENDING: Final = (("OTEL_BSP_SCHEDULE_DELAY", "60000"),)

FAULTS: Final = {
    "none": Fault(),
    "refused": _endpoint("refused", 0.5),
    "black_hole": _endpoint("black_hole", 2.0),
    "unanswered": _endpoint("unanswered", 2.0),
    "unavailable": _endpoint("unavailable", 2.0),
    "throttled": _endpoint("throttled", 2.0),
    "bad_request": _endpoint("bad_request", 2.0),
    "unauthorized": _endpoint("unauthorized", 2.0),
    "too_large": _endpoint("too_large", 2.0),
    "insults": _endpoint("insults", 2.0),
    "slow": _endpoint("slow", 2.0, "any"),
    "reset": _endpoint("reset", 2.0, "any"),
    "recovers": _endpoint("recovers", 2.0, "any"),
    "burst": Fault(arrives="any", exit_seconds=2.0, strikes=True),
    "fork": Fault(strikes=True, variables=_PENDING),
    "fork_that_exits": Fault(strikes=True, exit_seconds=None, variables=_PENDING),
    "pool_fork": Fault(strikes=True, variables=_PENDING),
    "pool_forkserver": Fault(strikes=True),
    "pool_spawn": Fault(strikes=True),
    "sigterm": Fault(arrives="ended", exit_seconds=2.0, strikes=True),
    "sigint": Fault(arrives="ended", exit_seconds=2.0, strikes=True),
    "sigkill": Fault(arrives="old", exit_seconds=None, strikes=True, killed=True),
    "os_exit": Fault(arrives="any", exit_seconds=None, strikes=True, killed=True),
    "sys_exit": Fault(arrives="ended", strikes=True),
    "unhandled": Fault(strikes=True),
    "spool": Fault("refused", "none", 0.5, (("RUNNABLE_OTEL_SPOOL", "spool"),)),
    "spool_full": Fault("refused", "none", 0.5, (("RUNNABLE_OTEL_SPOOL", "disk/spool"),)),
    "spool_read_only": Fault("refused", "none", 0.5, (("RUNNABLE_OTEL_SPOOL", "disk/spool"),)),
    "provider_replaced": Fault(exit_seconds=None, strikes=True),
    "sdk_disabled": Fault(arrives="none", variables=(("OTEL_SDK_DISABLED", "true"),)),
    "traceparent": Fault(variables=(("TRACEPARENT", "00-no-trace-\x1b[31m01"),)),
    "clock_jump": Fault(strikes=True),
}


@dataclass(frozen=True)
class Cell:
    """One cell."""

    input: str
    fault: str
    way: str
    protocol: str = "grpc"

    def __str__(self) -> str:
        return "-".join((self.input, self.fault, self.way, self.protocol.partition("/")[0]))

    @property
    def promise(self) -> Fault:
        return FAULTS[self.fault]


def _numbered(names: tuple[tuple[str, str], ...]) -> Iterator[Cell]:
    """A way and a protocol for each pair, in turn, so that every way meets every fault and input."""
    turns = [(way, protocol) for way in WAYS for protocol in PROTOCOLS]
    for at, (name, fault) in enumerate(names):
        yield Cell(name, fault, *turns[(at + at // len(turns)) % len(turns)])


def rows() -> list[Cell]:
    """Every input with a healthy endpoint, by every way; every fault with a normal input, by every way and protocol."""
    inputs = [Cell(name, "none", way) for name in INPUTS for way in WAYS]
    faults = [Cell("normal", fault, way, protocol) for fault in FAULTS for way in WAYS for protocol in PROTOCOLS]
    return list(dict.fromkeys(inputs + faults))


def pairs() -> list[Cell]:
    """Every input with every fault."""
    names = tuple((name, fault) for fault in FAULTS for name in INPUTS if fault != "none" and name != "normal")
    return list(_numbered(names))


def chosen_pairs() -> list[Cell]:
    """Half of the pairs, as of a chess board: each input with half of the faults; `RUNNABLE_OTEL_FAULTS=all` is all."""
    if os.environ.get("RUNNABLE_OTEL_FAULTS") == "all":
        return pairs()
    inputs, faults = list(INPUTS), list(FAULTS)
    return [cell for cell in pairs() if (inputs.index(cell.input) + faults.index(cell.fault)) % 2]


_QUICK: Final = """
    normal str_raises repr_hangs iter_recurses len_raises items_hangs cyclic depth_2000 text_80mb bytes_1gb numpy
    surrogate_in_value surrogate_in_name surrogate_in_status surrogate_in_event int_2_70 pydantic keys_not_strings
    metaclass exception_str_raises exception_str_hangs exception_70mb traceparent_parameter run_id_empty run_id_1mb
    run_id_newlines run_id_surrogate run_id_dots
"""


def quick() -> list[Cell]:
    """A slice: an input of each kind with a healthy endpoint, each fault with a normal input."""
    inputs = _numbered(tuple((name, "none") for name in _QUICK.split()))
    faults = _numbered(tuple(("normal", fault) for fault in FAULTS))
    return list(dict.fromkeys([*inputs, *faults]))
