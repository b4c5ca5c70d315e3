"""Any value becomes a small, valid, masked JSON text, at a cost that does not grow with the value."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import gc
import json
import math
import pathlib
import sys
import threading
import tracemalloc
import types
import uuid
from collections import Counter, OrderedDict, defaultdict, namedtuple
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from runnable_otel.capture import OBJECT, Captured, capture, clip, fold
from runnable_otel.redact import Redactor

MASK = "[redacted]"
REDACTOR = Redactor()
LIMITS = st.one_of(st.integers(32, 300), st.integers(32, 4096))

# --- values --------------------------------------------------------------------------------------------------------

CALLED: list[str] = []


def trap(name: str) -> Callable[..., NoReturn]:
    """A method that must never run: the call is recorded even where the exception is swallowed."""

    def method(*_: object, **__: object) -> NoReturn:
        CALLED.append(name)
        raise AssertionError(f"{name} was called")

    return method


TRAPS = """
    __repr__ __str__ __format__ __bytes__ __iter__ __next__ __len__ __length_hint__ __getitem__ __contains__
    __reversed__ __getattr__ __getattribute__ __eq__ __ne__ __lt__ __hash__ __bool__ __int__ __float__ __index__
    __complex__ __fspath__ __sizeof__ __dir__ __reduce__ __reduce_ex__ __copy__ __deepcopy__ __enter__ __call__ items
    keys values get isoformat bit_length value name shape dtype dtypes model_dump _asdict
