"""The worker before slow sinks: whatever a sink does, the task does not notice, and the counts are exact."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.context import get_value

from runnable_otel.environment_variables import OTEL_RUNNABLE_SINK_TOKEN
from runnable_otel.events import Event
from runnable_otel.sinks import Hub, Sink
from runnable_otel.worker import Counts, Unavailable, Worker
from support.environments import ROOT
from support.project import Project
from support.runlog import attempts, run_logs
from support.waiting import free_port
from test_bad_input import without

LONG = 60.0
"""Seconds to wait for a fact: only a failure takes that long."""


def event(number: int, kind: str = "task_started", **fields: Any) -> Event:
    return Event(kind, f"uid:{number}", {"name": f"step {number}", **fields})


class Recorder:
    """A sink that waits at its gate before each event, and keeps what it got."""

    slow = True

    def __init__(self, *, is_open: bool = True, raises: BaseException | None = None) -> None:
        self.gate = threading.Event()
        if is_open:
            self.gate.set()
        self.raises = raises
        self.entered = threading.Event()
        self.closed = threading.Event()
        self.gone = ""
        self.uids: list[str] = []
        self.threads: set[str] = set()
        self.suppressed: list[object] = []

    def emit(self, event: Event) -> None:
        self.entered.set()
        self.gate.wait(LONG)
        self.threads.add(threading.current_thread().name)
        self.suppressed.append(get_value("suppress_instrumentation"))
        if self.raises is not None:
            raise self.raises
        self.uids.append(event.uid)

    def close(self) -> None:
        self.closed.set()


class Batches(Recorder):
    """A sink that takes batches."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.sizes: list[int] = []

    def emit_batch(self, events: list[Event]) -> None:
        self.entered.set()
        self.gate.wait(LONG)
        self.sizes.append(len(events))
        self.uids.extend(event.uid for event in events)


@pytest.fixture
def workers() -> Iterator[list[Worker]]:
    """Workers that the test made; their sinks' gates are opened, and they are closed, at its end."""
    made: list[Worker] = []
    yield made
    for worker in made:
        worker.sink.gate.set()  # type: ignore[attr-defined]
        worker.close(LONG)


def check(counts: Counts) -> Counts:
    assert counts.accepted == counts.delivered + counts.spooled + sum(counts.dropped.values()) + counts.pending
    return counts


def test_in_order_on_a_thread_of_its_own(workers: list[Worker]) -> None:
    """A slow sink gets each event once, in order, on one thread that is not the user's, and closes after the last."""
    sink = Recorder()
    workers.append(worker := Worker(sink))
    for number in range(500):
        worker.emit(event(number))
    assert worker.close(LONG)
    assert sink.uids == [f"uid:{number}" for number in range(500)]
    assert sink.threads == {"runnable-otel-Recorder"}
    assert sink.closed.is_set()
    assert check(worker.counts()) == Counts(500, 500, {}, 0)


def test_we_do_not_observe_ourselves(workers: list[Worker]) -> None:
    """While a sink is called, OpenTelemetry's instrumentation is suppressed, and only on the worker's thread."""
    sink = Recorder()
    workers.append(worker := Worker(sink))
    worker.emit(event(1))
    assert worker.flush(LONG)
    assert sink.suppressed == [True]
    assert get_value("suppress_instrumentation") is None


def test_a_sink_that_hangs(workers: list[Worker]) -> None:
    """A sink that never comes back holds no caller: what has no room is dropped and counted, at the end all is."""
    sink = Recorder(is_open=False)
    workers.append(worker := Worker(sink, limit=10))
    worker.emit(event(0))
    assert sink.entered.wait(LONG)
    for number in range(1, 25):
        worker.emit(event(number))
    assert check(worker.counts()) == Counts(25, 0, {"full": 15}, 10)
    assert worker._backlog.oldest() == 1  # what a flush waits for
    assert not worker.flush(0)
    assert not worker.close(0)
    assert check(worker.counts()) == Counts(25, 0, {"full": 15, "timeout": 10}, 0)  # one is in the sink's hand
    worker.emit(event(26))
    sink.gate.set()
    assert worker.close(LONG)  # it came back after all, but what is counted stays so
    assert check(worker.counts()) == Counts(26, 0, {"full": 15, "timeout": 10, "closed": 1}, 0)


