"""Any exception becomes bounded, masked words, and its root cause is the user's own."""

from __future__ import annotations

import gc
import linecache
import sys
import textwrap
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runnable_otel.errors import Failure, describe, root_cause
from runnable_otel.redact import Redactor

REDACTOR = Redactor()
KIB = 1024


def raised(action: Callable[..., object], *args: Any) -> BaseException:
    """What an action raises."""
    try:
        action(*args)
    except BaseException as exc:
        return exc
    raise AssertionError("nothing was raised")


def fail(exc: BaseException) -> NoReturn:
    raise exc


def recurse(levels: int) -> int:
    return 1 // levels if not levels else recurse(levels - 1)


def ping(levels: int) -> int:
    return pong(levels - 1) if levels > 0 else 1 // 0


def pong(levels: int) -> int:
    return ping(levels - 1) if levels > 0 else 1 // 0


@pytest.fixture
def deep_stack() -> Iterator[None]:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    yield
    sys.setrecursionlimit(limit)


# --- names and message ---------------------------------------------------------------------------------------------


class Outer:
    class InnerError(Exception):
        pass


def test_names() -> None:
    """The type is the name of the class; the qualified one has module and enclosing functions, but for builtins."""

    class LocalError(Exception):
        pass

    assert describe(ValueError("x"))[:3] == ("ValueError", "ValueError", "x")
    assert describe(Outer.InnerError())[:3] == ("Outer.InnerError", f"{__name__}.Outer.InnerError", "")
    assert describe(LocalError())[:2] == ("LocalError", f"{__name__}.test_names.<locals>.LocalError")


def test_text() -> None:
    """The text is `Type: message`, or the type alone where there is no message, within the limit."""
    assert describe(ValueError("bad")).text() == "ValueError: bad"
    assert describe(ValueError()).text() == "ValueError"
    assert describe(KeyError("x")).text() == "KeyError: 'x'"
    text = describe(ValueError("é" * 1000)).text()
    assert text.startswith("ValueError: éé")
    assert text.endswith("…")
    assert 254 <= len(text.encode()) <= 256
    assert len(describe(ValueError("é" * 1000), limit=32).text(32).encode()) <= 32
    assert Failure("A", "b.A", "m", "").text(4) == "A: m"


@settings(deadline=None)
@given(st.text(st.characters(), max_size=2000), st.integers(3, 1000))
def test_any_message(message: str, limit: int) -> None:
    """Any message, lone surrogates too, becomes valid UTF-8 within the limit."""
    failure = describe(ValueError(message), limit=limit, redactor=REDACTOR)
    assert len(failure.message.encode()) <= limit
    assert len(failure.text(limit).encode()) <= limit
    assert len(failure.stacktrace.encode()) <= 16 * KIB


class HostileError(Exception):
    """Its text, and whatever else a formatter may ask for, is up to the test."""

    def __init__(self, say: Callable[[], str]) -> None:
        self.say = say

    def __str__(self) -> str:
        return self.say()

    def _trap(self, *_: object) -> NoReturn:
        raise AssertionError("asked for more than str()")

    __repr__ = __eq__ = __hash__ = __bool__ = __len__ = __iter__ = _trap  # type: ignore[assignment]
    __cause__ = property(_trap)  # type: ignore[assignment]
    __context__ = property(_trap)  # type: ignore[assignment]
    __traceback__ = property(_trap)  # type: ignore[assignment]
    __suppress_context__ = property(_trap)  # type: ignore[assignment]
    __notes__ = property(_trap)


def test_str_raises() -> None:
    """An exception whose `__str__` raises, recurses, or returns no text says `<unprintable>`; nothing else is asked."""

    def again() -> str:
        return str(exc)

    for say in (lambda: fail(RuntimeError()), again, lambda: 1):
        exc = HostileError(say)  # type: ignore[arg-type]
        assert describe(exc).text() == "HostileError: <unprintable>"
        assert describe(raised(fail, exc)).stacktrace.endswith(".HostileError: <unprintable>\n")


def test_nothing_but_str_is_asked() -> None:
    """Of a chain of exceptions nothing is asked but `str()`: not even whether they are true."""
    exc = HostileError(lambda: "first")
    for slot in ("__cause__", "__context__"):
        following = HostileError(lambda: "last")
        BaseException.__dict__[slot].__set__(following, exc)
        exc = following
    stacktrace = describe(raised(fail, exc)).stacktrace
    assert [line for line in stacktrace.splitlines() if "HostileError: " in line] == [
        f"{__name__}.HostileError: {text}" for text in ("first", "last", "last")
    ]