"""


class HostileMeta(type):
    """A metaclass that must not be asked anything either."""

    __hash__ = trap("meta.__hash__")  # type: ignore[assignment]
    __eq__ = trap("meta.__eq__")  # type: ignore[assignment]
    __instancecheck__ = trap("meta.__instancecheck__")
    __subclasscheck__ = trap("meta.__subclasscheck__")
    __repr__ = trap("meta.__repr__")  # type: ignore[assignment]
    __getattribute__ = trap("meta.__getattribute__")  # type: ignore[assignment]
    __iter__ = trap("meta.__iter__")
    __len__ = trap("meta.__len__")
    __mro__ = property(trap("meta.__mro__"))  # type: ignore[assignment]
    __name__ = property(trap("meta.__name__"))  # type: ignore[assignment]
    __module__ = "somewhere"


def hostile(base: type = object, meta: type = type, **more: object) -> type:
    """A class that redefines everything one could ask of an instance, with traps."""
    body: dict[str, Any] = {name: trap(name) for name in TRAPS.split()}
    body |= {"__class__": property(trap("__class__")), "__dict__": property(trap("__dict__")), **more}
    return meta("Hostile", (base,), body)


def hostile_values() -> list[object]:
    """Instances of hostile classes: of no base, and of every builtin that `capture` reads."""
    filled: list[tuple[type, tuple[Any, ...]]] = [
        (object, ()),
        (str, ("text",)),
        (int, (5,)),
        (float, (1.5,)),
        (complex, (1j,)),
        (bytes, (b"123",)),
        (tuple, ((1, 2),)),
        (frozenset, ({1, 2},)),
        (Exception, ("x",)),
        (datetime.date, (2024, 1, 2)),
        (datetime.timedelta, (1,)),
        (decimal.Decimal, ("1.5",)),
    ]
    made = [base.__new__(hostile(base, meta), *args) for base, args in filled for meta in (type, HostileMeta)]
    for meta in (type, HostileMeta):
        a_list, a_dict = list.__new__(hostile(list, meta)), dict.__new__(hostile(dict, meta))
        a_set, an_array = set.__new__(hostile(set, meta)), bytearray.__new__(hostile(bytearray, meta))
        list.extend(a_list, [1, 2])
        dict.update(a_dict, {"k": 1})
        set.update(a_set, [1])
        made += [a_list, a_dict, a_set, an_array]
        fields = {"x": dataclasses.field(default=1)}
        made.append(object.__new__(hostile(object, meta, __dataclass_fields__=fields, x=1)))
    return made


class HostileZone(datetime.tzinfo):
    """A time zone that would never come back."""

    utcoffset = trap("utcoffset")  # type: ignore[assignment]
    tzname = trap("tzname")  # type: ignore[assignment]
    dst = trap("dst")  # type: ignore[assignment]


class Color(enum.Enum):
    RED = "red"
    NONE = None
    PAIR = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


class Mixed(str, enum.Enum):
    A = "a"


@dataclasses.dataclass
class Point:
    x: int
    name: str = "p"
    kind: dataclasses.InitVar[int] = 0

    @property
    def area(self) -> NoReturn:
        CALLED.append("area")
        raise AssertionError


@dataclasses.dataclass(slots=True)
class Slotted:
    x: int
    password: str = "hunter2"


Pair = namedtuple("Pair", "a b")


def cyclic() -> dict[str, object]:
    made: dict[str, object] = {"a": 1}
    made["self"] = made
    made["list"] = [made]
    return made


def deep(levels: int) -> list[object]:
    made: list[object] = []
    for _ in range(levels):
        made = [made]
    return made


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**4000), 2**4000),
    st.floats(),
    st.text(max_size=80),
    st.text(st.characters(min_codepoint=0xD7FF, max_codepoint=0xE000), max_size=20),
    st.text(st.sampled_from('"\\\n\x00\x1f\x7f é☃\U0001f600'), max_size=400),
    st.binary(max_size=40),
    st.dates(),
    st.datetimes(),
    st.timedeltas(),
    st.decimals(),
    st.uuids(),
    st.complex_numbers(),
    st.sampled_from(
        [OBJECT, Color.RED, Color.NONE, Color.PAIR, Level.LOW, Mixed.A, Point(1), Slotted(2), object(), int]
    ),
    st.sampled_from([len, sys, pathlib.PurePosixPath("/a/b"), range(3)]),
    st.builds(deep, st.integers(0, 2000)),
    st.builds(cyclic),
    st.builds(lambda bits: 1 << bits, st.integers(2000, 100_000)),
    st.sampled_from(["password=hunter2", "AKIAIOSFODNN7EXAMPLE", "postgres://u:p@h", 4111111111111111]),
    st.builds(lambda n: "x" * n, st.integers(0, 5000)),
    st.builds(lambda n: "é" * n, st.integers(0, 5000)),
)
KEYS = st.one_of(
    st.text(max_size=20),
    st.text(st.characters(min_codepoint=0xD7FF, max_codepoint=0xE000), max_size=5),
    st.sampled_from(["password", "api_key", "token_count", "k" * 1000, "é" * 300, "", "…", "x=AKIAIOSFODNN7EXAMPLE"]),
    st.sampled_from([0, 1, True, None, 1.5, math.nan, (1, 2), b"k", Mixed.A, Color.RED, 10**4000, "1", "true", "null"]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=12),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(KEYS, inner, max_size=6),
        st.frozensets(st.integers(), max_size=40),
        st.builds(lambda value: [value] * 100, inner),
    ),
    max_leaves=12,
)


def valid(captured: Captured, limit: int) -> Any:
    """What the text holds, after a check that it is JSON by the letter, encodable, and not too long."""
    assert len(captured.text.encode("utf-8")) <= limit
    assert captured.text.startswith("{")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs), "a key twice"
        return dict(pairs)

    def no_constant(name: str) -> NoReturn:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(captured.text, parse_constant=no_constant, object_pairs_hook=unique)


def calls(action: Callable[[], object]) -> int:
    """How many functions, of Python or of C, an action calls."""
    count = 0

    def profile(_frame: types.FrameType, event: str, _arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    previous = sys.getprofile()
    gc.disable()  # others have callbacks there
    sys.setprofile(profile)
    try:
        action()
    finally:
        sys.setprofile(previous)
        gc.enable()
    return count


def peak(action: Callable[[], object]) -> int:
    """Bytes that an action takes at its worst, once everything is cached."""
    action()
    tracemalloc.start()
    try:
        action()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        action()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


# --- the text is right ---------------------------------------------------------------------------------------------


@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.dictionaries(KEYS, VALUES, max_size=8), LIMITS, st.sampled_from([None, REDACTOR]))
@example({"q": "\\" * 100}, 37, None)
@example({"q": "\x01" * 100}, 41, None)
@example({"e": "\U0001f600" * 100}, 33, None)
@example({"k" * 40: 1}, 32, None)
@example({"password": 1, "b": 2}, 32, REDACTOR)
@example({"": {"\x1f\x070\x1f": None}}, 34, None)
def test_any_value_becomes_valid_json_within_the_limit(values: Any, limit: int, redactor: Redactor | None) -> None:
    """Any value, at any limit, with and without redaction: valid JSON in valid UTF-8, never a byte too many."""
    shown = valid(capture(values, limit, redactor=redactor), limit)
    assert isinstance(shown, dict)
    for mode in ("keys", "none"):
        valid(capture(values, limit, redactor=redactor, mode=mode), limit)  # type: ignore[arg-type]


def test_every_limit() -> None:
    """Every limit from 32 to 4096 bytes, and the largest, is kept, whatever the text is made of."""
    text = 'aé☃\U0001f600"\\\n\ud800' * 10_000
    for limit in (*range(32, 4097), 65536):
        for values in ({"key": text}, {text: 1, "b": [text, {text: text}]}, {f"{i}é": text for i in range(400)}):
            valid(capture(values, limit, redactor=REDACTOR), limit)


PLAIN = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**100), 2**100), st.floats(allow_nan=False, allow_infinity=False)
    )
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), inner, max_size=5)
    ),
    max_leaves=10,
)


@settings(max_examples=500, deadline=None)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), PLAIN, max_size=6))
def test_what_fits_is_what_json_writes(values: dict[str, Any]) -> None:
    """A value that fits is written as `json.dumps` writes it, to the last byte that the limit allows."""
    text = json.dumps(values, ensure_ascii=False)
    size = max(32, len(text.encode()))

    def depth(value: Any) -> int:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    if depth(values) <= 7:
        assert capture(values, size) == Captured(text, truncated=False, redacted=False)
    if size > 32:
        captured = capture(values, size - 1)
        assert captured.truncated
        assert "…" in captured.text


def test_not_numbers_are_strings() -> None:
    """NaN and the infinities show as strings: RFC 8259 has no literal for them."""
    assert capture({"a": math.nan, "b": math.inf, "c": [-math.inf]}, 256).text == (
        '{"a": "NaN", "b": "Infinity", "c": ["-Infinity"]}'
    )


def test_characters() -> None:
    """Characters beyond ASCII stay as they are, control characters are escaped, a lone surrogate becomes U+FFFD."""
    assert capture({"é": "☃\ud800\n\x00"}, 256).text == '{"é": "☃�\\n\\u0000"}'


def test_a_cut_never_splits_an_escape() -> None:
    """A cut falls between characters and between escapes, at every limit."""
    for piece in ("\\", '"', "\n", "\x01", "é", "\U0001f600", "a\\", "\\u", '\\"'):
        for limit in range(32, 80):
            text = valid(capture({"k": piece * 200}, limit), limit)["k"]
            assert (piece * 200).startswith(text.removesuffix("…"))
            assert text.endswith("…")


# --- the budget ----------------------------------------------------------------------------------------------------


def test_keys_first() -> None:
    """All keys that fit are shown, in order, before a value gets more than its mark; what is left out is marked."""
    assert capture({"a": "x" * 1000, "b": "y" * 1000, "c": 1}, 32).text == '{"a": "…", "b": "…", "c": 1}'
    assert capture({"alpha": "x" * 1000, "b": "y" * 9, "c": 3}, 32).text == '{"alpha": "xx…", "…": "…"}'
    many = {f"k{i}": "v" * 100 for i in range(100)}
    shown = valid(capture(many, 256), 256)
    *names, last = shown
    assert names == list(many)[: len(names)]
    assert len(names) >= 14
    assert (last, shown[last]) == ("…", "…")


@settings(max_examples=500, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=8), st.integers(128, 1024))
def test_small_values_stay_whole(lengths: list[int], limit: int) -> None:
    """A value that takes no more than its fair share is whole, and what it leaves goes to the larger ones."""
    values = {f"k{at}": "v" * length for at, length in enumerate(lengths)}
    share = 5 + (limit - 2 - 2 * (len(values) - 1) - sum(4 + 2 + 5 for _ in values)) // len(values)
    captured = capture(values, limit)
    shown = valid(captured, limit)
    assert list(shown) == list(values)
    for name, value in values.items():
        assert shown[name] == value if len(value) + 2 <= share else shown[name].removesuffix("…") in value
    if captured.truncated:
        assert len(captured.text.encode()) > limit - 48, "room was left unused"


def test_only_the_large_value_is_cut() -> None:
    """One large value among small ones is cut, and gets all that the others leave, wherever it stands."""
    for order in (["big", "a", "b"], ["a", "big", "b"], ["a", "b", "big"]):
        values = {name: {"big": "x" * 10_000, "a": [1, 2, 3], "b": {"c": "d"}}[name] for name in order}
        captured = capture(values, 256)
        shown = valid(captured, 256)
        assert (shown["a"], shown["b"]) == ([1, 2, 3], {"c": "d"})
        assert len(captured.text.encode()) > 250


def test_marks() -> None:
    """A cut text ends with `…` in its quotes, a cut list with the element, a cut object with the member."""
    assert capture({"s": "x" * 300}, 32).text == '{"s": "xxxxxxxxxxxxxxxxxxxx…"}'
    assert capture({"l": list(range(100))}, 32).text == '{"l": [0, 1, 2, 3, 4, 5, "…"]}'
    assert capture({"d": {str(i): i for i in range(50)}}, 40).text == '{"d": {"0": 0, "1": 1, "…": "…"}}'
    assert valid(capture({"l": list(range(100))}, 4096), 4096)["l"] == [*range(32), "…"]
    assert len(valid(capture({"d": {str(i): i for i in range(100)}}, 4096), 4096)["d"]) == 33


def test_depth() -> None:
    """Six containers inside one another are shown, the next one is cut, and a cycle ends there too."""
    assert capture({"d": deep(5)}, 256) == Captured('{"d": [[[[[[]]]]]]}', truncated=False, redacted=False)
    assert capture({"d": deep(2000)}, 256).text == '{"d": [[[[[["…"]]]]]]}'
    assert capture(cyclic(), 256).truncated  # type: ignore[arg-type]


def test_a_long_key_is_cut() -> None:
    """A key that does not fit is cut, once, so that the value still shows."""
    assert capture({"k" * 1000: 1}, 32).text == '{"kkkkkkkk…": 1}'
    assert capture({"k" * 1000: 1, "b": 2}, 32).text == '{"kkkkkkkk…": 1, "b": 2}'
    assert capture({"passenger": "x" * 9, "bus": "y" * 9}, 32).text == '{"pass…": "…", "…": "…"}'


def test_keys_that_are_not_strings() -> None:
    """Keys show as JSON would write them, others by their type; of those that show alike the first."""
    values: Any = {1: "a", "1": "b", None: 1, False: 2, 1.5: 3, (1, 2): 4, (3,): 5, Mixed.A: 6, math.nan: 7}
    captured = capture(values, 256)
    assert captured.text == '{"1": "a", "null": 1, "false": 2, "1.5": 3, "<tuple>": 4, "a": 6, "NaN": 7, "…": "…"}'
    assert captured.truncated


def test_modes() -> None:
    """`keys` shows names and types only, and `none` nothing."""
    values = {"x": 1, "password": "hunter2", "o": OBJECT, "f": 1.5, "n": None}
    text = '{"x": "int", "password": "str", "o": "object", "f": "float", "n": "NoneType"}'
    assert capture(values, 256, redactor=REDACTOR, mode="keys") == Captured(text, truncated=False, redacted=False)
    assert capture(values, 256, mode="none") == Captured("{}", truncated=False, redacted=False)


# --- what values show as -------------------------------------------------------------------------------------------

UTC = datetime.timezone.utc


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (OBJECT, "<object>"),
        (Color.RED, "red"),
        (Color.NONE, None),
        (Color.PAIR, [1, 2]),
        (Level.LOW, 1),
        (Mixed.A, "a"),
        (b"123", "<bytes: 3>"),
        (bytearray(4), "<bytearray: 4>"),
        (memoryview(b"12"), "<memoryview: 2>"),
        ({1}, [1]),
        (frozenset({"a"}), ["a"]),
        ((1, (2,)), [1, [2]]),
        (Pair(1, 2), [1, 2]),
        (OrderedDict(a=1), {"a": 1}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (Counter("aab"), {"a": 2, "b": 1}),
        (datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), "2024-01-02T03:04:05+00:00"),
        (datetime.datetime(2024, 1, 2, 3, 4, 5), "2024-01-02T03:04:05"),  # noqa: DTZ001
        (datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=HostileZone()), "2024-01-02T03:04:05[HostileZone]"),
        (datetime.time(3, 4, tzinfo=HostileZone()), "03:04:00[HostileZone]"),
        (datetime.date(2024, 1, 2), "2024-01-02"),
        (datetime.timedelta(days=1), "1 day, 0:00:00"),
        (decimal.Decimal("1.50"), "1.50"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (pathlib.PurePosixPath("/a/b"), "/a/b"),
        (pathlib.PureWindowsPath("c:/a"), "c:\\a"),
        (pathlib.Path("a"), "a"),
        (1 + 2j, "(1+2j)"),
        (2**70, 2**70),
        (1 << 10_000_000, "<int: 10000001 bits>"),
        (Point(1), {"x": 1, "name": "p"}),
        (Slotted(1), {"x": 1, "password": MASK}),
        (object(), "<unserializable: object>"),
        (len, "<unserializable: builtin_function_or_method>"),
        (int, "<unserializable: type>"),
        (sys, "<unserializable: module>"),
        (iter([1]), "<unserializable: list_iterator>"),
        ((i for i in [1]), "<unserializable: generator>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_shows(value: object, shown: object) -> None:
    """Builtins, the standard library's values, enums and dataclasses show as what they hold; the rest by its type."""
    CALLED.clear()
    captured = capture({"v": value}, 256, redactor=REDACTOR)
    assert valid(captured, 256) == {"v": shown}
    assert not captured.truncated
    assert not CALLED