class Away(Batches):
    """A sink that is away until its gate is opened, or for good."""

    def __init__(self, *, for_good: bool = False) -> None:
        super().__init__(is_open=False)
        self.for_good, self.calls = for_good, 0

    def emit_batch(self, events: list[Event]) -> None:
        self.calls += 1
        self.entered.set()
        if self.for_good or not self.gate.is_set():
            raise Unavailable("gone for lunch")
        super().emit_batch(events)


def test_a_sink_that_is_away(
    workers: list[Worker], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What a sink could not take now is given to it again, in order, until it can; nothing is lost, nor said to be."""
    monkeypatch.setattr("runnable_otel.worker.PAUSES", (0.001,))
    workers.append(worker := Worker(sink := Away()))
    for number in range(20):
        worker.emit(event(number))
    assert sink.entered.wait(LONG)
    assert not worker.flush(0)
    assert check(worker.counts()) == Counts(20, 0, {}, 20)
    sink.gate.set()
    assert worker.flush(LONG)
    assert sink.uids == [f"uid:{number}" for number in range(20)]
    assert check(worker.counts()) == Counts(20, 20, {}, 0)
    assert caplog.messages == []


def test_a_sink_that_is_back_at_the_end(workers: list[Worker], monkeypatch: pytest.MonkeyPatch) -> None:
    """The end does not wait for the time of the next try: what a sink could not take before is given to it at once."""
    monkeypatch.setattr("runnable_otel.worker.PAUSES", (10 * LONG,))
    workers.append(worker := Worker(sink := Away()))
    worker.emit(event(0))
    assert sink.entered.wait(LONG)
    sink.gate.set()
    assert worker.close(LONG)
    assert check(worker.counts()) == Counts(1, 1, {}, 0)
    assert sink.calls <= 2


def test_a_sink_that_stays_away(
    workers: list[Worker], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While a sink is away the least of what waits is dropped first; at the end the rest is counted, after one try."""
    monkeypatch.setattr("runnable_otel.worker.PAUSES", (10 * LONG,))
    workers.append(worker := Worker(sink := Away(for_good=True), limit=10))
    worker.emit(event(0))
    assert sink.entered.wait(LONG)
    for number in range(1, 15):
        worker.emit(event(number))
    assert check(worker.counts()) == Counts(15, 0, {"full": 5}, 10)
    assert worker.close(LONG)
    assert check(worker.counts()) == Counts(15, 0, {"full": 5, "unavailable": 10}, 0)
    assert sink.calls <= 3
    assert caplog.messages[-1] == ("15 events to Away lost so far (full 5, unavailable 10; last error: gone for lunch)")


def test_nobody_waits_for_a_sink_that_is_gone(workers: list[Worker]) -> None:
    """What waits for a sink that knows itself that nobody takes anything is not lost for want of time."""
    workers.append(worker := Worker(sink := Recorder(is_open=False)))
    sink.gone = "connection refused"
    worker.emit(event(0))
    assert not worker.close(0)
    assert check(worker.counts()) == Counts(1, 0, {"unavailable": 1}, 0)
    assert list(worker.undelivered()) == [
        "1 of 1 event to Recorder lost (unavailable 1; last error: connection refused)"
    ]
    sink.gate.set()


@pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(3), KeyboardInterrupt()])
def test_a_sink_that_raises(workers: list[Worker], caplog: pytest.LogCaptureFixture, error: BaseException) -> None:
    """Whatever a sink raises is counted, ends nothing, and is said in one line, not in one for each event."""
    sink = Recorder(raises=error)
    workers.append(worker := Worker(sink))
    with caplog.at_level(logging.WARNING, "runnable_otel"):
        for number in range(5):
            worker.emit(event(number))
            assert worker.flush(LONG)
        assert check(worker.counts()) == Counts(5, 0, {"failed": 5}, 0)
        worker.emit(event(6))
        sink.raises = None
        assert worker.flush(LONG)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert lines[0].startswith(f"1 event to Recorder lost so far (failed 1; last error: {type(error).__name__}")


