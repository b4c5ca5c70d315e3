"""The command `runnable-otel`, and `runnable-otel run -- COMMAND`, as real processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest

import runnable_otel
from runnable_otel.cli import COMMANDS
from support.project import Project, environment
from support.receiver import Receiver

SCRIPT = Path(sysconfig.get_path("scripts")) / "runnable-otel"
SHOW_ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"
WATCHES = "any(type(finder).__name__ == 'RunnableFinder' for finder in sys.meta_path)"


def run(
    folder: Path, *arguments: str | Path, python: str | Path = sys.executable, cwd: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """`python -m runnable_otel` with these arguments, in a bare environment."""
    command = [python, "-m", "runnable_otel", *arguments]
    env = environment(folder, **variables)
    return subprocess.run(command, cwd=cwd or folder, env=env, capture_output=True, text=True, timeout=120, check=False)


def child_environment(folder: Path, *options: str, **variables: str) -> dict[str, Any]:
    """The environment that `run` gives to a command."""
    done = run(folder, "run", *options, "--", sys.executable, "-c", SHOW_ENVIRONMENT, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def bare_python(folder: Path, *path: Path) -> Path:
    """An interpreter of an environment with nothing in it; `path` is importable, with no start-up file read there."""
    venv.create(folder, with_pip=False, symlinks=True)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    (site_packages / "path.pth").write_text("".join(f"{each}\n" for each in path))
    return folder / "bin" / "python"


# --- the table of commands -------------------------------------------------------------------------------------------


def test_version(tmp_path: Path) -> None:
    """The installed command and `python -m runnable_otel` say the package's version."""
    said = f"runnable-otel {runnable_otel.__version__}\n"
    assert run(tmp_path, "--version").stdout == said
    assert subprocess.run([SCRIPT, "--version"], capture_output=True, text=True, check=True).stdout == said


def test_help(tmp_path: Path) -> None:
    """`--help` lists every command with what it does; without a command it goes to standard error, as a mistake."""
    done = run(tmp_path, "--help", COLUMNS="80")
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    for name, command in COMMANDS.items():
        assert f"  {name}" in done.stdout
        assert command.summary in done.stdout
    nothing = run(tmp_path, COLUMNS="80")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (2, "", done.stdout)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(tmp_path: Path, name: str) -> None:
    """Each command of the table has a help of its own, for a terminal of 80 columns."""
    done = run(tmp_path, name, "--help", COLUMNS="80")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stdout.startswith(f"usage: runnable-otel {name}")