def test_subclasses_of_standard_types() -> None:
    """A subclass that redefines how it is written is not asked; one that does not is shown."""

    class Plain(datetime.datetime):
        pass

    class Own(datetime.datetime):
        isoformat = trap("isoformat")  # type: ignore[assignment]

    CALLED.clear()
    assert capture({"v": Plain(2024, 1, 2)}, 256).text == '{"v": "2024-01-02T00:00:00"}'
    assert capture({"v": Own(2024, 1, 2)}, 256).text == '{"v": "<unserializable: Own>"}'
    assert not CALLED


def test_type_names_are_bounded() -> None:
    """The name of a type takes at most 64 characters, and may hold anything."""
    huge = type('"é\n' * 1_000_000, (), {})
    shown = valid(capture({"v": huge()}, 4096), 4096)["v"]
    assert len(shown) <= 64 + len("<unserializable: >")


def test_pydantic() -> None:
    """A model shows its fields, not its properties; a secret type is masked even without a redactor."""
    pydantic = pytest.importorskip("pydantic")

    class Model(pydantic.BaseModel):
        x: int = 1
        key: pydantic.SecretStr = pydantic.SecretStr("hunter2")
        inner: dict[str, Any] = {"api_key": "hunter2"}  # noqa: RUF012 - pydantic copies it

        @pydantic.computed_field
        @property
        def costly(self) -> int:
            CALLED.append("costly")
            return 1

        def __repr__(self) -> str:
            CALLED.append("__repr__")
            return ""

    CALLED.clear()
    captured = capture({"m": Model(), "s": pydantic.SecretBytes(b"hunter2")}, 256, redactor=REDACTOR)
    assert valid(captured, 256) == {"m": {"x": 1, "key": MASK, "inner": {"api_key": MASK}}, "s": MASK}
    assert captured.redacted
    assert valid(capture({"s": pydantic.SecretStr("hunter2")}, 256), 256) == {"s": MASK}
    assert not CALLED


