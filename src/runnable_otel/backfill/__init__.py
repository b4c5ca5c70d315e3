"""`runnable-otel backfill RUN_ID`: the trace of a run whose process died, from runnable's own run log.

The spans have the ids that the run itself gave them, or would have: what had arrived before is the same span, not a
second one. That needs to know the run's root, which each run notes in a file of ours; without it the trace is new.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from runnable_otel import semconv
from runnable_otel.cli import PROGRAM, Parser
from runnable_otel.propagation import LEDGER, Remembered, RunRoot, random_span_id, random_trace_id, seeded_root
from runnable_otel.redact import NAME, Redactor
from runnable_otel.settings import SettingError, Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from runnable_otel.runlog.log import IsOurs, Log

_EPILOG: Final = """\
It sends to what OTEL_EXPORTER_OTLP_ENDPOINT and the other OTEL_* variables
name, as a run does. Run it in the folder in which the pipeline ran, where
runnable's run log is, and with the secrets of its tasks in the environment:
their values are masked. Where one is missing, only the names and types of
inputs and outputs are sent.

example:
  runnable-otel backfill careful-euler-1405
"""


def main(arguments: Sequence[str]) -> int:
    """Send the trace of a run.

    Returns:
        The exit code: 0 when all was taken, 1 when there is no such run, nowhere to send to, or not all was taken.
    """
    parser = Parser(
        "backfill",
        usage=f"{PROGRAM} backfill [--config FILE] RUN_ID",
        description="Send the trace of a run whose process died, from runnable's run log.",
        epilog=_EPILOG,
    )
    parser.add_argument("run_id", metavar="RUN_ID", help="runnable's run id")
    parser.add_argument("--config", metavar="FILE", default="", help="runnable's configuration, with its run log store")
    words = parser.parse_args(list(arguments))
    try:
        return _backfill(words.run_id, words.config)
    except (SettingError, LookupError) as error:
        return _say(str(error))


def _say(reason: str) -> int:
    print(f"{PROGRAM} backfill: {reason}", file=sys.stderr)  # noqa: T201 - a command's own output
    return 1


def _backfill(run_id: str, config: str) -> int:
    from runnable_otel.backfill.store import read

    settings = Settings.read()
    log = read(run_id, config)
    complete = True
    for root, made in _traces(log, run_id, settings):
        complete &= _send(made)
        print(f"{root.trace_id:032x}  {len(made)} spans")  # noqa: T201 - a command's own output
    return 0 if complete else _say("the endpoint has not taken all of them")


def _traces(log: Log, run_id: str, settings: Settings) -> list[tuple[RunRoot, list[ReadableSpan]]]:
    """The spans of each run that the log is of, oldest first; made before any is sent."""
    from runnable_otel.provider import resource
    from runnable_otel.runlog.builder import Builder

    found = _runs(log, run_id, settings)
    runs: list[Remembered] = []
    made: list[tuple[RunRoot, list[ReadableSpan]]] = []
    for number, (run, is_ours) in enumerate(found):
        builder = Builder(
            log=log,
            run=run,
            is_ours=is_ours,
            settings=settings,
            secrets=os.environ,
            resource=resource(),
            marks={semconv.BACKFILLED: True},
        )
        spans = [span for place in builder.top() for span in builder.step(place)]
        if log.get("job"):
            spans += builder.job(log["job"])
        spans.append(builder.run_span(spans, runs, died=number + 1 < len(found)))
        runs.append(run)
        made.append((run.root, spans))
    return made


def _runs(log: Log, run_id: str, settings: Settings) -> list[tuple[Remembered, IsOurs]]:
    """Where each run hangs, and which attempts are its."""
    from runnable_otel.runlog.log import earliest, within, workflows

    ran = workflows(log)
    if ran:
        roots = [(seeded_root(each.seed, run_id, each.indicator), each.made) for each in ran]
        return [(Remembered(root, earliest(log, made), "", 0), made) for root, made in roots]
    known = LEDGER.recall(Redactor(settings.redact).head(run_id, NAME)[0])
    if not known:
        root = RunRoot(random_trace_id(), random_span_id())
        known = [Remembered(root, earliest(log) or time.time_ns(), "", 0)]
        _say(f"no run has noted the trace of {run_id} here: this is a new one")
    until = [*(each.started_ns for each in known[1:]), None]
    return [(run, within(run.started_ns, end)) for run, end in zip(known, until, strict=True)]


def _send(made: Sequence[ReadableSpan]) -> bool:
    """Give spans to the exporters that the environment names.

    Raises:
        LookupError: it names none.
    """
    from opentelemetry.sdk.trace.export import SpanExportResult

    from runnable_otel.exporters import exporters

    found = exporters()
    if not found:
        raise LookupError("nothing says where to send it: set OTEL_EXPORTER_OTLP_ENDPOINT")
    complete = True
    for exporter in found:
        for first in range(0, len(made), 512):
            complete &= exporter.export(made[first : first + 512]) is SpanExportResult.SUCCESS
        exporter.shutdown()
    return complete
