"""`runnable-otel watch -- COMMAND`: the command as it is alone, and what is shown of its runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.project import Project, environment
from support.runlog import attempts, run_logs
from support.waiting import wait_until
from support.watch import COMMAND, PYTHON, piped, terminal, timeless, variables

NO_RUN = "runnable-otel watch: no run was seen"
PIPELINES = [PYTHON, "pipelines.py"]

# --- the command's own


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("exit 0", 0),
        ("exit 3", 3),
        ("exit 255", 255),
        ("kill -KILL $$", -signal.SIGKILL),
        ("kill -TERM $$", -signal.SIGTERM),
        ("kill -INT $$", -signal.SIGINT),
    ],
)
@pytest.mark.parametrize("on_terminal", [False, True])
def test_exit_status(tmp_path: Path, command: str, code: int, on_terminal: bool) -> None:
    """The exit status is the command's own, that of a signal too, and only that there was no run is said."""
    words = ("--", "sh", "-c", command)
    if on_terminal:
        with terminal(tmp_path, *words) as shown:
            assert (shown.wait(), shown.screen) == (code, [NO_RUN])
    else:
        seen = piped(tmp_path, *words)
        assert (seen.returncode, seen.stdout, seen.stderr) == (code, "", f"{NO_RUN}\n")


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [("./none", 127, "./none: command not found"), (".", 126, ".: Permission denied")],
)
def test_no_command(tmp_path: Path, name: str, code: int, said: str) -> None:
    """What can't be run is said as a shell says it."""
    seen = piped(tmp_path, "--", name)
    assert (seen.returncode, seen.stdout, seen.stderr) == (code, "", f"runnable-otel watch: {said}\n")