@pytest.mark.parametrize(
    "arguments", [("serv",), ("--verbos",), ("demo", "--verb"), ("demo", "more"), ("run", "--end", "x")]
)
def test_unknown_words(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """A command or option that there is not, abbreviations too, is one line that names it, and exit code 2."""
    done = run(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert (arguments[1] if len(arguments) > 1 else arguments[0]) in done.stderr


def test_a_command_loads_what_it_needs(tmp_path: Path) -> None:
    """`--help` and `run` load neither OpenTelemetry nor runnable: they start as fast as Python does."""
    code = (
        "import sys; from runnable_otel.cli import main\n"
        "import runnable_otel.run\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('opentelemetry', 'runnable', 'grpc', 'rich') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(tmp_path), capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("\n[]\n")


# --- run: the command is itself --------------------------------------------------------------------------------------


def test_run_is_the_command(tmp_path: Path) -> None:
    """The command gets its words as they are, its own `--` too, writes its own output, and its exit code comes back."""
    code = "import sys; print(sys.argv[1:]); print('err', file=sys.stderr); sys.exit(7)"
    done = run(tmp_path, "run", "--", sys.executable, "-c", code, "--console", "--", "--endpoint", "a b")
    assert (done.returncode, done.stdout, done.stderr) == (7, "['--console', '--', '--endpoint', 'a b']\n", "err\n")
    without_dashes = run(tmp_path, "run", sys.executable, "-c", code, "--", "--sink")
    assert (without_dashes.returncode, without_dashes.stdout) == (7, "['--', '--sink']\n")


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_run_leaves_signals_to_the_command(tmp_path: Path) -> None:
    """The command has the process id that the caller knows, a signal reaches it, and SIGPIPE ends it as ever."""
    # It ends with its standard input, which this test closes, whatever else goes wrong.
    code = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"
    command = [sys.executable, "-m", "runnable_otel", "run", "--", sys.executable, "-c", code]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment(tmp_path), stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) == process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM
    assert run(tmp_path, "run", "--", "sh", "-c", "kill -PIPE $$").returncode == -signal.SIGPIPE


def test_no_command(tmp_path: Path) -> None:
    """Without a COMMAND there is the usage, and exit code 2."""
    for words in (("run",), ("run", "--"), ("run", "--console", "--")):
        done = run(tmp_path, *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("usage: runnable-otel run [OPTION ...] -- COMMAND ...\n")


def test_command_not_found(tmp_path: Path) -> None:
    """A COMMAND that there is not is one line and exit code 127; one that can't be run is one line and 126."""
    missing = run(tmp_path, "run", "--", "no-such-command", "x")
    said = "runnable-otel run: no-such-command: command not found\n"
    assert (missing.returncode, missing.stdout, missing.stderr) == (127, "", said)
    (tmp_path / "data").write_text("no program")
    denied = run(tmp_path, "run", "--", "./data")
    assert (denied.returncode, denied.stderr) == (126, "runnable-otel run: ./data: Permission denied\n")


# --- run: what the command's environment says ------------------------------------------------------------------------


def telemetry(environ: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in environ.items() if name.startswith(("OTEL_", "RUNNABLE_", "LOGFIRE_"))}


@pytest.mark.parametrize(
    ("options", "variables", "expected"),
    [
        ((), {}, {"RUNNABLE_TELEMETRY_CONSOLE": "true"}),
        (("--console",), {}, {"RUNNABLE_TELEMETRY_CONSOLE": "true"}),
        ((), {"LOGFIRE_TOKEN": "t"}, {"LOGFIRE_TOKEN": "t"}),
        ((), {"RUNNABLE_TELEMETRY_CONSOLE": "false"}, {"RUNNABLE_TELEMETRY_CONSOLE": "false"}),
        (("--endpoint", "http://h:1"), {}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:1"}),
        (
            ("--endpoint", "http://h:1", "--protocol", "http/protobuf", "--console"),
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://old:1",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://old:2",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
            },
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:1",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                "RUNNABLE_TELEMETRY_CONSOLE": "true",
            },
        ),
        (
            ("--protocol", "grpc"),
            {},
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "RUNNABLE_TELEMETRY_CONSOLE": "true"},
        ),
        (
            ("--sink", "file:a.jsonl", "--sink", "console:"),
            {"RUNNABLE_OTEL_SINKS": "file:old.jsonl"},
            {"RUNNABLE_OTEL_SINKS": "file:a.jsonl,console:"},
        ),
    ],
)
def test_options_and_variables(
    tmp_path: Path, options: tuple[str, ...], variables: dict[str, str], expected: dict[str, str]
) -> None:
    """An option wins over its variables, the environment stays, and where nothing is asked for the console is on."""
    assert telemetry(child_environment(tmp_path, *options, **variables)) == expected


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--endpoint", "localhost:4317"),
        ("--endpoint", "http://"),
        ("--endpoint", "http://host:port"),
        ("--endpoint", "http://host:99999"),
        ("--endpoint", ""),
        ("--protocol", "http/json"),
        ("--sink", "events.jsonl"),
        ("--sink", "nosuch:x"),
        ("--sink", "file:a,file:b"),
        ("--sink", "redis://user:secret@host"),
    ],
)
def test_bad_values(tmp_path: Path, option: str, value: str) -> None:
    """A value that is out of range is one line that names the option, exit code 2, no secret, and nothing is run."""
    done = run(tmp_path, "run", option, value, "--", sys.executable, "-c", "print('ran')")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"runnable-otel run: {option}=")
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr


def test_nested_runs(tmp_path: Path) -> None:
    """A `run` inside a `run` adds nothing a second time, and PYTHONPATH keeps what stood there, in its order."""
    words = ("-m", "runnable_otel", "run", "--", sys.executable, "-c", SHOW_ENVIRONMENT)
    done = run(tmp_path, "run", "--", sys.executable, *words, PYTHONPATH=f"/one{os.pathsep}/two")
    ours, *theirs = json.loads(done.stdout)["PYTHONPATH"].split(os.pathsep)
    assert theirs == ["/one", "/two"]
    assert (Path(ours) / "sitecustomize.py").is_file()


