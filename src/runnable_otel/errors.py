"""What failed, from any exception: its names, its message and its stack trace, bounded and redacted.

The standard library's formatter is not used on the whole: it writes every message in full, every member of a group and
every frame. Frames come from `traceback.extract_tb`, so they read as Python prints them; no locals are shown, and no
frame of ours, which stands between runnable and the user's code.
"""

from __future__ import annotations

import builtins
import os
import traceback
from contextvars import copy_context
from itertools import islice
from textwrap import indent
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from runnable_otel.foreign import class_of
from runnable_otel.jsontext import clip

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from runnable_otel.redact import Redactor

__all__ = ["Failure", "describe", "root_cause"]

_STACKTRACE_BYTES: Final = 16 * 1024
_HEAD_BYTES: Final = 4 * 1024  # of a stack trace that is too long; the rest is its end
_ENOUGH: Final = 32 * 1024  # characters after which no further exception of a chain or a group is written
_MESSAGE: Final = 4096
_NAME: Final = 256
_LINE: Final = 512
_FIRST_FRAMES: Final = 5
_LAST_FRAMES: Final = 40
_MAX_FRAMES: Final = 100_000
_MAX_EXCEPTIONS: Final = 16
_MAX_NOTES: Final = 8
_MAX_WRAPPERS: Final = 16
_OURS: Final = os.path.join(os.path.dirname(__file__), "")
_PLAIN: Final = frozenset({str, bytes, int, float, bool, type(None)})
PATIENCE: Final = 0.5
"""Seconds for the `__str__` of an exception."""

_CAUSE: Final = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT: Final = "\nDuring handling of the above exception, another exception occurred:\n\n"

# The slots of BaseException, whatever a subclass redefines.
_slots = vars(BaseException)
_cause_of = cast("Callable[[BaseException], BaseException | None]", _slots["__cause__"].__get__)
_context_of = cast("Callable[[BaseException], BaseException | None]", _slots["__context__"].__get__)
_is_suppressed = cast("Callable[[BaseException], bool]", _slots["__suppress_context__"].__get__)
_traceback_of = cast("Callable[[BaseException], TracebackType | None]", _slots["__traceback__"].__get__)
_dict_of = cast("Callable[[BaseException], dict[str, object]]", _slots["__dict__"].__get__)
_qualname_of = cast("Callable[[type], str]", type.__dict__["__qualname__"].__get__)
_module_of = cast("Callable[[type], object]", type.__dict__["__module__"].__get__)
_mro_of = cast("Callable[[type], tuple[type, ...]]", type.__dict__["__mro__"].__get__)
_vars_of = cast("Callable[[type], dict[str, object]]", type.__dict__["__dict__"].__get__)
_args_of = cast("Callable[[BaseException], tuple[object, ...]]", _slots["args"].__get__)
_filename_of = cast("Callable[[BaseException], object]", vars(OSError)["filename"].__get__)
_Group = cast("type | None", getattr(builtins, "BaseExceptionGroup", None))  # Python 3.11


class Failure(NamedTuple):
    """An exception in words.

    Attributes:
        type: the name of its class, without module and enclosing functions: `ValueError`.
        qualified: the same with them, as OpenTelemetry's `exception.type` wants it; plain for builtins.
        message: what `str()` of it says, at most the number of bytes that was asked for.
        stacktrace: as Python prints it, chained causes included, at most 16 KiB.
    """

    type: str
    qualified: str
    message: str
    stacktrace: str

    def text(self, limit: int = 256) -> str:
        """`Type: message`, or `Type` where there is no message, in at most `limit` bytes."""
        return clip(f"{self.type}: {self.message}" if self.message else self.type, limit)