def test_numpy() -> None:
    """An array shows as type, shape and dtype, a NumPy number as the number."""
    np = pytest.importorskip("numpy", reason="needs numpy")
    values = {
        "a": np.zeros((1000, 3)),
        "f": np.float32(1.5),
        "i": np.int64(3),
        "b": np.bool_(True),
        "s": np.str_("x"),
        "d": np.datetime64("2024-01-01"),
        "o": np.array([object()]),
    }
    assert valid(capture(values, 1024), 1024) == {
        "a": "<ndarray (1000, 3) float64>",
        "f": 1.5,
        "i": 3,
        "b": True,
        "s": "x",
        "d": "2024-01-01",
        "o": "<ndarray (1,) object>",
    }

    class Own(np.ndarray):  # type: ignore[misc, name-defined]
        shape = property(trap("shape"))  # type: ignore[assignment]

    CALLED.clear()
    assert capture({"v": np.zeros(3).view(Own)}, 256).text == '{"v": "<unserializable: Own>"}'
    assert not CALLED


def test_frames() -> None:
    """A frame shows as type, shape and the dtypes of a few columns; a wide one without them."""
    pd = pytest.importorskip("pandas", reason="needs pandas")
    frame = pd.DataFrame({"a": range(10), "b": 1.5})
    assert capture({"v": frame}, 256).text == '{"v": "<DataFrame (10, 2) int64, float64>"}'
    assert capture({"v": pd.DataFrame([range(100)])}, 256).text == '{"v": "<DataFrame (1, 100)>"}'
    assert capture({"v": frame["a"]}, 256).text == '{"v": "<Series (10,) int64>"}'
    assert capture({"v": pd.Timestamp(0)}, 256).text == '{"v": "1970-01-01T00:00:00"}'


