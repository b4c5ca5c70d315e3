"""The scope of a composite node, or of one of its branches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runnable_otel import semconv, spans
from runnable_otel.scopes import Scope, is_cancellation
from runnable_otel.spans import Step
from runnable_otel.telemetry import Telemetry


class NodeScope(Scope):
    """A composite node (`parallel`, `map`, `loop`, `conditional`) or one of its branches.

    Args:
        key: the name of its log as runnable has it, for ids only; a branch that is repeated gets its salt behind it.
    """

    def __init__(self, telemetry: Telemetry, kind: str, name: str, step: Step, key: str) -> None:
        super().__init__(telemetry)
        self.kind, self.name, self.step = kind, self.shown(name), step
        if kind == "branch" and self.parent is not None:
            self.salt += self.parent.repeat(key)
        self.key = key + self.salt

    def start_span(self, name: str, attributes: Mapping[str, Any], **more: Any) -> None:
        kind = self.kind if self.kind == "branch" else "composite"
        span_id = self.run.root.node_span_id(kind, self.key) if self.run else 0
        super().start_span(name, attributes, span_id=span_id, **more)

    def opening(self) -> tuple[str, dict[str, Any]]:
        run_id = self.run.run_id if self.run else ""
        return spans.span_name(self.kind, self.name), spans.step_attributes(run_id, self.step)

    def closing(self, exc: BaseException | None) -> tuple[str, bool]:
        if exc is not None and is_cancellation(exc):
            return semconv.CANCELLED, False
        if exc is not None:
            self.failure = self.see(exc)
            return self.status_of(self.failure), True
        if self.failed:
            return (self.status_of(self.failure) if self.failure else "failed"), True
        return semconv.SUCCESS, False

    def closed(self, status: str, failed: bool, ended_ns: int) -> None:
        del status, ended_ns
        if failed and self.kind == "branch" and self.parent is not None:
            self.parent.failed = True
