"""How long exports may hold a process that ends: one budget for all, and none for what is known to be dead."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from runnable_otel.delivery import away
from runnable_otel.delivery.endpoints import address, address_of, nobody_listens
from runnable_otel.delivery.patience import KNOWN, UNTRIED, Patience
from support.hole import Hole, refusing
from support.waiting import LONG


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def patience(clock: Clock) -> Patience:
    return Patience(clock)


def spend(patience: Patience, clock: Clock, seconds: float) -> None:
    """Somebody waits for so long."""
    patience._enter()
    clock.now += seconds
    patience._leave()


def test_nobody_hurries_before_the_end(patience: Patience) -> None:
    """While the process runs an export takes as long as it takes."""
    assert patience.left(patience.endpoint("host:1")) is None
    assert not patience.ending


def test_one_budget_for_all(patience: Patience, clock: Clock) -> None:
    """What exports wait is taken from one budget, what the host does meanwhile is not."""
    one, other = patience.endpoint("host:1"), patience.endpoint("host:2")
    patience.begin(2.0)
    assert patience.left(one) == patience.left(other) == 2.0
    clock.now += 50.0  # a handler of the user's
    assert patience.left(one) == 2.0
    spend(patience, clock, 0.5)
    assert patience.left(one) == patience.left(other) == 1.5
    patience._enter()
    spend(patience, clock, 1.0)  # at the same time as another one
    patience._leave()
    assert patience.left(other) == 0.5


def test_an_endpoint_that_nobody_has_tried(patience: Patience, clock: Clock) -> None:
    """One dead endpoint does not take all the time of another one."""
    dead, alive = patience.endpoint("host:1"), patience.endpoint("host:2")
    patience.begin(2.0)
    assert patience.left(dead) == 2.0
    spend(patience, clock, 3.0)
    assert patience.left(dead) is not None
    assert patience.left(dead) <= 0  # type: ignore[operator]
    assert patience.left(alive) == UNTRIED
    clock.now += UNTRIED
    assert patience.left(alive) == 0


def test_the_dead_hold_nobody(patience: Patience) -> None:
    """An endpoint that one export has found dead is dead for all that send there."""
    patience.begin(2.0)
    patience.give_up(patience.endpoint("host:1"), "connection refused")
    assert patience.left(patience.endpoint("host:1")) == 0
    assert patience.left(patience.endpoint("host:2")) == 2.0
    assert patience.endpoint("host:1").dead == "connection refused"


def test_without_a_budget(patience: Patience) -> None:
    """RUNNABLE_OTEL_EXIT_TIMEOUT=0 waits for nothing."""
    patience.begin(0.0)
    assert patience.left(patience.endpoint("host:1")) == 0


@pytest.mark.parametrize(("ours", "hard", "left"), [(False, False, 2.0), (True, False, 1.0), (False, True, 1.0)])
def test_progress(patience: Patience, clock: Clock, ours: bool, hard: bool, left: float) -> None:
    """An export that succeeds renews the budget of a provider of the user's, unless a signal ends the process."""
    endpoint = patience.endpoint("host:1")
    patience.begin(2.0, hard=hard)
    spend(patience, clock, 1.0)
    patience.succeeded(endpoint, ours=ours)
    assert patience.left(endpoint) == left


def test_wait() -> None:
    """Who waits hears of the end at once, and of an export that is done."""
    patience = Patience()
    answers: list[bool] = []
    done = threading.Event()
    waiting = [
        threading.Thread(target=lambda: answers.append(patience.wait(patience.endpoint("host:1"), lambda: False))),
        threading.Thread(target=lambda: answers.append(patience.wait(patience.endpoint("host:2"), done.is_set))),
    ]
    for thread in waiting:
        thread.start()
    patience.begin(LONG)
    patience.give_up(patience.endpoint("host:1"), "gone")
    waiting[0].join(LONG)
    assert answers == [False]
    done.set()
    patience.tell()
    waiting[1].join(LONG)
    assert answers == [False, True]


def test_what_another_process_found(
    patience: Patience, clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What one process of a run has found dead holds another one hardly; when it is back they hear of that too."""
    monkeypatch.setenv(away.VARIABLE, str(tmp_path))
    another = away.RunFolder()
    another.note("host:1")
    patience.begin(2.0)
    assert patience.left(patience.endpoint("host:1")) == KNOWN
    assert patience.left(patience.endpoint("host:2")) == 2.0
    patience.succeeded(patience.endpoint("host:1"), ours=True)
    assert not another.knows("host:1")
    patience.give_up(patience.endpoint("host:2"), "gone")
    assert another.knows("host:2")


def test_what_is_believed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A note is believed for half a minute, and only in a folder that is ours."""
    monkeypatch.setenv(away.VARIABLE, str(tmp_path))
    folder = away.RunFolder()
    folder.note("host:1")
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert folder.knows("host:1")
    os.utime(file, (0, 0))
    assert not folder.knows("host:1")
    for named in ("", str(tmp_path / "nowhere"), str(file), "\0"):
        if "\0" not in named:
            monkeypatch.setenv(away.VARIABLE, named)
        folder.note("host:2")
        assert not folder.knows("host:2")


def test_the_leader_of_a_run_makes_the_folder() -> None:
    """The folder is private, named in a variable that no shell task gets, and goes with the process that made it."""
    leader = away.RunFolder()
    leader.note("host:1")  # nobody to tell: nothing happens
    environ: dict[str, str] = {}
    leader.inject(environ)
    ((variable, name),) = environ.items()
    assert not variable.startswith("RUNNABLE_")
    folder = Path(name)
    assert folder.stat().st_mode & 0o777 == 0o700
    leader.inject(again := {})
    assert again == environ
    leader.note("host:1")
    assert leader.knows("host:1")
    leader.close()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("http://localhost:4318/v1/traces", "localhost:4318"),
        ("localhost:4317", "localhost:4317"),
        ("https://collector.example/v1/traces", "collector.example:443"),
        ("http://[::1]:4317", "[::1]:4317"),
        ("http://user:secret@host:4317", "host:4317"),
        ("unix:///run/otel.sock", ""),
        ("dns:///host:4317", ""),
        ("http://host:port", ""),
        ("host", ""),
        ("", ""),
    ],
)
def test_address(endpoint: str, expected: str) -> None:
    """Where an exporter connects to, without what nobody may see."""
    assert address(endpoint) == expected


def test_address_of_an_exporter() -> None:
    """The SDK's exporters, also inside another one's."""
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HTTPSpanExporter

    class Wrapper:
        def __init__(self, exporter: object) -> None:
            self.wrapped_exporter = exporter

    grpc = OTLPSpanExporter(endpoint="http://one:4317")
    assert address_of(grpc) == "one:4317"
    assert address_of(Wrapper(Wrapper(HTTPSpanExporter(endpoint="http://two:4318/v1/traces")))) == "two:4318"
    assert address_of(object()) == ""
    grpc.shutdown()


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection is seen at once; one that is only slow is not; nor what a proxy may reach."""
    refused = address(refusing())
    assert nobody_listens(refused, LONG) == "connection refused"
    with Hole() as hole:
        assert nobody_listens(address(hole), LONG) == ""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert nobody_listens(refused, LONG) == ""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert nobody_listens(refused, LONG) == "connection refused"
