"""`RUNNABLE_OTEL_LOGS`: what a task writes, as `task_log` events; nothing that the user sees is different for it."""

from __future__ import annotations

import ast
import itertools
import json
import os
import re
import subprocess
import threading
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runnable_otel import output
from runnable_otel.output import LINE, RECORD, Copy, Lines, Output, before
from runnable_otel.redact import MASK, Redactor
from support.project import Project, environment
from support.receiver import Receiver
from support.waiting import LONG, wait_until
from test_bad_input import normal, without
from test_events import queued

KEY = "AKIAIOSFODNN7EXAMPLE"


def lines(redactor: Redactor | None = None) -> Lines:
    redactor = redactor or Redactor()
    return Lines(lambda: redactor)


def test_whole_lines() -> None:
    """A line leaves when it has its end, since half of one may hold half of a secret; at the task's end, all does."""
    each = lines()
    assert not each.add("pass")
    assert each.take() == ""
    assert each.add("word=hunter22\nnext")
    assert each.take() == f"password={MASK}"
    each.end()
    assert each.take() == "next"
    assert each.take() == ""


def test_progress_bars() -> None:
    """Of a line that is written over and over, what stands there last."""
    each = lines()
    for percent in range(101):
        each.add(f"\r{percent} %")
    each.add("\nwindows\r\n")
    assert each.take() == "100 %\nwindows"
    for _ in range(10_000):
        each.add("\r[####      ] 40 %")
    assert len(each._part) <= LINE + output._AHEAD + 20
    each.end()
    assert each.take() == "[####      ] 40 %"


def test_the_newest_lines_stay() -> None:
    """Of more than a record holds the newest lines are kept, and it is said how many characters are not."""
    each = lines()
    written = [f"line {number}" for number in range(5000)]
    for line in written:
        each.add(f"{line}\n")
    first, *kept = each.take().split("\n")
    assert kept == written[-len(kept) :]
    assert sum(len(line) + 1 for line in kept) in range(RECORD - 20, RECORD + 1)
    left_out = sum(len(line) + 1 for line in written[: -len(kept)])
    assert first == f"… {left_out} characters left out"


@pytest.mark.parametrize("text", ["x" * 100_000_000, "line\n" * 20_000_000, "\n" * 100_000_000, "ü\r" * 50_000_000])
def test_a_large_text_costs_no_more(text: str) -> None:
    """100 MB at once take some KiB, and what is left out is counted to the character."""
    each = lines()
    tracemalloc.start()
    try:
        each.add(text)
        each.end()
        shown = each.take()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 400_000
    assert len(shown) < RECORD + 50
    left_out = re.match(r"… (\d+) characters left out\n", shown)
    assert left_out
    assert int(left_out[1]) > 0.99 * len(text)


@pytest.mark.parametrize("at", [LINE - 30, LINE - 10, LINE - 3, LINE, RECORD - 10, RECORD])
def test_a_secret_at_a_cut(at: int) -> None:
    """No half of a secret is left by any cut: of a line, or of a record."""
    for text in (f"{'x ' * (at // 2)}{KEY} {'y ' * LINE}\n", f"{'x' * at}\n{KEY}\n{'y' * (RECORD - at % 50)}"):
        each = lines()
        each.add(text)
        each.end()
        assert "AKIA" not in each.take()


def test_a_private_key() -> None:
    """A private key that is written line by line is masked whole, however often a record leaves meanwhile."""
    each = lines()
    body = [f"{'MIIEowIBAAKCAQEA' * 4}" for _ in range(30)]
    said: list[str] = []
    for line in ("before", "key: -----BEGIN RSA PRIVATE KEY-----", *body, "-----END RSA PRIVATE KEY-----", "after"):
        each.add(f"{line}\n")
        said.append(each.take())
    assert [text for text in said if text] == ["before", f"key: {MASK}", "after"]
    each.add("-----BEGIN RSA PRIVATE KEY-----\n")
    for number in range(2000):
        each.add(f"no key at all {number}\n")
    assert "no key at all 1999" in each.take(), "one that never ends ends"


def test_what_the_run_learns() -> None:
    """A value that the secrets manager handed out is masked, also if it did so after the task began."""
    known = [Redactor()]
    each = Lines(lambda: known[0])
    each.add("it is swordfish-9\n")
    known[0] = known[0].with_secrets(["swordfish-9"])
    assert each.take() == f"it is {MASK}"