def test_str_is_asked_once() -> None:
    """`str()` of an exception runs once: it may be slow, or count."""
    asked: list[int] = []
    describe(HostileError(lambda: str(asked.append(1))))
    assert asked == [1]


def test_interrupts_pass() -> None:
    """KeyboardInterrupt in a `__str__` is not swallowed."""
    with pytest.raises(KeyboardInterrupt):
        describe(HostileError(lambda: fail(KeyboardInterrupt())))


def test_text_of_a_subclass() -> None:
    """A message that is an instance of a subclass of `str` is cut by the slots of `str`."""

    class Own(str):
        __slots__ = ()
        __getitem__ = __len__ = __iter__ = __str__ = HostileError._trap  # type: ignore[assignment]

    own = Own("x" * 1000)
    for redactor in (None, REDACTOR):
        assert describe(HostileError(lambda: own), limit=10, redactor=redactor).message == "xxxxxxx…"


def test_a_huge_message_costs_what_str_does() -> None:
    """A message of 70 MB is cut at once: no copy of it is made."""
    exc = raised(fail, ValueError("password=hunter2 " * 4_000_000))
    describe(exc, redactor=REDACTOR)
    tracemalloc.start()
    try:
        failure = describe(exc, redactor=REDACTOR)
        assert tracemalloc.get_traced_memory()[1] <= 512 * KIB
    finally:
        tracemalloc.stop()
    assert len(failure.message.encode()) <= 256
    assert len(failure.stacktrace.encode()) <= 16 * KIB
    assert "hunter2" not in failure.stacktrace


# --- redaction -----------------------------------------------------------------------------------------------------


def test_redaction() -> None:
    """Secrets are masked in message, stack trace, causes, notes and source lines, before anything is cut."""

    def connect() -> NoReturn:
        try:
            raise OSError("postgres://user:hunter2@host")
        except OSError as exc:
            password = "hunter2"  # noqa: F841
            raise ValueError("token=hunter2 " + "x" * 300) from exc

    exc = raised(connect)
    exc.__dict__["__notes__"] = ["api_key: hunter2"]
    for limit in (*range(32, 60), 256):
        failure = describe(exc, limit=limit, redactor=REDACTOR)
        assert "hun" not in failure.message
        assert "hunter2" not in failure.stacktrace
        assert "hunter2" not in failure.text()
    literal = describe(ValueError("the manager's horse-battery"), redactor=REDACTOR.with_secrets(["horse-battery"]))
    assert literal.text() == "ValueError: the manager's [redacted]"
    assert "horse" not in literal.stacktrace


@pytest.mark.parametrize("before", range(440, 520, 7))
def test_redaction_at_the_cut_of_a_line(before: int) -> None:
    """A secret that a cut note or source line splits leaks no part of itself."""
    secret = f"postgres://user:{'hunter2' * 20}@host"
    line = f"raise ValueError({'x' * before!r}, {secret!r}, {'x' * 1000!r})"
    linecache.cache["long.py"] = (len(line), None, [line], "long.py")
    try:
        exc = raised(exec, compile(line, "long.py", "exec"))
    finally:
        stacktrace = describe(exc, redactor=REDACTOR).stacktrace
        del linecache.cache["long.py"]
    exc = ValueError("x")
    exc.__dict__["__notes__"] = [f"{'x' * before} {secret}"]
    assert "hunter2" not in stacktrace + describe(exc, redactor=REDACTOR).stacktrace
    assert "xxx" in stacktrace


# --- stack trace ---------------------------------------------------------------------------------------------------


def chained() -> NoReturn:
    try:
        try:
            recurse(3)
        except ZeroDivisionError:
            raise KeyError("context")  # noqa: B904
    except KeyError as exc:
        raise ValueError("the last") from exc


def suppressed() -> NoReturn:
    try:
        recurse(0)
    except ZeroDivisionError:
        raise ValueError("alone") from None


@pytest.mark.parametrize("action", [chained, suppressed, lambda: recurse(5), lambda: fail(ValueError())])
def test_reads_as_python_prints_it(action: Callable[[], object]) -> None:
    """The stack trace of an ordinary exception is, letter by letter, what Python prints, chained causes included."""
    exc = raised(action)
    assert describe(exc).stacktrace == "".join(traceback.format_exception(exc))