@pytest.mark.parametrize(
    ("library", "build", "digest"),
    [
        ("polars", lambda lib: lib.DataFrame({"a": [1], "b": ["x"]}), "<DataFrame (1, 2) Int64, String>"),
        ("polars", lambda lib: lib.Series([1.5]), "<Series (1,) Float64>"),
        ("pyarrow", lambda lib: lib.table({"a": [1]}), "<Table (1, 1) int64>"),
        ("pyarrow", lambda lib: lib.array([1]), "<Int64Array (1,) int64>"),
        ("scipy.sparse", lambda lib: lib.csr_matrix((3, 4)), "<csr_matrix (3, 4) float64>"),
        ("xarray", lambda lib: lib.DataArray([1]), "<DataArray (1,) int64>"),
        ("torch", lambda lib: lib.zeros(2, 3), "<Tensor (2, 3) float32>"),
        ("jax.numpy", lambda lib: lib.zeros((2, 3)), "<ArrayImpl (2, 3) float32>"),
    ],
)
def test_other_arrays(library: str, build: Callable[[Any], object], digest: str) -> None:
    """The arrays, frames and tensors of other libraries show as the same digest."""
    lib = pytest.importorskip(library, reason=f"needs {library}")
    assert valid(capture({"v": build(lib)}, 256), 256) == {"v": digest}


