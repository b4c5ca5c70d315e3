"""`runnable-otel replay [FOLDER]`: sends what a spool holds."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from runnable_otel.cli import PROGRAM, Parser
from runnable_otel.settings import SettingError

_EPILOG: Final = """\
FOLDER is that of RUNNABLE_OTEL_SPOOL unless told. Spans go to what
OTEL_EXPORTER_OTLP_ENDPOINT and the other OTEL_* variables name, events to
where the otlp: sink of RUNNABLE_OTEL_SINKS sends, else to the same endpoint;
what was on its way to Logfire goes there, with LOGFIRE_TOKEN. A batch is
removed when it is taken; what is not taken stays.

example:
  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317 runnable-otel replay spool
"""


def main(arguments: Sequence[str]) -> int:
    """Send the batches of a spool, the oldest first.

    Returns:
        The exit code: 0 when none is left, 1 when one is, or when there is no folder or no endpoint.
    """
    parser = Parser(
        "replay",
        usage=f"{PROGRAM} replay [FOLDER]",
        description="Send the spans and events that could not be delivered, and lie in a spool.",
        epilog=_EPILOG,
    )
    parser.add_argument("folder", metavar="FOLDER", nargs="?", default=os.environ.get("RUNNABLE_OTEL_SPOOL", ""))
    folder: str = parser.parse_args(list(arguments)).folder
    if not folder:
        parser.error("there is no FOLDER, and RUNNABLE_OTEL_SPOOL names none")
    try:
        return _replay(Path(folder).expanduser())
    except (SettingError, LookupError) as error:
        return _fail(str(error))


def _fail(reason: str) -> int:
    print(f"{PROGRAM} replay: {reason}", file=sys.stderr)  # noqa: T201 - a command's own output
    return 1


def _replay(folder: Path) -> int:
    from runnable_otel.spool import Spool
    from runnable_otel.spool.replaying import replay

    if not folder.is_dir():
        raise LookupError(f"{folder} is no folder")
    senders = _Senders()
    nowhere: set[str] = set()
    batches = sent = left = 0
    for file in Spool(folder).files():
        try:
            number = replay(file, senders.of(file.name))
        except LookupError as error:
            number = 0
            if str(error) not in nowhere:
                nowhere.add(str(error))
                _fail(str(error))
        except Exception as error:  # noqa: BLE001 - a disk's, or what an exporter makes of a file from elsewhere
            _fail(f"{file.name} is left: {error}")
            number = 0
        batches += bool(number)
        sent += number or 0
        left += number == 0
    senders.close()
    print(f"{sent} spans and events in {_batches(batches)} sent, {_batches(left)} left")  # noqa: T201 - as above
    return 1 if left else 0


def _batches(number: int) -> str:
    return f"{number} batch{'' if number == 1 else 'es'}"


class _Senders:
    """The exporters, each made when the first batch needs it."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def of(self, name: str) -> Mapping[Any, Any]:
        """What sends the spans and logs of a file of that name.

        What sends raises LookupError where nothing says where to, and SettingError where an exporter can't be made.
        """
        if name.startswith("traces-logfire"):
            return {"traces": self._sender("logfire")}
        return {"traces": self._sender("traces"), "logs": self._sender("logs")}

    def _sender(self, kind: str) -> Any:
        def send(items: Sequence[Any]) -> bool:
            if kind not in self._made:
                self._made[kind] = _exporter(kind)
            return getattr(self._made[kind].export(items), "name", "") == "SUCCESS"

        return send

    def close(self) -> None:
        for exporter in self._made.values():
            exporter.shutdown()


def _exporter(kind: str) -> Any:
    from runnable_otel.exporters import logfire_exporter, otlp_exporter
    from runnable_otel.settings import Settings
    from runnable_otel.sinks.otlp import log_exporter, logs_endpoint
    from runnable_otel.tracing import endpoint, protocol

    if kind == "logfire":
        token = os.environ.get("LOGFIRE_TOKEN")
        if not token:
            raise LookupError("LOGFIRE_TOKEN is not set, and a batch was on its way to Logfire")
        return logfire_exporter(token)
    nowhere = LookupError("nothing says where to send it: set OTEL_EXPORTER_OTLP_ENDPOINT")
    if kind == "traces":
        if not endpoint():
            raise nowhere
        return otlp_exporter(protocol())
    urls = [url for url in Settings.read().sinks if url.lower().startswith("otlp:")]
    if not urls and not logs_endpoint():  # the exporter would take localhost for meant
        raise nowhere
    return log_exporter(urls[0] if urls else "otlp:")