def test_without_a_traceback() -> None:
    """An exception that was never raised is its last line."""
    assert describe(ValueError("x")).stacktrace == "ValueError: x\n"


def test_notes() -> None:
    """Notes follow the message; what is no text among them is left out."""
    exc = ValueError("x")
    exc.__dict__["__notes__"] = ["first", 5, *["more"] * 100]
    lines = describe(exc).stacktrace.splitlines()
    assert lines[:3] == ["ValueError: x", "first", "more"]
    assert len(lines) <= 10


def test_a_syntax_error_shows_its_place() -> None:
    """A file that did not compile is named with its line."""
    assert (
        '  File "tasks.py", line 1\n    a b\nSyntaxError: '
        in describe(raised(compile, "a b", "tasks.py", "exec")).stacktrace
    )


@pytest.mark.usefixtures("deep_stack")
def test_a_deep_traceback() -> None:
    """Of thousands of frames the first and the last are shown, and how many are not."""
    exc = raised(ping, 3000)
    stacktrace = describe(exc).stacktrace
    assert stacktrace.endswith("".join(traceback.format_exception(exc)[-3:]))
    assert stacktrace.startswith("Traceback (most recent call last):\n")
    assert stacktrace.count("  File ") == 45
    assert stacktrace.count(" frames …\n") == 1
    assert "raised" in stacktrace.splitlines()[1]
    assert stacktrace.endswith("ZeroDivisionError: integer division or modulo by zero\n")
    left_out = int(stacktrace.partition(" frames …")[0].rpartition("… ")[2])
    assert left_out + 45 == 3002
    assert describe(raised(recurse, 3000)).stacktrace.count("  File ") < 45


@pytest.mark.parametrize("frames", range(40, 50))
def test_around_the_bound(frames: int) -> None:
    """Every frame is shown up to 45; from then on just those are left out that the mark counts."""
    stacktrace = describe(raised(ping, frames - 2)).stacktrace
    assert stacktrace.count("  File ") == min(frames, 45)
    assert ("  … 1 frames …\n" in stacktrace) == (frames == 46)


@pytest.mark.usefixtures("deep_stack")
def test_a_recursion_error() -> None:
    """Recursion without end is described like any other failure."""

    def forever() -> None:
        forever()

    failure = describe(raised(forever))
    assert failure.type == "RecursionError"
    assert len(failure.stacktrace.encode()) <= 16 * KIB


def test_a_cyclic_chain() -> None:
    """Exceptions that cause one another end."""
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    stacktrace = describe(first).stacktrace
    assert stacktrace.count("ValueError: first") == stacktrace.count("ValueError: second") == 1
    first.__cause__ = first
    assert describe(first).stacktrace.endswith("ValueError: first\n")


def test_a_long_chain() -> None:
    """Of a thousand causes the nearest are shown, the exception itself last."""
    exc = ValueError("0")
    for at in range(1, 1000):
        following = ValueError(str(at))
        following.__context__ = exc
        exc = following
    stacktrace = describe(exc).stacktrace
    assert stacktrace.startswith("… further exceptions are left out …\n")
    assert stacktrace.count("ValueError") == 16
    assert stacktrace.endswith("ValueError: 999\n")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")
def test_a_huge_group() -> None:
    """Of ten thousand members of a group the first are shown, and how many are not; groups in groups too."""
    group: BaseException = ExceptionGroup("many", [raised(recurse, 2) for _ in range(10_000)])  # noqa: F821
    stacktrace = describe(raised(fail, group)).stacktrace
    assert (
        "ExceptionGroup: many (10000 sub-exceptions)\n  +---------------- 1 ----------------\n  | Traceback"
        in stacktrace
    )
    assert "  +---------------- … 9985 more ----------------\n" in stacktrace
    for _ in range(100):
        group = ExceptionGroup("outer", [group])  # type: ignore[list-item]  # noqa: F821
    assert describe(group).stacktrace.count("ExceptionGroup: outer") == 16


def test_source_that_is_not_there() -> None:
    """A frame without source, or whose loader raises, is shown without its line."""

    class Loader:
        def get_source(self, _name: str) -> NoReturn:
            raise OSError

    scope = {"__name__": "elsewhere", "__loader__": Loader()}
    exec(compile("def f():\n    raise ValueError('x')", "<nowhere>", "exec"), scope)
    exec(compile("def g():\n    f()", "/no/such/file.py", "exec"), scope)
    stacktrace = describe(raised(scope["g"])).stacktrace  # type: ignore[arg-type]
    assert '  File "/no/such/file.py", line 2, in g\n' in stacktrace
    assert '  File "<nowhere>", line 2, in f\n' in stacktrace


