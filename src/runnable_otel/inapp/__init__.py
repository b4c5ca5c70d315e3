"""In your own web app: run a pipeline and stream its events while it runs."""

from __future__ import annotations

from runnable_otel.inapp.response import sse_response
from runnable_otel.inapp.runs import Run, run_pipeline

__all__ = ["Run", "run_pipeline", "sse_response"]