def describe(exc: BaseException, *, limit: int = 256, redactor: Redactor | None = None) -> Failure:
    """Put an exception in words. Never raises an `Exception`, and always comes back.

    Runs the exception's own `__str__`, once, as any traceback does; what that returns is cut before anything else. One
    that raises, or takes longer than `PATIENCE` seconds, leaves the message `<unprintable>`.

    Args:
        exc: the exception; its causes and contexts go into the stack trace.
        limit: UTF-8 bytes of the message.
        redactor: masks secrets, before anything is cut.
    """
    kind = class_of(exc)
    printer = _Printer(redactor)
    qualified = printer.cut(_qualified(kind), 2 * _NAME)
    short = clip(printer.cut(_qualname_of(kind).rpartition("<locals>.")[2], _NAME), _NAME)
    message = printer.message(exc)
    try:
        stacktrace = printer.stacktrace(exc, message)
    except Exception:  # noqa: BLE001 - the source of a frame comes from its loader, which may be anybody's
        stacktrace = ""
    return Failure(short, qualified, clip(message, limit), stacktrace)


def root_cause(exc: BaseException) -> BaseException:
    """The user's own exception, out of runnable's wrapper around it; every other exception is its own root cause.

    A `raise X from Y` of the user's stays X: X is what the user chose to say.
    """
    for _ in range(_MAX_WRAPPERS):
        kind = class_of(exc)
        cause = _cause_of(exc)
        if cause is None or (_module_of(kind), _qualname_of(kind)) != ("runnable.exceptions", "CommandCallError"):
            break
        exc = cause
    return exc


def _qualified(kind: type) -> str:
    name, module = clip(_qualname_of(kind), _NAME), _module_of(kind)
    return name if type(module) is not str or module == "builtins" else f"{clip(module, _NAME)}.{name}"


class _Printer:
    """Writes one exception with what belongs to it, and stops when that is enough."""

    __slots__ = ("left", "redactor", "seen", "written")

    def __init__(self, redactor: Redactor | None) -> None:
        self.redactor = redactor
        self.left, self.written = _MAX_EXCEPTIONS, 0
        self.seen: set[int] = set()

    def message(self, exc: BaseException) -> str:
        """At most 4096 characters of `str(exc)`, masked."""
        try:
            text = str(exc) if _is_plain(exc) else _aside(exc)
        except Exception:  # noqa: BLE001 - a user's __str__
            return "<unprintable>"
        return clip(self.cut(text, _MESSAGE), 4 * _MESSAGE)

    def cut(self, text: str, length: int) -> str:
        """The beginning of a text, masked before it is cut; an exact `str`."""
        if self.redactor is not None:
            text = self.redactor.head(text, length)[0]
        return str.__getitem__(text, slice(0, length))

    def stacktrace(self, exc: BaseException, message: str) -> str:
        text = self.chain(exc, message)
        return _within(self.redactor.text(text) if self.redactor is not None else text)

    def chain(self, exc: BaseException, message: str | None = None) -> str:
        """An exception after its causes, as Python orders them; written from the last one, which matters most."""
        parts: list[str] = []
        following: BaseException | None = exc
        link = ""
        while following is not None:
            if id(following) in self.seen:
                break
            if not self.left or self.written > _ENOUGH:
                parts.append(f"… further exceptions are left out …\n{link}")
                break
            self.seen.add(id(following))
            self.left -= 1
            parts.append(self.one(following, self.message(following) if message is None else message) + link)
            message = None
            cause, context = _cause_of(following), _context_of(following)
            link = _CONTEXT if cause is None else _CAUSE
            following = cause if cause is not None else None if _is_suppressed(following) else context
        return "".join(reversed(parts))

    def one(self, exc: BaseException, message: str) -> str:
        kind = class_of(exc)
        trace = _traceback_of(exc)
        text = f"Traceback (most recent call last):\n{self.frames(trace)}" if trace is not None else ""
        name = _qualified(kind).removeprefix("__main__.")
        text = f"{text}{self.syntax(exc, kind)}{f'{name}: {message}' if message else name}\n"
        notes = _dict_of(exc).get("__notes__")
        for note in islice(cast("list[object]", notes), _MAX_NOTES) if type(notes) is list else ():
            text += f"{self.cut(note, _LINE)}\n" if type(note) is str else ""
        self.written += len(text)
        return text + self.group(exc, kind)

    def group(self, exc: BaseException, kind: type) -> str:
        """The members of an exception group: as many as there is place for."""
        if _Group is None or not issubclass(kind, _Group):
            return ""
        members: tuple[BaseException, ...] = vars(_Group)["exceptions"].__get__(exc)
        text, shown = "", 0
        for shown, member in enumerate(members):
            if not self.left or self.written > _ENOUGH:
                break
            text += f"  +---------------- {shown + 1} ----------------\n{indent(self.chain(member), '  | ')}"
        else:
            shown = len(members)
        rest = f" … {len(members) - shown} more " if shown < len(members) else "----"
        return f"{text}  +----------------{rest}----------------\n"

    def frames(self, trace: TracebackType) -> str:
        """The first and the last frames of a traceback, with a mark where others are left out."""
        count = 0
        last = step = trace
        while (step := step.tb_next) is not None and count < _MAX_FRAMES:
            count += 1
            if count >= _LAST_FRAMES:
                last = cast("TracebackType", last.tb_next)
        left_out = count + 1 - _FIRST_FRAMES - _LAST_FRAMES
        if left_out <= 0:
            return self.formatted(traceback.extract_tb(trace, _FIRST_FRAMES + _LAST_FRAMES))
        first = self.formatted(traceback.extract_tb(trace, _FIRST_FRAMES))
        return f"{first}  … {left_out} frames …\n{self.formatted(traceback.extract_tb(last, _LAST_FRAMES))}"

    def formatted(self, extracted: traceback.StackSummary) -> str:
        frames = traceback.StackSummary(frame for frame in extracted if not frame.filename.startswith(_OURS))
        for at, frame in enumerate(frames):
            line = frame.line or ""
            if max(len(frame.filename), len(frame.name), len(line)) > _LINE:
                file, name = self.cut(frame.filename, _LINE), self.cut(frame.name, _NAME)
                frames[at] = traceback.FrameSummary(file, frame.lineno, name, line=self.cut(line, _LINE))
        return "".join(frames.format())

    def syntax(self, exc: BaseException, kind: type) -> str:
        """Where a syntax error is: not in a frame, but in the file that did not compile."""
        if not issubclass(kind, SyntaxError):
            return ""
        slots = vars(SyntaxError)
        filename, number, line = (slots[name].__get__(exc) for name in ("filename", "lineno", "text"))
        if type(filename) is not str or type(number) is not int:
            return ""
        shown = f"    {self.cut(line, _LINE).strip()}\n" if type(line) is str else ""
        return f'  File "{self.cut(filename, _LINE)}", line {number}\n{shown}'