class Sent:
    """What an output has sent."""

    def __init__(self, **options: Any) -> None:
        self.records: list[tuple[str, str]] = []
        self.output = Output(lambda *record: self.records.append(record), Redactor, **options)


@pytest.fixture
def sent() -> Iterator[Sent]:
    sent = Sent()
    yield sent
    sent.output.close()


def test_soon_and_seldom(sent: Sent) -> None:
    """The first line leaves at once, what follows a quarter of a second later, in one record for each stream."""
    for number in range(1000):
        sent.output.write("stdout", f"{number}\n")
        sent.output.write("stderr", f"e{number}\n")
    assert sent.records[0] == ("stdout", "0")
    wait_until(lambda: sum(text.count("\n") + 1 for _, text in sent.records) == 2000)
    assert [line for name, text in sent.records if name == "stdout" for line in text.split("\n")] == [
        str(number) for number in range(1000)
    ]
    assert len(sent.records) < 100


def test_so_much_and_no_more(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a megabyte a task's output is held back, but for its last record."""
    monkeypatch.setattr(output, "SECONDS", 0.0)
    for number in range(2000):
        sent.output.write("stdout", f"{number} {'x' * 1990}\n")
    assert output.TASK <= sum(len(text) for _, text in sent.records) < output.TASK + RECORD
    before_the_end = len(sent.records)
    sent.output.close()
    ((_, text),) = sent.records[before_the_end:]
    assert text.startswith("… ")
    assert text.split("\n")[-1].startswith("1999 ")
    sent.output.write("stdout", "more\n")
    assert len(sent.records) == before_the_end + 1


def test_on_its_own_thread_only() -> None:
    """Where the receiver belongs to a thread, such as an asyncio.Queue, nothing is sent on another."""
    threads: set[int] = set()
    one = Output(lambda *_: threads.add(threading.get_ident()), Redactor, one_thread=True)
    writer = threading.Thread(target=one.write, args=("stdout", "from elsewhere\n"))
    writer.start()
    writer.join()
    assert threads == set()
    one.write("stdout", "here\n")
    one.close()
    assert threads == {threading.get_ident()}


def test_a_receiver_that_writes() -> None:
    """What is written while a record is sent makes no other one, on whichever thread that is; nothing hangs."""
    stream = Copy(open(os.devnull, "w"), "stdout", lambda: one)  # noqa: SIM115

    def send(*record: str) -> None:
        records.append(record)
        stream.write("a sink says something\n")

    records: list[tuple[str, ...]] = []
    one = Output(send, Redactor)
    stream.write("first\n")
    stream.write("second\n")
    wait_until(lambda: len(records) == 2)
    one.close()
    stream.stream.close()
    assert records == [("stdout", "first"), ("stdout", "second")]


def test_a_receiver_that_raises() -> None:
    """What a receiver raises is nobody's."""

    def send(*_: str) -> None:
        raise RuntimeError("no")

    one = Output(send, Redactor)
    one.write("stdout", "first\n")
    one.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_forked_child(sent: Sent) -> None:
    """A child that the task forks writes on, though another thread of the parent was in here; it sends nothing."""
    with sent.output._lock:
        pid = os.fork()
    if pid == 0:
        sent.output.write("stdout", "of the child\n")
        sent.output.close()
        os._exit(len(sent.records))
    assert os.waitpid(pid, 0)[1] == 0


@given(st.text("abcd", max_size=12), st.text("abcd", max_size=6), st.lists(st.integers(0, 20), max_size=6))
def test_before_the_mark(head: str, tail: str, cuts: list[int]) -> None:
    """What comes before the mark is the same however the text is cut, and nothing after it is shown."""
    mark = "abcab"
    text = head + mark + tail
    bounds = sorted({0, *(cut for cut in cuts if cut < len(text)), len(text)})
    pieces = [text[start:end] for start, end in itertools.pairwise(bounds)]
    assert "".join(before(mark, iter(pieces))) == text[: text.find(mark)]
    assert "".join(before("no mark", iter(pieces))) == text


def logs_of(events: list[dict[str, Any]]) -> dict[tuple[str, str], list[str]]:
    """Lines by step and stream, in their order."""
    found: dict[tuple[str, str], list[str]] = {}
    for event in events:
        if event["type"] == "task_log":
            found.setdefault((event["step"], event["stream"]), []).extend(event["text"].split("\n"))
    return found


def of_file(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


SAID = {
    ("python", "stdout"): [
        *("hello world", "100 %", "from a thread", f"password={MASK}", "without an end"),
    ],
    ("python", "stderr"): ["to stderr"],
    ("shell", "stdout"): ["one"],
    ("shell", "stderr"): ["two"],
    ("notebook", "stdout"): ["", "in a cell"],
    ("notebook", "stderr"): ["stderr of a cell"],
    ("fails", "stdout"): ["before the failure"],
}


def test_what_tasks_write(project: Project) -> None:
    """What python, shell and notebook tasks write is at the queue and in the file, inside of their start and end.

    What the user sees, the exit code and runnable's own log files are as without.
    """
    plain = project.pipeline("talks", check=False)
    mine = Project(project.folder / "mine")
    done = mine.pipeline(
        "talks", check=False, QUEUE="1", RUNNABLE_OTEL_SINKS="file:events.jsonl", RUNNABLE_OTEL_LOGS="true"
    )
    events = queued(done)
    assert of_file(mine.folder) == events
    found = logs_of(events)
    assert {key: [line for line in found[key] if "WARNING" not in line] for key in found} == SAID
    assert "WARNING:mine:logged" in found["python", "stdout"] + found["python", "stderr"]
    for step in {step for step, _ in SAID}:
        kinds = [event["type"] for event in events if event.get("step") == step]
        assert kinds[0] == "task_started"
        assert set(kinds[1:-1]) == {"task_log"}
        assert kinds[-1] in ("task_completed", "task_error")
    assert [event["time"] for event in events] == sorted(event["time"] for event in events)
    assert done.returncode == plain.returncode
    assert normal(done.stderr) == normal(plain.stderr)
    shown = "".join(line for line in done.stdout.splitlines(keepends=True) if not line.startswith("EVENTS "))
    assert without(shown, mine.folder) == without(plain.stdout, project.folder)
    assert files(mine.folder) == files(project.folder)


def files(folder: Path) -> list[tuple[str, str]]:
    """The names and texts of runnable's own log files, without what differs between two runs."""
    found = [
        (file.name.removesuffix(".execution.log")[:-3], without(file.read_text(), folder))
        for file in folder.glob(".catalog/*/*.execution.log")
    ]
    assert found
    return sorted(found)


def test_off_by_default(project: Project) -> None:
    """Unless it is asked for, nothing that a task writes leaves."""
    project.pipeline("talks", check=False, RUNNABLE_OTEL_SINKS="file:events.jsonl")
    assert logs_of(of_file(project.folder)) == {}


@pytest.mark.parametrize("step", ["python", "shell"])
def test_while_the_task_is_silent(project: Project, step: str) -> None:
    """The last line of a burst is there while the task waits, though it writes no more."""
    variables = {"RUNNABLE_OTEL_SINKS": "file:events.jsonl", "RUNNABLE_OTEL_LOGS": "true"}
    with waiting(project, PIPELINE=f"{step}_waits", **variables) as process:

        def seen() -> list[str]:
            file = project.folder / "events.jsonl"
            whole = file.read_text().rpartition("\n")[0].splitlines() if file.exists() else []
            return logs_of([json.loads(line) for line in whole]).get((step, "stdout"), [])

        wait_until(lambda: seen()[-1:] == ["line 4"])
        assert process.poll() is None
        (project.folder / "gate").touch()
        assert process.wait(LONG) == 0
    assert seen() == [f"line {number}" for number in range(5)]


@contextmanager
def waiting(project: Project, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [project.python, "pipelines.py"],
        cwd=project.folder,
        env=environment(project.folder, **variables),
        stdout=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("start", ["", "fork", "spawn"])
def test_branches(project: Project, start: str) -> None:
    """What branches write is theirs, in the processes of a pool too; nothing that runnable dumps is among it."""
    pool = {"START_METHOD": start, "CONFIGURATION": "pool.yaml"} if start else {}
    project.pipeline("mapped_talks", RUNNABLE_OTEL_SINKS="file:events.jsonl", RUNNABLE_OTEL_LOGS="true", **pool)
    events = of_file(project.folder)
    assert logs_of(events) == {(f"each.{chunk}.work", "stdout"): [f"chunk {chunk}"] for chunk in (1, 2, 3)}
    assert max(Counter(event["uid"] for event in events).values()) == 1


IN_TURNS = """
import asyncio
from runnable import AsyncPipeline, AsyncPythonTask
from runnable_otel import run_pipeline

at = []

async def both(number):
    at.append(number)
    while at.count(number) < 2:
        await asyncio.sleep(0.001)

async def talk(who: str) -> str:
    await both("begun")
    for number in range(3):
        print(who, number)
        await both(number)
    return who

async def main():
    task = AsyncPythonTask(name="talk", function=talk, returns=["said"])
    runs = [run_pipeline(AsyncPipeline(steps=[task]), parameters={"who": who}) for who in ("left", "right")]
    for run in runs:
        events = [event async for event in run]
        print("SAID", [event["text"] for event in events if event["type"] == "task_log"])

if __name__ == "__main__":
    import in_turns
    asyncio.run(in_turns.main())
"""


def test_tasks_that_write_in_turns(project: Project) -> None:
    """Of two tasks that run at once each has its own lines, once, though there is but one `sys.stdout`."""
    (project.folder / "in_turns.py").write_text(IN_TURNS)
    done = project.command(project.python, "in_turns.py", RUNNABLE_OTEL_LOGS="true")
    said = [" ".join(ast.literal_eval(line[5:])) for line in done.stdout.splitlines() if line.startswith("SAID ")]
    assert [line.split() for line in said] == [f"{who} 0 {who} 1 {who} 2".split() for who in ("left", "right")]


def test_a_task_that_never_stops_talking(project: Project) -> None:
    """Of 3 MB in a moment little leaves: the first line, the last one, and how much there was."""
    project.pipeline("talks_on_and_on", RUNNABLE_OTEL_SINKS="file:events.jsonl", RUNNABLE_OTEL_LOGS="true")
    said = logs_of(of_file(project.folder))["python", "stdout"]
    shown = [line for line in said if not line.startswith("… ")]
    assert shown[0].startswith("line 0:")
    assert shown[-1].startswith("line 2999:")
    left_out = sum(int(line.split()[1]) for line in said if line.startswith("… "))
    assert left_out + sum(len(line) + 1 for line in shown) == sum(len(f"line {n}: ") + 991 for n in range(3000))


def only_logs(receiver: Receiver) -> list[str]:
    return [log.name for log in receiver.logs if log.name != "runnable.sign_of_life"]


def test_with_an_endpoint_alone(project: Project, receiver: Receiver) -> None:
    """With an OTLP endpoint and no sink, what tasks write arrives there as log records in their spans, and no event."""
    project.pipeline("mapped_talks", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc, RUNNABLE_OTEL_LOGS="true")
    assert only_logs(receiver) == ["runnable.task_log"] * 3
    tasks = {span.span: span for span in receiver.spans if span.name == "task:tasks.talk_of"}
    for log in receiver.logs:
        event = json.loads(log.body)
        step = tasks[log.span].attributes["runnable.step.name"]
        assert (event["step"], event["text"]) == (step, f"chunk {step.split('.')[1]}")
        assert log.attributes["uid"] == event["uid"]
        assert log.resource == tasks[log.span].resource


@pytest.mark.parametrize(
    ("variables", "kinds"),
    [
        ({"RUNNABLE_OTEL_SINKS": "otlp:"}, {"pipeline_started", "task_started", "task_completed", "task_log"}),
        ({"OTEL_LOGS_EXPORTER": "none"}, set()),
        ({"RUNNABLE_OTEL_LOGS": "false"}, set()),
        ({"OTEL_SDK_DISABLED": "true"}, set()),
    ],
    ids=str,
)
def test_once_or_not_at_all(project: Project, receiver: Receiver, variables: dict[str, str], kinds: set[str]) -> None:
    """Where `otlp:` sends all events the log is one of them, and no second one; switches of OpenTelemetry's hold."""
    project.pipeline(
        "mapped_talks", **{"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc, "RUNNABLE_OTEL_LOGS": "true", **variables}
    )
    names = Counter(only_logs(receiver))
    assert set(names) == ({f"runnable.{kind}" for kind in (*kinds, "pipeline_completed")} if kinds else set())
    assert names["runnable.task_log"] == (3 if kinds else 0)