def test_a_library_is_known_by_its_class_not_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class that only says that it is a library's is not asked; the one that the library's module holds is."""
    tensor = type("Tensor", (), {"__module__": "torch", "shape": (2, 3), "dtype": "torch.float32"})
    taken = hostile(__module__="torch")
    module = types.ModuleType("torch")
    module.Tensor = tensor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", module)
    CALLED.clear()
    assert capture({"v": tensor()}, 256).text == '{"v": "<Tensor (2, 3) str>"}'
    assert capture({"v": object.__new__(taken)}, 256).text == '{"v": "<unserializable: Hostile>"}'
    assert not CALLED


# --- nobody else's code --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [32, 64, 256, 4096])
@pytest.mark.parametrize("mode", ["values", "keys"])
def test_no_code_of_a_users_class_runs(limit: int, mode: Any) -> None:
    """No method, property or metaclass of a user's class is called, wherever its instance stands."""
    made = hostile_values()
    CALLED.clear()
    for value in made:
        for values in ({"v": value}, {"l": [value, [value]]}, {"d": {"a": value}}, {"t": (value,), "u": value}):
            valid(capture(values, limit, redactor=REDACTOR, mode=mode), limit)
    assert not CALLED


def test_fields_are_read_past_every_property() -> None:
    """Fields come from the instance's own storage, even where a subclass hides it behind traps."""
    own = hostile(Point)
    made = object.__new__(own)
    object.__setattr__(made, "x", 5)
    CALLED.clear()
    assert capture({"v": made}, 256).text == '{"v": {"x": 5}}'
    assert not CALLED


def test_hostile_keys() -> None:
    """Keys of user's classes are shown by the builtin they inherit, or by their type, without a call."""

    class Key(str):
        __slots__ = ("armed",)

        def __hash__(self) -> int:
            return trap("__hash__")() if hasattr(self, "armed") else 1

        __str__ = __repr__ = __len__ = __iter__ = __getitem__ = trap("key")  # type: ignore[assignment]
        __eq__ = trap("__eq__")  # type: ignore[assignment]

    key = Key("password")
    values = {key: "hunter2"}
    key.armed = True
    CALLED.clear()
    assert capture(values, 256, redactor=REDACTOR).text == f'{{"password": "{MASK}"}}'
    assert not CALLED


def test_hostile_mapping() -> None:
    """A mapping that is no dict is not iterated, since that would run its code; a dict of any class is read as one."""
    made = object.__new__(hostile())
    own = dict.__new__(hostile(dict))
    dict.update(own, {"a": 1})
    CALLED.clear()
    assert capture(made, 64).text == '{"…": "<unserializable: Hostile>"}'  # type: ignore[arg-type]
    assert capture(own, 64).text == '{"a": 1}'  # type: ignore[arg-type]
    assert not CALLED


def test_an_enum_member_that_is_its_own_value() -> None:
    """An enum member whose value was set to itself, or to a hostile object, ends."""

    class Loop(enum.Enum):
        A = 1

    Loop.A.__dict__["_value_"] = Loop.A
    assert capture({"v": Loop.A}, 256).text == '{"v": "<unserializable: Loop>"}'


def test_what_raises_stays_with_its_value() -> None:
    """A buffer that was released, or an attribute of a library that raises, costs its own value only."""
    released = memoryview(b"x")
    released.release()
    assert capture({"v": released, "x": 1}, 256).text == '{"v": "<unserializable: memoryview>", "x": 1}'


def test_interrupts_pass() -> None:
    """KeyboardInterrupt is not swallowed: only an `Exception` is."""

    class Interrupting:
        def text(self, _: str) -> NoReturn:
            raise KeyboardInterrupt

        passes = text

    with pytest.raises(KeyboardInterrupt):
        capture({"a": "b"}, 256, redactor=Interrupting())  # type: ignore[arg-type]


