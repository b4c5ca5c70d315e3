"""In a worker of a pool: no exporter and no sink of its own; what happens here is told to the process that made it.

A worker may be a fork of that process, with copies of its open spans, providers, queues and connections, or an
interpreter of its own, which has imported the user's main module again and set up whatever that sets up. In either
case it is killed as soon as the last branch has returned, so nothing can wait here.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider as SDKTracerProvider
from opentelemetry.sdk.trace import sampling
from opentelemetry.trace import TracerProvider

from runnable_otel.calm import CalmProvider
from runnable_otel.elsewhere import OpenElsewhere
from runnable_otel.pools.carrier import Carrier
from runnable_otel.pools.channel import Sender
from runnable_otel.pools.messages import Place, Report
from runnable_otel.pools.relay import Relay, RelayHub, RelayMetrics, RelayProcessor, RelayQueue
from runnable_otel.scopes import harmless
from runnable_otel.still_open import OPEN
from runnable_otel.telemetry import TELEMETRY
from runnable_otel.tracing import sdk_provider

_worker: Worker | None = None


def enter(carrier: bytes, initializer: Callable[..., object] | None, arguments: tuple[Any, ...]) -> None:
    """The pool's initializer. One that raised would have the pool make workers for ever, so this one does not."""
    _rich_traceback_omit = True
    global _worker
    _worker = _pool_worker(carrier)
    if initializer is not None:
        initializer(*arguments)


@harmless
def _pool_worker(carrier: bytes) -> Worker:
    return Worker(pickle.loads(carrier))  # noqa: S301 - what the pool itself ships, as it ships it


def run_branch(function: Callable[..., Any], arguments: tuple[Any, ...], salt: str) -> tuple[Any, Report | None]:
    """Call what the pool was to call. Gives back what that returns, and what became of the branch of that salt."""
    _rich_traceback_omit = True
    scope = None if _worker is None else _worker.scope(salt)
    if scope is None:
        return function(*arguments), None
    with scope:
        result = function(*arguments)
    return result, Report(scope.failed, scope.failure)


def before_call() -> None:
    """A module of the user's was imported, and may have set up a provider."""
    if _worker is not None:
        _worker.take_providers()


class Worker:
    """Turns this process's telemetry towards the parent."""

    def __init__(self, carrier: Carrier) -> None:
        from runnable_otel import provider
        from runnable_otel.hooks import HOOKS

        self._carrier = carrier
        self._relay = Relay(Sender(carrier.address))
        self._queue = RelayQueue(self._relay) if carrier.has_queue else None
        self._taken: list[SDKTracerProvider] = []  # kept, so that none's id is another's
        self._local: SDKTracerProvider | None = None
        _forget_open_logfire_spans()
        OPEN.silence()  # the pool ends its workers by SIGTERM, and waits for them
        HOOKS.set_aside = True  # a main module that imports runnable first was warned in the parent
        HOOKS.on()
        TELEMETRY.use(carrier.settings)
        TELEMETRY.hub = RelayHub(self._relay, wanted=carrier.wanted)
        TELEMETRY.metrics = RelayMetrics(self._relay)
        TELEMETRY.hub.on_drop = TELEMETRY.metrics.dropped
        # A tracer that is remembered stays: to ask a provider for one takes its lock, which may be held since a fork.
        TELEMETRY.tracing.hooks = replace(provider.hooks(), own_provider=self._own_provider, prepare=self._take)

    @harmless
    def scope(self, salt: str) -> OpenElsewhere:
        """What a branch hangs itself on."""
        self.take_providers()
        telemetry: Any = sys.modules.get("runnable.telemetry")
        if telemetry is not None:
            telemetry.set_stream_queue(self._queue)
        carrier = self._carrier
        scope = OpenElsewhere(
            TELEMETRY,
            context=carrier.context(),
            ids=carrier.ids,
            root=carrier.root,
            run_id=carrier.run_id,
            dimensions=carrier.dimensions,
            earlier=carrier.earlier,
            queue=self._queue,
            salt=salt,
            tell_secrets=lambda secrets: self._relay.tell(("secrets", secrets)),
        )
        scope.masks = carrier.masks
        return scope

    @harmless
    def take_providers(self) -> None:
        """Every provider that a span can go to now hands it to the parent."""
        if self._carrier.records:
            TELEMETRY.tracing.provider()  # makes the local one where there is none
        tracing = TELEMETRY.tracing
        for provider in (tracing.explicit, tracing.global_provider(), tracing.configured_logfire()):
            if provider is not None:
                self._take(provider)

    def _take(self, provider: TracerProvider) -> None:
        """Put ours in the place of all processors of a provider. Tracers have its multi-processor, so that stays."""
        inner = sdk_provider(provider)
        if inner is None or any(inner is known for known in self._taken):
            return
        self._taken.append(inner)
        place: Place = "own"
        if inner is not provider:
            place = "logfire"
        elif provider is TELEMETRY.tracing.global_provider() and provider is not self._local:
            place = "global"
        ours = RelayProcessor(self._relay, place)
        theirs: Any = inner._active_span_processor  # noqa: SLF001 - the SDK has no public way to take one out
        for name in ("on_start", "_on_ending", "on_end", "force_flush"):
            setattr(theirs, name, getattr(ours, name))

    def _own_provider(self) -> TracerProvider | None:
        """One of our own, where the user's main module set none up here and spans are recorded there."""
        if self._local is None and self._carrier.records:
            # The parent samples; what it dropped comes with a context that says so.
            self._local = CalmProvider(
                sampler=sampling.DEFAULT_ON, resource=Resource.get_empty(), shutdown_on_exit=False
            )
            self._take(self._local)
            trace._TRACER_PROVIDER = self._local  # noqa: SLF001 - without the SDK's once-only lock: see provider.py
            self._relay_logfire(self._local)
        return self._local

    @harmless
    def _relay_logfire(self, provider: SDKTracerProvider) -> None:
        """The user's own logfire calls arrive, where the user configured logfire for the main process only."""
        from runnable_otel.provider import OWNER

        OWNER.relay_logfire(provider, wanted=self._carrier.logfire)


def _forget_open_logfire_spans() -> None:
    """A forked child must not end what is open in its parent."""
    module: Any = sys.modules.get("logfire._internal.tracer")
    spans = getattr(module, "OPEN_SPANS", None)
    if spans is not None:
        spans.clear()
