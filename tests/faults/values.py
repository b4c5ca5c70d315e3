"""The values of the fault matrix: `VALUES[name]()` makes one. Whoever asks a hostile one anything regrets it."""

import dataclasses
import datetime
import decimal
import enum
import pathlib
import time
import types
from collections.abc import Callable


def _raises(*_, **__):
    raise ValueError("asked")


def _hangs(*_, **__):
    time.sleep(3600)


def _recurses(self, *args, **kwargs):
    return _recurses(self, *args, **kwargs) or ""


_HOW = {"raises": _raises, "hangs": _hangs, "recurses": _recurses}
ASKED = ("str", "repr", "iter", "len", "items")


def hostile(asked: str, how: str):
    """An object whose `__str__`, `__repr__`, `__iter__`, `__len__` or `items` raises, hangs or recurses."""
    method = _HOW[how]
    if asked == "items":
        made = type("Hostile", (dict,), dict.fromkeys(("items", "keys", "values", "__iter__", "__len__"), method))
        value = dict.__new__(made)
        dict.update(value, {"a": 1})
        return value
    base = {"iter": list, "len": list}.get(asked, object)
    return type("Hostile", (base,), {f"__{asked}__": method})()


class Meta(type):
    """A metaclass that answers nothing."""

    __getattribute__ = _raises
    __instancecheck__ = _raises
    __subclasscheck__ = _raises


class Liar:
    """Says that it is a string, and fails at all that it is asked then."""

    __class__ = str
    __getattr__ = _raises


class Unhashable(str):
    """A text that can't be looked for."""

    __hash__ = _raises


class Properties:
    """Each property raises."""

    value = name = shape = dtype = property(_raises)


def _named_hostile():
    return types.new_class("Hostile", (), {"metaclass": Meta})()


@dataclasses.dataclass
class Point:
    x: int = 1
    name: str = "p"


class Color(enum.Enum):
    RED = "red"


def _cyclic():
    made = {"a": 1}
    made["self"] = made
    return made


def _deep():
    made = 1
    for _ in range(2000):
        made = [made]
    return made


def _model():
    from pydantic import create_model

    return create_model("Model", x=(int, 1), name=(str, "m"))()


def _array():
    import numpy

    return numpy.zeros((1000, 1000))


def _frame():
    import pandas

    return pandas.DataFrame({"x": [1, 2, 3], "y": list("abc")})


# Errors that runnable itself, without us, would be at for ever, or for minutes.
HANDLED_ONLY = {"exception_str_hangs", "exception_holds_hostile", "exception_70mb"}

# Those that runnable itself, without us, can't pass on as a JSON parameter before the end of time, or of memory.
SHOWN_ONLY = {
    *(f"{asked}_hangs" for asked in ASKED),
    "bytes_1gb",
    "breadth_1000000",
    "depth_2000",
    "text_80mb",
}

VALUES: dict[str, Callable[[], object]] = {
    **{f"{a}_{h}": lambda a=a, h=h: hostile(a, h) for a in ASKED for h in _HOW},
    "cyclic": _cyclic,
    "depth_2000": _deep,
    "breadth_1000000": lambda: list(range(1_000_000)),
    "text_80mb": lambda: "x" * 80_000_000,
    "bytes_1gb": lambda: bytes(1_000_000_000),
    "surrogate_in_value": lambda: "lone \ud800 surrogate",
    "int_2_70": lambda: 2**70,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "bytes": lambda: b"\x00\xff",
    "set": lambda: {1, 2, 3},
    "generator": lambda: (n for n in range(3)),
    "numpy": _array,
    "pandas": _frame,
    "pydantic": _model,
    "dataclass": Point,
    "enum": lambda: Color.RED,
    "path": lambda: pathlib.Path("/a/b"),
    "datetime": lambda: datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
    "decimal": lambda: decimal.Decimal("1.50"),
    "keys_not_strings": lambda: {1: "one", None: "none", (1, 2): "pair", b"k": "bytes", 1.5: "float"},
    "metaclass": _named_hostile,
    "class_lies": Liar,
    "properties_raise": Properties,
}


class UnprintableError(Exception):
    """An exception that can't be put in words."""

    __str__ = _raises


ERRORS: dict[str, Callable[[], BaseException]] = {
    "exception_str_raises": UnprintableError,
    "exception_str_hangs": lambda: type("HangingError", (Exception,), {"__str__": _hangs})(),
    "exception_holds_hostile": lambda: ValueError(hostile("str", "hangs"), hostile("repr", "hangs")),
    "exception_70mb": lambda: RuntimeError("m" * 70_000_000),
    "surrogate_in_status": lambda: RuntimeError("lone \udfff surrogate"),
}

RUN_IDS = {
    "run_id_empty": "",
    "run_id_1mb": "r" * 1_000_000,
    "run_id_newlines": "one\ntwo\r\nthree",
    "run_id_surrogate": "run \ud800 id",
    "run_id_dots": "../../run",
}