@pytest.mark.parametrize(
    ("words", "variables"),
    [(("--",), {}), (("--console", "--"), {}), (("--",), {"RUNNABLE_TELEMETRY_CONSOLE": "true"})],
)
def test_a_shell_task_is_not_told(tmp_path: Path, words: tuple[str, ...], variables: dict[str, str]) -> None:
    """What `run` sets is not printed with a shell task's environment; what the user sets is, as without us."""
    project = Project(tmp_path)
    done = project.command(str(SCRIPT), "run", *words, sys.executable, "pipelines.py", PIPELINE="shell", **variables)
    assert "=== COLLECT ===" in done.stdout
    assert ("RUNNABLE_TELEMETRY_CONSOLE=true" in done.stdout) == bool(variables)
    assert "└── task:" in done.stderr


# --- run: where no start-up file is read -----------------------------------------------------------------------------


def test_traces_without_the_start_up_file(tmp_path: Path, receiver: Receiver) -> None:
    """A pipeline is traced, each span once, in an environment that does not read `runnable_otel.pth`."""
    project = Project(tmp_path / "project")
    python = bare_python(tmp_path / "bare", Path(sysconfig.get_path("purelib")))
    project.command(str(python), "pipelines.py", PIPELINE="python", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)
    assert receiver.spans == [], "the start-up file was read: this test would show nothing"
    project.command(
        str(python), "-m", "runnable_otel", "run", "--endpoint", receiver.grpc, "--", str(python), "pipelines.py",
        PIPELINE="python",
    )  # fmt: skip
    names = sorted(span.name for span in receiver.spans)
    assert names == ["pipeline:pipelines.main", "task:tasks.give", "task:tasks.nothing", "task:tasks.take"]


def test_traces_with_the_start_up_file(tmp_path: Path, receiver: Receiver) -> None:
    """Where the start-up file is read as well, `run` traces each span once all the same."""
    project = Project(tmp_path)
    project.command(
        str(SCRIPT), "run", "--endpoint", receiver.grpc, "--sink", "file:events.jsonl", "--", sys.executable,
        "pipelines.py", PIPELINE="named",
    )  # fmt: skip
    assert sorted(span.name for span in receiver.spans) == ["pipeline:my pipeline", "task:tasks.give"]
    uids = [json.loads(line)["uid"] for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert len(uids) == len(set(uids)) == 4


def test_run_from_a_source_folder(tmp_path: Path) -> None:
    """Run from a folder of sources, the package is found by commands of the same environment, and by no other."""
    sources = tmp_path / "sources"
    shutil.copytree(Path(runnable_otel.__file__).parent, sources / "runnable_otel")
    script = tmp_path / "script.py"
    script.write_text(f"import sys; print({WATCHES}, {str(sources)!r} in sys.path)")
    same, other = bare_python(tmp_path / "same"), bare_python(tmp_path / "other")
    found = run(tmp_path, "run", "--", same, script, python=same, cwd=sources)
    assert (found.stdout, found.stderr) == ("True True\n", "")
    stranger = run(tmp_path, "run", "--", other, script, python=same, cwd=sources)
    assert (stranger.stdout, stranger.stderr) == ("False False\n", "")


def test_the_users_sitecustomize(tmp_path: Path) -> None:
    """The user's own `sitecustomize` runs as without us, and nothing of ours is left on `sys.path`."""
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.mine = __file__\n")
    code = f"import sys, sitecustomize; print({WATCHES}, sys.mine, sitecustomize.__file__, *sys.path, sep='\\n')"
    env = environment(tmp_path, PYTHONPATH=str(tmp_path), RUNNABLE_TELEMETRY_CONSOLE="true")
    plain = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    done = run(tmp_path, "run", "--", sys.executable, "-c", code, PYTHONPATH=str(tmp_path))
    assert (done.stdout, done.stderr) == (plain.stdout, "")
    assert done.stdout.splitlines()[:2] == ["True", str(tmp_path / "sitecustomize.py")]


@pytest.mark.parametrize("error", ["RuntimeError('mine')", "ImportError('mine')", "ModuleNotFoundError(name='mine')"])
def test_a_sitecustomize_that_fails(tmp_path: Path, error: str) -> None:
    """What the user's `sitecustomize` raises is said as Python says it, and the command runs."""
    (tmp_path / "sitecustomize.py").write_text(f"raise {error}\n")
    env = environment(tmp_path, PYTHONPATH=str(tmp_path))
    words = ("-c", "print('ran')")
    plain = subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True, check=True)
    done = run(tmp_path, "run", "--", sys.executable, *words, python=sys.executable, PYTHONPATH=str(tmp_path))
    assert done.stdout == "ran\n"
    # Python ran it for `run` itself, and for the command.
    assert done.stderr == plain.stderr * 2