def test_what_is_dropped_first(workers: list[Worker]) -> None:
    """A full queue drops custom events and logs first, then starts, and an end only when there are but ends."""
    sink = Recorder(is_open=False)
    workers.append(worker := Worker(sink, limit=7))
    worker.emit(event(0))
    assert sink.entered.wait(LONG)  # the sink has the first in hand: six more have room
    kinds = ["task_completed", "chunk", "task_started", "task_log", "pipeline_started", "task_error"]
    for number, kind in enumerate(kinds, 1):
        worker.emit(event(number, kind))
    for number in range(11, 15):  # push out chunk, log, then the starts
        worker.emit(event(number, "task_completed"))
    worker.emit(event(17, "pipeline_completed"))  # only ends are left: the oldest goes
    worker.emit(event(15, "chunk"))  # nothing queued is worth less than these two
    worker.emit(event(16, "task_started"))
    assert check(worker.counts()) == Counts(14, 0, {"full": 7}, 7)
    sink.gate.set()
    assert worker.close(LONG)
    assert sink.uids == [f"uid:{number}" for number in (0, 6, 11, 12, 13, 14, 17)]
    assert check(worker.counts()) == Counts(14, 7, {"full": 7}, 0)


def test_bytes_are_bounded(workers: list[Worker]) -> None:
    """The queue holds so many bytes of JSON, whatever their number; an event that is larger than that has no place."""
    sink = Recorder(is_open=False)
    workers.append(worker := Worker(sink, limit_bytes=1000))
    worker.emit(event(0))
    assert sink.entered.wait(LONG)
    for number in range(1, 5):
        worker.emit(event(number, text="x" * 400))
    worker.emit(event(5, text="ü" * 600))
    assert check(worker.counts()) == Counts(6, 0, {"full": 2, "too_large": 1}, 3)
    sink.gate.set()
    assert worker.flush(LONG)
    worker.emit(event(6, text="x" * 900))  # what is delivered takes no place
    assert worker.close(LONG)
    assert sink.uids == ["uid:0", "uid:3", "uid:4", "uid:6"]
    assert check(worker.counts()) == Counts(7, 4, {"full": 2, "too_large": 1}, 0)


def test_the_bounds() -> None:
    """The bounds are those of promise P8, and those of the settings."""
    from runnable_otel import backlog

    assert (backlog.LIMIT, backlog.LIMIT_BYTES, backlog.BATCH) == (2048, 8 * 1024 * 1024, 512)


def test_no_event(workers: list[Worker]) -> None:
    """What is not JSON is counted, not raised; a meter that raises is nobody's problem either."""

    def on_drop(reason: str) -> None:
        reasons.append(reason)
        raise RuntimeError(reason)

    reasons: list[str] = []
    sink = Recorder()
    workers.append(worker := Worker(sink, on_drop=on_drop))
    worker.emit(event(1, value=object()))
    worker.emit(event(2, value=float("nan")))
    worker.emit(event(3, value="\ud800"))
    assert worker.close(LONG)
    assert check(worker.counts()) == Counts(3, 1, {"not_json": 2}, 0)
    assert reasons == ["Recorder.not_json"] * 2


def test_batches(workers: list[Worker]) -> None:
    """A sink that takes batches gets all that has gathered, at most 512 events and 1 MiB at once, in order."""
    sink = Batches(is_open=False)
    workers.append(worker := Worker(sink))
    worker.emit(event(0))
    assert sink.entered.wait(LONG)
    kinds = ("task_started", "chunk", "task_completed")
    for number in range(1, 1301):
        worker.emit(event(number, kinds[number % 3]))
    for number in range(1301, 1304):
        worker.emit(event(number, text="x" * 600_000))
    sink.gate.set()
    assert worker.close(LONG)
    assert sink.uids == [f"uid:{number}" for number in range(1304)]
    assert sink.sizes == [1, 512, 512, 277, 1, 1]
    assert check(worker.counts()) == Counts(1304, 1304, {}, 0)