def _is_plain(exc: BaseException) -> bool:
    """Whether `str()` of an exception runs no code but Python's own: neither of its class nor of what it holds."""
    for base in _mro_of(class_of(exc)):
        if "__str__" in _vars_of(base):
            held = (*_args_of(exc), _filename_of(exc) if base is OSError else None)
            return _module_of(base) == "builtins" and all(class_of(each) in _PLAIN for each in held)
    return False


def _aside(exc: BaseException) -> str:
    """`str()` of an exception on a thread of its own: there is no other way to come back from one that hangs.

    Raises:
        Exception: what it raises, or it takes too long.
    """
    said: list[str | BaseException] = []

    def say() -> None:
        try:
            said.append(str(exc))
        except BaseException as error:  # noqa: BLE001 - raised below, on the thread that asked
            said.append(error)

    thread = Thread(target=copy_context().run, args=(say,), name="runnable-otel-str", daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if not said:
        raise TimeoutError
    if isinstance(said[0], BaseException):
        raise said[0]
    return said[0]


def _within(text: str) -> str:
    """A stack trace of at most 16 KiB: of a longer one the beginning and the end, by whole lines where it has lines."""
    data = clip(text, 4 * len(text)).encode()
    if len(data) <= _STACKTRACE_BYTES:
        return data.decode()
    mark = f"  … {len(data) - _STACKTRACE_BYTES} bytes and more are left out …\n".encode()
    head: Any = data[: _HEAD_BYTES - len(mark)]
    tail: Any = data[len(data) - (_STACKTRACE_BYTES - _HEAD_BYTES) :]
    head = head[: head.rfind(b"\n") + 1] or head
    tail = tail[tail.find(b"\n", 0, len(tail) // 2) + 1 :]
    return (head + mark + tail).decode(errors="ignore")