def test_long_lines_names_and_files() -> None:
    """A source line, a file name and a function name of a megabyte are cut."""
    name, file = "f" * 1_000_000, "/x" * 500_000
    source = f"def {name}(): raise ValueError({'9' * 1_000_000!r})"
    linecache.cache[file] = (len(source), None, [source], file)
    scope: dict[str, Any] = {}
    try:
        exec(compile(source, file, "exec"), scope)
        stacktrace = describe(raised(scope[name])).stacktrace
    finally:
        del linecache.cache[file]
    assert len(stacktrace.encode()) <= 16 * KIB
    assert "/x/x" in stacktrace
    assert stacktrace.endswith("999\n")


def test_too_long_by_far() -> None:
    """Of a stack trace over 16 KiB the beginning and the end are kept, by whole lines, and the cut is marked."""
    source = "\n".join(f"def {'f' * 200}{i}(): {'f' * 200}{i - 1}()" for i in range(1, 44))
    scope: dict[str, Any] = {}
    exec(compile(f"def {'f' * 200}0(): raise ValueError('é' * 5000)\n{source}", "/x" * 200, "exec"), scope)
    stacktrace = describe(raised(scope["f" * 200 + "43"])).stacktrace
    assert 15 * KIB < len(stacktrace.encode()) <= 16 * KIB
    assert stacktrace.startswith("Traceback (most recent call last):\n  File ")
    assert stacktrace.count(" bytes and more are left out …\n") == 1
    mark = stacktrace.splitlines().index(next(line for line in stacktrace.splitlines() if "left out" in line))
    assert stacktrace.splitlines()[mark + 1].startswith("  File ")
    assert stacktrace.endswith("é\n")


def test_one_endless_line() -> None:
    """A stack trace without a line break to cut at keeps to 16 KiB too."""
    stacktrace = describe(ValueError("\U0001f600" * 5000)).stacktrace
    assert 15 * KIB < len(stacktrace.encode()) <= 16 * KIB


def test_no_locals() -> None:
    """The values of local variables are never shown."""

    def task() -> None:
        private = "".join(["hid", "den"])
        fail(ValueError(len(private)))

    assert "hidden" not in describe(raised(task)).stacktrace


@pytest.mark.usefixtures("deep_stack")
def test_the_cost_is_bounded() -> None:
    """A traceback of thousands of frames takes as little memory as one of dozens."""

    def peak(exc: BaseException) -> int:
        describe(exc, redactor=REDACTOR)
        gc.collect()
        tracemalloc.start()
        try:
            describe(exc, redactor=REDACTOR)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(raised(ping, 5000)) <= 2 * peak(raised(ping, 100))


# --- root cause ----------------------------------------------------------------------------------------------------


def test_runnables_wrapper_is_taken_off() -> None:
    """The cause inside runnable's own wrapper is the root cause, however often it is wrapped."""
    exceptions = pytest.importorskip("runnable.exceptions")
    own = ValueError("x")
    wrapper = exceptions.CommandCallError("Function call: f did not succeed.\n")
    assert root_cause(wrapper) is wrapper
    wrapper.__cause__ = own
    outer = exceptions.CommandCallError("again")
    outer.__cause__ = wrapper
    assert root_cause(wrapper) is own
    assert root_cause(outer) is own
    wrapper.__cause__ = outer
    assert root_cause(outer) in (outer, wrapper)


def test_the_users_own_chain_stays() -> None:
    """`raise X from Y` is X, and a class that only has the wrapper's name is not the wrapper."""
    exc = raised(chained)
    assert root_cause(exc) is exc
    same_name = type("CommandCallError", (Exception,), {})()
    same_name.__cause__ = ValueError()
    assert root_cause(same_name) is same_name
    hostile = HostileError(lambda: "x")
    BaseException.__dict__["__cause__"].__set__(hostile, ValueError())
    assert root_cause(hostile) is hostile


def test_in_words() -> None:
    """The example of the reference: a failed task says what the user's code said."""
    code = textwrap.dedent("""
        def load():
            raise FileNotFoundError("no data.csv")
    """)
    scope: dict[str, Any] = {}
    exec(code, scope)
    assert describe(raised(scope["load"])).text() == "FileNotFoundError: no data.csv"