def test_many_threads(workers: list[Worker]) -> None:
    """From many threads at once, with a queue that is too small, the counts add up to the last event."""
    sink = Recorder()
    workers.append(worker := Worker(sink, limit=5))
    threads = [
        threading.Thread(target=lambda first=first: [worker.emit(event(first + n)) for n in range(300)])
        for first in range(0, 2400, 300)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert worker.close(LONG)
    counts = check(worker.counts())
    assert counts.accepted == 2400
    assert counts.pending == 0
    assert counts.delivered == len(sink.uids) == len(set(sink.uids))


def test_close_twice(workers: list[Worker]) -> None:
    """Closing is idempotent, also without events; a sink that closes its own worker does not wait for itself."""
    sink = Recorder()
    workers.append(worker := Worker(sink))
    assert worker.flush(0)
    assert worker.close(LONG)
    assert worker.close(0)
    assert sink.closed.is_set()

    class ClosesItself(Recorder):
        def emit(self, event: Event) -> None:
            super().emit(event)
            assert not own.flush(LONG)
            assert not own.close(LONG)

    last = ClosesItself()
    workers.append(own := Worker(last))
    own.emit(event(1))
    assert last.closed.wait(LONG)
    assert own.close(LONG)
    assert check(own.counts()) == Counts(1, 1, {}, 0)


def test_hub() -> None:
    """A slow sink gets a worker when it is added, a fast one is called at once, and each is closed on removal."""

    class Fast(Recorder):
        slow = False

    slow, fast, hanging = Recorder(), Fast(), Recorder(is_open=False)
    hub = Hub()
    hub.add([slow, fast, hanging])
    hub.add([slow, fast])
    assert all(isinstance(sink, Sink) for sink in hub.sinks)
    assert [type(sink) for sink in hub.sinks] == [Recorder, Fast, Recorder]
    assert [worker.sink for worker in hub.workers] == [slow, hanging]
    hub.emit(event(1))
    assert fast.uids == ["uid:1"]
    assert not hub.flush(0)
    hub.remove([slow, fast], LONG)
    assert slow.uids == ["uid:1"]
    assert slow.closed.is_set()
    assert fast.closed.is_set()
    hanging.gate.set()
    assert hub.flush(LONG)
    hub.close(LONG)
    assert hanging.closed.is_set()
    assert hub.sinks == ()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # that is what is tried
def test_fork(workers: list[Worker]) -> None:
    """A forked child starts empty with a thread of its own, and the parent keeps each event that waits there."""
    sink = Recorder(is_open=False)
    workers.append(worker := Worker(sink))
    for number in range(3):
        worker.emit(event(number))
    assert sink.entered.wait(LONG)
    read, write = os.pipe()
    with worker._changed:  # as if another thread were in `emit` just then
        pid = os.fork()
    if pid == 0:
        try:
            before = worker.counts()
            sink.gate = threading.Event()
            sink.gate.set()
            worker.emit(event(99))
            done = worker.flush(LONG)
            os.write(write, json.dumps([before.accepted, done, sink.uids, worker.counts().delivered]).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        assert json.loads(pipe.read()) == [0, True, ["uid:99"], 1]
    os.waitpid(pid, 0)
    sink.gate.set()
    assert worker.close(LONG)
    assert sink.uids == ["uid:0", "uid:1", "uid:2"]
    assert check(worker.counts()) == Counts(3, 3, {}, 0)


SINK = """
import threading
class Hangs:
    slow = True
    def __init__(self, url): pass
    def emit(self, event): threading.Event().wait()
    def close(self): pass
class Raises(Hangs):
    def emit(self, event): raise SystemExit(9)
class Sleepy(Hangs):
    def emit(self, event):
        threading.Event().wait(0.2)
        with open("sleepy", "a") as file:
            file.write(event.uid + "\\n")
class Rude(Hangs):
    slow = False
    def emit(self, event): raise RuntimeError("no")
"""


@pytest.fixture(scope="module")
def third_parties(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example package, installed by pip, and another one whose import fails."""
    folder = tmp_path_factory.mktemp("site")
    import shutil
    import subprocess

    source = tmp_path_factory.mktemp("source") / "sink-package"
    shutil.copytree(ROOT / "examples" / "sink-package", source)
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-index", "--no-build-isolation")
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", folder, source], check=True)
    (folder / "hostile_sinks.py").write_text(SINK)
    metadata = folder / "hostile-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: hostile\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[runnable_otel_sink]\nbroken = no_such_module:Sink\n"
        "hangs = hostile_sinks:Hangs\nraises = hostile_sinks:Raises\n"
        "sleepy = hostile_sinks:Sleepy\nrude = hostile_sinks:Rude\n"
    )
    return folder


def warnings_of(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if "sink" in line.lower() or "lost" in line]


def test_a_package_of_a_third_party(project: Project, third_parties: Path) -> None:
    """A package that is installed adds a scheme; one whose import fails costs one line, and the others work."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(LONG)
        done = project.pipeline(
            "python",
            QUEUE="1",
            PYTHONPATH=str(third_parties),
            RUNNABLE_OTEL_SINKS=f"broken:x,udp://127.0.0.1:{listener.getsockname()[1]},file:events.jsonl",
        )
        queued = queue_of(done.stdout)
        assert [json.loads(listener.recv(65536)) for _ in queued] == queued
    in_file = [json.loads(line) for line in (project.folder / "events.jsonl").read_text().splitlines()]
    assert in_file == queued
    (line,) = warnings_of(done.stderr)
    assert "broken:x" in line
    assert "no_such_module" in line


def queue_of(stdout: str) -> list[dict[str, Any]]:
    line = next(line for line in stdout.splitlines() if line.startswith("EVENTS "))
    return json.loads(line.removeprefix("EVENTS "))


HEAVY = ["fails", "shell_fails", "notebook", "notebook_fails", "mapped", "async_sequence", "async_fails", "job_fails"]
FAULTY = [("python", ""), ("exits", ""), *(pytest.param(name, "", marks=pytest.mark.live) for name in HEAVY)]
FAULTY += [pytest.param("mapped", "pool.yaml", marks=pytest.mark.live)]
HOSTILE = "hangs:,raises:,sleepy:,rude:,file:events.jsonl"


@pytest.mark.parametrize(("name", "configuration"), FAULTY)
def test_hostile_sinks(project: Project, third_parties: Path, name: str, configuration: str) -> None:
    """With sinks that hang, raise and are slow, and an endpoint that is down, the run is as without them.

    What each sink lost is said, to the event.
    """
    plain = project.pipeline(name, check=False, CONFIGURATION=configuration)
    mine = Project(project.folder / "again")
    address = f"127.0.0.1:{free_port()}"
    done = mine.pipeline(
        name,
        check=False,
        PYTHONPATH=str(third_parties),
        RUNNABLE_OTEL_SINKS=f"{HOSTILE},otlp:http://{address}",
        RUNNABLE_OTEL_EXIT_TIMEOUT="0.5",
        CONFIGURATION=configuration,
    )
    assert done.returncode == plain.returncode
    if not configuration:  # the processes of a pool write in any order
        assert without(done.stdout, mine.folder) == without(plain.stdout, project.folder)
    assert results(mine.folder) == results(project.folder)
    events = [json.loads(line) for line in (mine.folder / "events.jsonl").read_text().splitlines()]
    assert events[-1]["type"] == "pipeline_completed"
    lines = warnings_of(done.stderr)
    number = len(events)
    lost = dict(re.findall(rf"(?:(?<=^)|(?<= ))\d+ of {number} events to (\S+) lost \((.*?)\)(?:[,;.]|$)", lines[-1]))
    assert {*lost, "Sleepy"} == {"Hangs", "Raises", "Sleepy", address}, lines
    assert lost["Hangs"] == f"timeout {number}"
    assert lost["Raises"] == f"failed {number}; last error: SystemExit: 9"
    assert lost[address] == f"unavailable {number}; last error: connection refused"
    missing = int(re.sub(r"\D+", "", lost.get("Sleepy", "0")))
    delivered = (mine.folder / "sleepy").read_text().splitlines()
    assert missing + len(delivered) in (number - 1, number)  # one is in its hand when the process ends
    assert delivered == [event["uid"] for event in events][: len(delivered)]
    assert len(lines) <= len(lost) + 1, "a line a minute each, and one at the end"
    assert [line for line in done.stderr.splitlines() if "Rude" in line] == [
        "Rude took no event (RuntimeError); 1 dropped so far"
    ]


def results(folder: Path) -> list[tuple[str, Any]]:
    """What the run log says came of each attempt."""
    (log,) = run_logs(folder)
    if log.get("job"):
        return [("job", [(each["status"], each["output_parameters"]) for each in log["job"]["attempts"]])]
    return [(log["status"], None), *((each.step, (each.success, each.outputs)) for each in attempts(log["steps"]))]


COUNTED = """
import json, os, runpy, sys
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
runpy.run_path(os.path.abspath("pipelines.py"), run_name="__main__")
from runnable_otel.telemetry import TELEMETRY
for worker in TELEMETRY.hub.workers:
    assert worker.flush(60)
found = {}
for resource in json.loads(reader.get_metrics_data().to_json())["resource_metrics"]:
    for metric in (each for scope in resource["scope_metrics"] for each in scope["metrics"]):
        if metric["name"] == "runnable.otel.dropped":
            for point in metric["data"]["data_points"]:
                found[next(iter(point["attributes"].values()))] = point["value"]
print("DROPPED", json.dumps(found))
"""


def test_the_metric_of_what_is_dropped(project: Project, third_parties: Path) -> None:
    """`runnable.otel.dropped` counts what each sink and the caller's queue did not take, to the event."""
    done = project.script(
        COUNTED,
        PIPELINE="python",
        QUEUE="1",
        QUEUE_SIZE="2",
        PYTHONPATH=str(third_parties),
        RUNNABLE_OTEL_SINKS="raises:,rude:,file:events.jsonl",
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("DROPPED "))
    assert json.loads(line.removeprefix("DROPPED ")) == {"queue": 6, "Raises.failed": 8, "Rude": 8}


ORDER = """
import runnable_otel
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

class Says(SpanProcessor):
    def shutdown(self):
        print("END provider", flush=True)

class Counts:
    slow = True
    seen = 0
    def emit(self, event):
        self.seen += 1
    def close(self):
        print("END sink", self.seen, flush=True)

runnable_otel.configure(sinks=[Counts()])
provider = TracerProvider()
provider.add_span_processor(Says())
trace.set_tracer_provider(provider)
import pipelines
pipelines.main()
"""


def test_the_end_of_the_process(project: Project) -> None:
    """At the end of a process slow sinks get what is left and are closed, before the SDK's own handler has its turn."""
    (project.folder / "order.py").write_text(ORDER)
    done = project.command(project.python, "order.py", PIPELINE="python")
    assert [line for line in done.stdout.splitlines() if line.startswith("END")] == ["END sink 8", "END provider"]


def test_the_token_is_not_handed_to_tasks() -> None:
    """The token's variable has no prefix that runnable copies into shell tasks."""
    assert not OTEL_RUNNABLE_SINK_TOKEN.startswith("RUNNABLE_")


def test_force_flush() -> None:
    """`provider.force_flush()` waits for the events too, and shutting the provider down closes the sinks."""
    from opentelemetry.sdk.trace import TracerProvider

    from runnable_otel import RunnableSpanProcessor
    from runnable_otel.hooks import switch_off
    from runnable_otel.telemetry import TELEMETRY

    sink = Recorder()
    provider = TracerProvider(shutdown_on_exit=False)
    try:
        provider.add_span_processor(RunnableSpanProcessor(sinks=[sink]))
        TELEMETRY.hub.emit(event(1))
        assert provider.force_flush()
        assert sink.uids == ["uid:1"]
        assert not sink.closed.is_set()
        provider.shutdown()
        assert sink.closed.is_set()
        assert sink not in TELEMETRY.hub.sinks
    finally:
        switch_off()