def test_the_output_in_a_pipe(tmp_path: Path) -> None:
    """Standard output and error pass byte by byte, whatever is in them, and nothing stands between."""
    wrote = bytes(range(256)) + b"\x1b[31mred\r\n"
    (tmp_path / "wrote").write_bytes(wrote)
    done = subprocess.run(
        [*COMMAND, "--", "sh", "-c", "cat; cat wrote >&2"],
        cwd=tmp_path,
        env=variables(tmp_path),
        input=wrote,
        capture_output=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == (wrote, wrote + f"{NO_RUN}\n".encode())


def outcome(folder: Path, *before: str, name: str, **more: str) -> tuple[Any, ...]:
    """What there is of a run after it, without what is another each time."""
    shutil.rmtree(folder, ignore_errors=True)
    project = Project(folder)
    done = subprocess.run(
        [*before, *PIPELINES],
        cwd=folder,
        env=environment(folder, PIPELINE=name, **more),
        capture_output=True,
        text=True,
    )
    log = [(each.step, each.branch, each.number, each.success, each.inputs, each.outputs)
           for found in run_logs(project.folder) for each in attempts(found["steps"])]  # fmt: skip
    ids = [found["run_id"] for found in run_logs(project.folder)]
    out = re.sub(r"\[\d\d:\d\d:\d\d\]", "", done.stdout)
    for each in ids:
        out = out.replace(each, "RUN")
    files = sorted(str(path.relative_to(folder)) for path in folder.iterdir())
    return done.returncode, re.sub(r"\s+", "", out), log, files, done.stderr


@pytest.mark.parametrize("name", ["small", "shell_fails"])
def test_the_command_is_not_changed(tmp_path: Path, name: str) -> None:
    """Exit code, output, run log and files are those of the same command alone; its own messages are all there."""
    alone = outcome(tmp_path / "work", name=name)
    watched = outcome(tmp_path / "work", *COMMAND, "--", name=name)
    assert alone[2]
    assert watched[:3] == alone[:3]
    assert [file for file in watched[3] if file != "state"] == [file for file in alone[3] if file != "state"]
    others = [line for line in watched[4].splitlines() if not re.match(r"\d\d:\d\d:\d\d (task|pipeline):", line)]
    assert others == alone[4].splitlines()


def test_sinks_of_the_user(project: Project) -> None:
    """What the user's own variables ask for happens as well, and our own file is gone at the end."""
    seen = piped(project.folder, "--", *PIPELINES, PIPELINE="named", RUNNABLE_OTEL_SINKS="file:mine.jsonl", TMPDIR=".")
    assert seen.returncode == 0
    events = [json.loads(line) for line in (project.folder / "mine.jsonl").read_text().splitlines()]
    assert [event["type"] for event in events] == [
        "pipeline_started", "task_started", "task_completed", "pipeline_completed",
    ]  # fmt: skip
    assert list(project.folder.glob("runnable-otel-watch-*")) == []


# --- where there is no terminal


def lines(stderr: str) -> list[str]:
    told = [line for line in stderr.splitlines() if re.match(r"\d\d:\d\d:\d\d (task|pipeline):", line)]
    return [re.sub(r"\([a-z]+-[a-z]+-\d{4}\)", "(RUN)", line) for line in timeless(told)]


def test_lines(project: Project) -> None:
    """Each start and end is a line on standard error: step, inputs, outputs, the error; no terminal sequence in it."""
    seen = piped(project.folder, "--", *PIPELINES, PIPELINE="slow_fails")
    assert seen.returncode == 0  # that pipeline's own
    assert "\x1b" not in seen.stderr
    assert NO_RUN not in seen.stderr
    told = [re.sub(r"\d\.\d+", "N", line) for line in lines(seen.stderr)]
    assert told == [
        "pipeline:slow (RUN) started",
        "task:tasks.slow started {}",
        'task:tasks.slow completed {"slow": N}',
        'task:tasks.slower started {"slow": N}',
        'task:tasks.slower completed {"slower": N}',
        'task:tasks.kaput started {"slow": N, "slower": N}',
        "task:tasks.kaput failed ValueError: kaput",
        "pipeline:slow (RUN) failed ValueError: kaput",
    ]


@pytest.mark.parametrize(("option", "more"), [("", {"TERM": "dumb"}), ("", {"CI": "true"}), ("--lines", {})])
def test_a_terminal_without_drawing(project: Project, option: str, more: dict[str, str]) -> None:
    """A terminal that can't do more, a CI's log and who asks for it get lines too: no cursor is moved."""
    words = [word for word in (option, "--", "sh", "-c", f"{PYTHON} pipelines.py >out 2>&1 3>&-; echo done") if word]
    with terminal(project.folder, *words, PIPELINE="small", **more) as shown:
        assert shown.wait() == 0
    assert b"\x1b" not in shown.raw
    assert shown.screen[-1] == "done"
    assert [line for line in lines("\n".join(shown.screen)) if "both" in line] == [
        "task:tasks.give (both.left.give) started {}",
        'task:tasks.give (both.left.give) completed {"l": 10}',
        "task:tasks.give (both.right.give) started {}",
        'task:tasks.give (both.right.give) completed {"r": 10}',
    ]


def test_nobody_reads(project: Project) -> None:
    """Where what we say can't be written any more, the command goes on, and its exit code is ours."""
    reader, writer = os.pipe()
    os.close(reader)
    script = f"{PYTHON} pipelines.py >out 2>&1; exit 5"
    done = subprocess.run(
        [*COMMAND, "--", "sh", "-c", script], cwd=project.folder, env=variables(project.folder, PIPELINE="named"),
        stdout=subprocess.DEVNULL, stderr=writer,
    )  # fmt: skip
    os.close(writer)
    assert done.returncode == 5
    assert len(run_logs(project.folder)) == 1


# --- on a terminal


def test_the_tree(project: Project) -> None:
    """The tree stands below what the command writes while it runs, and stays there at the end; no line is lost."""
    with terminal(project.folder, "--", *PIPELINES, PIPELINE="slow_fails") as shown:
        shown.until("task:tasks.slower")
        assert timeless(shown.screen)[-8:] == [
            "pipeline:slow",
            "├── task:tasks.slow",
            "│   ├── inputs: {}",
            re.sub(r".*(outputs)", r"│   └── \1", next(line for line in shown.screen if "outputs" in line)),
            "├── task:tasks.slower",
            next(line for line in shown.screen if 'inputs: {"slow' in line),
            "└── kaput",
            "1 running, 1 completed, 1 waiting",
        ]
        assert shown.wait() == 0
    tree = shown.screen[shown.screen.index("raised ExecutionFailedError") + 1 :]
    assert [re.sub(r"\d\.\d+", "N", line) for line in timeless(tree)] == [
        "pipeline:slow",
        "├── task:tasks.slow",
        "│   ├── inputs: {}",
        '│   └── outputs: {"slow": N}',
        "├── task:tasks.slower",
        '│   ├── inputs: {"slow": N}',
        '│   └── outputs: {"slower": N}',
        "└── task:tasks.kaput",
        '    ├── inputs: {"slow": N, "slower": N}',
        "    └── status: ValueError: kaput",
    ]
    assert shown.cursor == (0, len(shown.screen))
    assert sum("pipeline:slow" in line for line in shown.scrolled) == 1
    assert sum("Execution failed for run id" in line for line in shown.scrolled) == 1


def test_colours(project: Project) -> None:
    """A failed task and its error are red, and NO_COLOR is obeyed."""
    for more, expected in (({}, {"red"}), ({"NO_COLOR": "1"}, {"default"})):
        script = f"{PYTHON} pipelines.py >out 2>&1"
        with terminal(project.folder, "--", "sh", "-c", script, PIPELINE="fails", **more) as shown:
            assert shown.wait() == 0
        cause = next(number for number, line in enumerate(shown.screen) if line.endswith("status: ValueError: kaput"))
        assert shown.colours(cause) | {"default"} == expected | {"default"}
        assert shown.colours(cause) >= expected


def test_the_terminal_is_the_commands_too(tmp_path: Path) -> None:
    """It reads keys, sees a terminal of the same size on each descriptor, and hears of another size."""
    script = (
        "import os, signal, time; print(input('name? '), [os.isatty(n) for n in range(3)])\n"
        "print(tuple(os.get_terminal_size(1)), end=' ', flush=True)\n"
        "while os.get_terminal_size(2).columns == 70: time.sleep(0.01)\nprint(tuple(os.get_terminal_size(1)))"
    )
    with terminal(tmp_path, "--", PYTHON, "-c", script, columns=70, rows=20) as shown:
        shown.until("name?")
        shown.press("watcher\n")
        shown.until("(70, 20)")
        shown.resize(50, 20)
        assert shown.wait() == 0
    assert shown.screen == ["name? watcher", "watcher [True, True, True]", "(70, 20) (50, 20)", NO_RUN]


def test_only_one_stream_on_the_terminal(project: Project) -> None:
    """With its output in a file, the file holds what the command wrote, and the terminal the tree."""
    with (project.folder / "out").open("w") as file:
        streams = {"stdout": file}
        with terminal(project.folder, "--", *PIPELINES, PIPELINE="named", streams=streams) as shown:
            assert shown.wait() == 0
    out = (project.folder / "out").read_text()
    assert "Pipeline executed successfully!" in out
    assert "\x1b" not in out
    assert timeless(shown.screen)[-4:-2] == ["pipeline:my pipeline", "└── task:tasks.give"]


INTERRUPTED = """
import os, signal, sys
heard = os.open("heard", os.O_WRONLY | os.O_CREAT)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: os.write(heard, b"%d " % number))
print("ready", flush=True)
sys.stdin.readline()
sys.exit(7)
"""


def test_signals(tmp_path: Path) -> None:
    """Ctrl-C reaches the command once, and it is the command that answers; SIGTERM is passed on to it."""
    heard = tmp_path / "heard"
    with terminal(tmp_path, "--", PYTHON, "-c", INTERRUPTED) as shown:
        shown.until("ready")
        # The watcher stands still meanwhile: two signals at once would be one.
        shown.process.send_signal(signal.SIGSTOP)
        shown.press("\x03")
        wait_until(lambda: heard.read_text() == f"{int(signal.SIGINT)} ")
        shown.process.send_signal(signal.SIGCONT)
        shown.process.terminate()
        wait_until(lambda: f"{int(signal.SIGTERM)} " in heard.read_text())
        shown.press("\n")
        assert shown.wait() == 7
    assert [int(number) for number in heard.read_text().split()] == [signal.SIGINT, signal.SIGTERM]


def test_ctrl_c_in_a_run(project: Project) -> None:
    """What Ctrl-C ended shows as cancelled, in yellow, and the rest as not run; the exit status is the signal's."""
    script = f"exec {PYTHON} pipelines.py >out 2>&1"
    with terminal(project.folder, "--", "sh", "-c", script, PIPELINE="slow_fails") as shown:
        shown.until("task:tasks.slower")
        shown.press("\x03")
        assert shown.wait() == -signal.SIGINT
    assert [line for line in timeless(shown.screen) if "puts" not in line] == [
        "pipeline:slow",
        "├── task:tasks.slow",
        "├── task:tasks.slower",
        "│   └── status: cancelled",
        "└── kaput",
    ]
    assert "[not run]" in shown.screen[-1]
    assert "brown" in shown.colours(next(row for row, line in enumerate(shown.screen) if "cancelled" in line))
