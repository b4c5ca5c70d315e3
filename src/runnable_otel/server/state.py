"""What the routes of one app share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from runnable_otel.fanout import Fanout
from runnable_otel.log import EventLog, StoreUnavailable
from runnable_otel.server import headers
from runnable_otel.server.replies import error
from runnable_otel.server.tokens import Tokens

MAX_RUN: Final = 256
"""Characters of a trace id or run id in a path."""
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Refused(Exception):  # noqa: N818 - it becomes an answer
    """A request that gets an error: its status, and why in one sentence."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, headers


@dataclass(frozen=True, slots=True)
class State:
    """The parts of one app.

    Attributes:
        log: what is shown, and written to.
        tokens: who may.
        fanout: the streams that are open.
        max_streams: how many there may be.
        max_streams_per_address: how many of them for one address.
    """

    log: EventLog
    tokens: Tokens
    fanout: Fanout
    max_streams: int
    max_streams_per_address: int
    addresses: Counter[str] = field(default_factory=Counter[str])

    async def call(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call the log.

        Raises:
            Refused: 503, it is out of reach.
        """
        try:
            return await self.fanout.call(function, *args, **kwargs)
        except StoreUnavailable as gone:
            raise Refused(503, gone.reason, {"Retry-After": str(gone.retry_after)}) from None

    def check_reader(self, scope: Any) -> None:
        """Let through only who has the readers' token.

        Raises:
            Refused: 401.
        """
        if not self.tokens.reads(headers.bearer(scope)):
            raise Refused(401, "a bearer token is needed to read", {"WWW-Authenticate": "Bearer"})

    def take_place(self, scope: Any) -> Callable[[], None]:
        """A stream's place among those that may be open; what is returned gives it back.

        Raises:
            Refused: 503 or 429, there is none.
        """
        address = str((scope.get("client") or ("",))[0])
        if len(self.fanout) >= self.max_streams:
            raise Refused(503, f"{self.max_streams} streams are open: no more are allowed", {"Retry-After": "10"})
        if self.addresses[address] >= self.max_streams_per_address:
            most = self.max_streams_per_address
            raise Refused(429, f"{most} streams of this address are open: no more are allowed", {"Retry-After": "10"})
        self.addresses[address] += 1
        return partial(self._give_back, address)

    def _give_back(self, address: str) -> None:
        self.addresses[address] -= 1
        if not self.addresses[address]:
            del self.addresses[address]


def run_of(request: Request) -> str:
    """The run that a path names.

    Raises:
        Refused: 400, it can't be a run's id.
    """
    run: str = request.path_params["run"]
    if len(run) > MAX_RUN:
        raise Refused(400, f"a trace id or run id has at most {MAX_RUN} characters")
    return run


async def on_refused(_: Request, refused: Exception) -> Response:
    """Answer with what was raised."""
    assert isinstance(refused, Refused)
    return error(refused.status, refused.reason, refused.headers)