def test_a_dict_that_changes_meanwhile() -> None:
    """Values that another thread changes all the time are shown somehow, and nothing is raised."""
    values: dict[str, Any] = {"inner": {}}
    stop = threading.Event()

    def change() -> None:
        at = 0
        while not stop.is_set():
            at += 1
            values[f"k{at % 50}"] = at
            values["inner"][at % 70] = at
            values.pop(f"k{(at * 7) % 50}", None)

    thread = threading.Thread(target=change, daemon=True)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        for _ in range(2000):
            valid(capture(values, 256, redactor=REDACTOR), 256)
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)


# --- redaction comes first -----------------------------------------------------------------------------------------


def test_a_secret_name_masks_its_value_at_any_depth() -> None:
    """What stands under a name that looks secret is masked whole, whatever it is and however deep."""
    values = {"password": {"a": 1}, "n": {"api_key": [1, 2], "l": [{"accessToken": b"x", "token_count": 5}]}}
    captured = capture(values, 256, redactor=REDACTOR)
    assert valid(captured, 256) == {
        "password": MASK,
        "n": {"api_key": MASK, "l": [{"accessToken": MASK, "token_count": 5}]},
    }
    assert captured.redacted
    for secret in ("x", 1, None, [], {"a": 1}):
        for values, text in (
            ({"password": secret}, f'{{"password": "{MASK}"}}'),
            ({"n": {"api_key": secret}}, f'{{"n": {{"api_key": "{MASK}"}}}}'),
            ({"l": [({"cookie": secret},)]}, f'{{"l": [[{{"cookie": "{MASK}"}}]]}}'),
        ):
            assert capture(values, 256, redactor=REDACTOR) == Captured(text, truncated=False, redacted=True)
    assert not capture({"token_count": 5}, 256, redactor=REDACTOR).redacted


