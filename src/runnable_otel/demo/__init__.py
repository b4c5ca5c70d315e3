"""`runnable-otel demo`: three real runs, their traces as an OTLP receiver got them, and whether all counts agree.

What "sent" and the other counts mean is what `--help` says; what "agree" means, `agreement.disagreements`.
"""

from __future__ import annotations

import shutil
import sys
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, NamedTuple

from runnable_otel.cli import Parser
from runnable_otel.demo import live
from runnable_otel.demo.agreement import Counts, counts, disagreements
from runnable_otel.demo.processes import Done, Stage
from runnable_otel.demo.receiver import Receiver
from runnable_otel.demo.tree import draw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_NEEDED: Final = {"runnable": "runnable>=0.50", "ploomber_engine": "ploomber-engine"}
"""Modules that the demo's pipelines import, and what to install for them."""

_DESCRIPTION: Final = """\
Three real runs, their traces as an OTLP receiver got them, and counts:

  spans sent      those that ended in the run's own process: it has a second
                  exporter beside OTLP, which writes them to its standard
                  output (OTEL_TRACES_EXPORTER=otlp,console)
  spans received  those that came to an OTLP/gRPC receiver
  events          what a file: sink got: the start and end of each run and
                  each attempt, and each step that a retry skipped
  attempts        what runnable itself says that it ran, in its run log

The exit code is 0 only if they agree: each names the same facts, each once.

In a terminal the page shows the runs as they happen, in your browser, and stays
until Ctrl-C. For that the events go to a live server in this process, too."""

_HEAD: Final = """\
Three runs, in real processes. Drawn is what an OTLP/gRPC receiver got. Counted
are the spans that the processes sent, those that were received, the events at
a sink, and the attempts in runnable's run log."""

_NEXT: Final = """\
Your own pipeline, with no change to it:
  RUNNABLE_TELEMETRY_CONSOLE=true python pipeline.py
  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317 python pipeline.py"""

_ASCII: Final = str.maketrans({"├": "|", "└": "`", "│": "|", "─": "-", "…": "~"})


class _Run(NamedTuple):
    """One of the three runs: what it shows, and its processes, each with the exit code that it should have."""

    title: str
    processes: Callable[[Stage], Iterator[tuple[Done, int]]]


def _orders(stage: Stage) -> Iterator[tuple[Done, int]]:
    yield stage.python("orders.py"), 0


def _answer(stage: Stage) -> Iterator[tuple[Done, int]]:
    yield stage.python("answer.py"), 0


def _restock(stage: Stage) -> Iterator[tuple[Done, int]]:
    yield stage.python("restock.py"), 1
    (stage.folder / "delivery.txt").write_text("4")
    yield stage.python("-m", "runnable.cli", "retry", stage.run_id()), 0


_RUNS: Final = (
    _Run("python, shell and notebook tasks, parallel and mapped; a failure is recovered", _orders),
    _Run("an async pipeline that streams", _answer),
    _Run("a failed run, and its retry once the cause is mended", _restock),
)


def main(arguments: Sequence[str], receiver: Callable[[], Receiver] = Receiver) -> int:
    """Run the demo.

    Args:
        arguments: `--verbose`, `--no-page`, or none.
        receiver: makes the receiver.

    Returns:
        The exit code: 0 only if all counts agree.
    """
    parser = Parser("demo", description=_DESCRIPTION)
    parser.add_argument("--verbose", action="store_true", help="show what the pipelines write, too")
    parser.add_argument("--no-page", action="store_true", help="no page, as where the output is no terminal")
    options = parser.parse_args(list(arguments))
    missing = [package for module, package in _NEEDED.items() if find_spec(module) is None]
    if missing:
        names = " ".join(f"'{name}'" for name in missing)
        print(f"{parser.prog}: its pipelines need more packages: pip install {names}", file=sys.stderr)  # noqa: T201
        return 1
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="runnable-otel-demo-", ignore_cleanup_errors=True))
        listening = stack.enter_context(receiver())
        say(_HEAD)
        page = _page(stack) if sys.stdout.isatty() and not options.no_page else None
        # runnable wants a pipeline's file below the current folder, and asks for it by its real path.
        stages = [
            Stage(Path(folder).resolve() / str(n), listening, "" if page is None else page.endpoint)
            for n in range(1, len(_RUNS) + 1)
        ]
        code = _report([_show(n, stage, options.verbose) for n, stage in enumerate(stages, start=1)])
        if page is not None:
            say(f"\nThe page stays until Ctrl-C: {page.address()}")
            live.wait()
        return code


def _page(stack: ExitStack) -> live.Live | None:
    """Serve the page until the stack is left, and show it; None where its packages are missing."""
    if not live.is_installed():
        say("\nFor the page, too: pip install 'runnable-otel[serve]'")
        return None
    page = stack.enter_context(live.Live())
    address = page.address()
    say(f"\nThe page, as it happens{' (in your browser)' if live.show(address) else ''}: {address}")
    return page


class _Outcome(NamedTuple):
    """What came out of a run: its counts, what is wrong, and what its processes wrote."""

    counts: Counts
    wrong: list[str]
    output: str


def _show(number: int, stage: Stage, verbose: bool) -> _Outcome:
    """Make one run, and print its trees and its counts."""
    title, processes = _RUNS[number - 1]
    say(f"\n{number}. {title}")
    total, wrong, written = Counts(), list[str](), ""
    for done, expected in processes(stage):
        say(f"\n$ {done.command}")
        if verbose:
            say(done.output)
        say(draw(done.execution.received, _width()))
        if done.returncode != expected:
            ended = "took too long" if done.returncode is None else f"exited with {done.returncode}"
            wrong.append(f"{done.command} {ended}; {expected} was expected")
        wrong += disagreements(done.execution)
        total += counts(done.execution)
        written += f"$ {done.command}\n{done.output}"
    say(f"\nrun {number}: {total}")
    return _Outcome(total, wrong, "" if verbose else written)


def _report(outcomes: Sequence[_Outcome]) -> int:
    """Print the counts of all, and what is wrong; the exit code."""
    total = sum((outcome.counts for outcome in outcomes), Counts())
    wrong = [f"run {number}: {what}" for number, outcome in enumerate(outcomes, start=1) for what in outcome.wrong]
    say(f"\nin all: {total}")
    if not wrong:
        say(f"They agree: each span, event and attempt is there exactly once.\n\n{_NEXT}")
        return 0
    say("They do not agree:\n" + "\n".join(f"  {what}" for what in wrong))
    for outcome in outcomes:
        if outcome.wrong and outcome.output:
            say(f"\nWhat the pipelines wrote:\n{outcome.output}")
    return 1


def _width() -> int:
    """Of the terminal, or what COLUMNS says; no wider than reads well."""
    return min(max(shutil.get_terminal_size().columns, 40), 120)


def say(text: str) -> None:
    """Print, on a terminal that knows no line drawing too."""
    encoding = sys.stdout.encoding or "ascii"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_ASCII).encode(encoding, "replace").decode(encoding)
    print(text, flush=True)  # noqa: T201 - what a command does