SECRETS = [
    ("AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
    ("ghp_16C7e42F292c6912E7710c838347Ae178B4a", "16C7e42F292c6912E7710c838347Ae178B4a"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N", "eyJhbGciOiJIUzI1NiJ9"),
    (f"eyJ{'hbGciOiJI' * 400}", "hbGciOiJI" * 400),
    (f"postgres://user:{'s3cr3tPa55' * 20}@host/db", "s3cr3tPa55" * 20),
    (f"https://{'t0k3nt0k3n' * 100}@host/db", "t0k3nt0k3n" * 100),
    ("-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEowIBAAKCAQEA\n" * 400, "MIIEowIBAAKCAQEA"),
    (f"password={'hunter2hunter2' * 100}", "hunter2hunter2"),
    (f'"api_key": "{"hunter2hunter2" * 100}"', "hunter2hunter2"),
    (f"Authorization: Bearer {'hunter2hunter2' * 100}", "hunter2hunter2"),
    ("4111 1111 1111 1111", "4111 1111 1111 1111"),
    ("literal-secret-of-the-manager" * 40, "literal-secret-of-the-manager" * 40),
]


@pytest.mark.parametrize(("text", "part"), SECRETS, ids=[part[:8] for _, part in SECRETS])
def test_a_secret_at_the_cut_leaks_nothing(text: str, part: str) -> None:
    """Wherever a cut falls, a secret leaves no part of itself of five characters."""
    redactor = REDACTOR.with_secrets([text]) if text.startswith("literal") else REDACTOR
    pieces = {part[at : at + 5] for at in range(min(len(part) - 4, 60))}
    for before in range(280):
        padded = "." * before + " " + text + " ;" * 1000
        for values in ({"v": padded}, {"v": padded, "w": [padded, padded], "x": 1}, {"v": {"w": padded}}):
            shown = capture(values, 256, redactor=redactor).text
            assert not any(piece in shown for piece in pieces)


def test_keys_are_masked_too() -> None:
    """A secret inside a key is masked as well."""
    captured = capture({"AKIAIOSFODNN7EXAMPLE": 1, "x" * 300 + " password=hunter2": 2}, 1024, redactor=REDACTOR)
    assert "AKIA" not in captured.text
    assert "hunter2" not in captured.text
    assert captured.redacted


def test_numbers_are_masked_too() -> None:
    """A number that is a card's, or a literal secret, is masked in each container."""
    redactor = REDACTOR.with_secrets(["123456"])
    captured = capture({"a": 4111111111111111, "l": [123456, 123457], "f": 123456.0}, 256, redactor=redactor)
    assert valid(captured, 256) == {"a": MASK, "l": [MASK, 123457], "f": f"{MASK}.0"}


# --- the cost ------------------------------------------------------------------------------------------------------


def shapes(scale: int) -> dict[str, dict[str, Any]]:
    """Values of each shape, of a size in proportion to `scale`."""
    return {
        "text": {"v": "x" * (10 * scale)},
        "wide text": {"v": "\U0001f600" * scale},
        "escapes": {"v": "\x00" * scale},
        "bytes": {"v": b"x" * (100 * scale)},
        "list": {"v": list(range(scale))},
        "list of texts": {"v": ["text " * 100] * scale},
        "tuple": {"v": (1.5,) * scale},
        "set": {"v": set(range(scale))},
        "dict": {"v": dict.fromkeys(range(scale))},
        "mapping": {f"key{i}": i for i in range(scale)},
        "mapping of texts": dict.fromkeys((f"key{i}" for i in range(scale)), "text " * 100),
        "long keys": {"k" * scale: 1, "l" * scale: 2},
        "int": {"v": 1 << (8 * scale)},
        "decimal": {"v": decimal.Decimal("1" * scale)},
        "objects": {"v": [object()] * scale},
    }


@pytest.mark.parametrize("shape", shapes(1))
def test_the_cost_does_not_grow_with_the_value(shape: str) -> None:
    """A value a hundred times as large takes not one call more, and no more memory."""
    small, large = shapes(10_000)[shape], shapes(1_000_000)[shape]

    def work(values: dict[str, Any]) -> Callable[[], object]:
        return lambda: capture(values, 256, redactor=REDACTOR)

    for values in (small, large):
        work(values)()  # names are cached
    # The masks are in the same places but where the digits of a number differ.
    assert abs(calls(work(large)) - calls(work(small))) <= 2
    assert peak(work(large)) <= 16 * 1024


def test_memory() -> None:
    """Nothing takes more than 16 kB beyond the value at a limit of 256 bytes: deep, cyclic, wide or hostile."""
    branching: Any = 1
    for _ in range(6):
        branching = [branching] * 32
    for value in (deep(2000), cyclic(), branching, hostile_values(), [Point(1)] * 100, list(Color) * 100):
        assert peak(lambda value=value: capture({"v": value}, 256, redactor=REDACTOR)) <= 16 * 1024


def test_the_cost_is_of_the_order_of_the_limit() -> None:
    """Sixteen times the limit takes at most twenty times the calls."""
    values = {f"key{i}": "text " * 100 for i in range(10_000)}
    for limit in (256, 4096):
        capture(values, limit, redactor=REDACTOR)
    assert calls(lambda: capture(values, 4096, redactor=REDACTOR)) <= 20 * calls(
        lambda: capture(values, 256, redactor=REDACTOR)
    )


# --- texts ---------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.text(st.characters(), max_size=200), st.integers(0, 200))
def test_clip(text: str, limit: int) -> None:
    """A clipped text is valid UTF-8 within the limit, the text itself where it fits, and marked where it is cut."""
    clipped = clip(text, limit)
    assert len(clipped.encode()) <= limit
    whole = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    if len(whole.encode()) <= limit:
        assert clipped == whole
    else:
        assert clipped == "" if limit < 3 else clipped.endswith("…") and whole.startswith(clipped[:-1])


@settings(deadline=None)
@given(st.text(st.characters(), max_size=300), st.integers(0, 128))
def test_fold(text: str, limit: int) -> None:
    """A folded text is one line of printable, encodable characters, and never longer than asked."""
    folded = fold(text, limit)
    assert len(folded) <= limit
    folded.encode()
    assert len(folded.splitlines()) <= 1
    assert not any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in folded)


def test_fold_of_a_command() -> None:
    """Whitespace becomes single blanks, ANSI sequences and what reorders a line go, the first characters stay."""
    assert fold("  echo \\\n\t'a'  \x1b[1;31mb\x1b[0m \u202ec\x00 ", 100) == "echo \\ 'a' b c"
    command = "echo  hello &&\n" * 100
    assert fold(command, 100) == " ".join(command.split())[:100]


def test_texts_of_any_size_cost_the_same() -> None:
    """`clip` and `fold` read the beginning only, also of a subclass, and call nothing of it."""
    own = str.__new__(hostile(str), "x" * 100)
    CALLED.clear()
    assert (clip(own, 10), fold(own, 3)) == ("xxxxxxx…", "xxx")
    assert not CALLED
    for function in (clip, fold):
        huge = "word\n" * 10_000_000
        assert peak(lambda function=function, huge=huge: function(huge, 128)) <= 32 * 1024
