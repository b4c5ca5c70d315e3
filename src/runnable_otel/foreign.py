"""What stands for a value of a class that JSON does not know, found out without running any code of a user's class.

A class can redefine everything that Python usually asks: `__class__`, `__dict__`, `__getattribute__`, its metaclass's
`__hash__` and `__mro__`. So everything is read through `type(value)` and the slots of `type` itself, and a method is
called only if the class that defines it is the one that `sys.modules` holds by its name. No library is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from enum import Enum
from itertools import islice
from types import GetSetDescriptorType, MappingProxyType, MemberDescriptorType, ModuleType
from typing import Any, Final, cast

__all__ = ["OBJECT", "SECRET", "Digest", "builtin_base", "class_of", "plain", "type_name"]

_Text = Callable[[Any, Any], str]

class_of = cast("Callable[[object], type[object]]", type)
"""`type` of one argument, for a type checker that does not know what the type of `Any` is."""
_mro = cast("Callable[[type], tuple[type, ...]]", type.__dict__["__mro__"].__get__)
_names = cast("Callable[[type], MappingProxyType[str, Any]]", type.__dict__["__dict__"].__get__)
_name = cast("Callable[[type], str]", type.__dict__["__name__"].__get__)
_module = cast("Callable[[type], object]", type.__dict__["__module__"].__get__)
_contents = cast("Callable[[ModuleType], dict[str, Any]]", vars(ModuleType)["__dict__"].__get__)


class _Object:
    """The type of `OBJECT`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "OBJECT"


OBJECT: Final = _Object()
"""In place of a value that runnable keeps as an object: shown as `"<object>"`."""
SECRET: Final = object()
"""Stands for a value that says itself that it is secret."""
_NOTHING: Final = object()


class Digest(str):
    """A text of ours in place of a value, such as `<unserializable: Type>`: there is no secret in it."""

    __slots__ = ()


_OBJECT: Final = Digest("<object>")
_MAX_ENUMS: Final = 4  # an enum member may be the value of another, or its own

_BUILTINS: Final = frozenset(
    {str, int, float, complex, bytes, bytearray, memoryview, list, tuple, set, frozenset, dict}
)
_MAX_BASES: Final = 32
_MAX_FIELDS: Final = 33  # one more than is ever shown, so that the cut is seen
_MAX_COLUMNS: Final = 8
_MAX_TYPE_NAME: Final = 64

_STANDARD: Final = frozenset({"datetime", "decimal", "pathlib", "uuid", "zoneinfo"})
_ARRAYS: Final = frozenset(
    {"cupy", "dask", "geopandas", "jax", "jaxlib", "numpy", "pandas", "polars", "pyarrow", "scipy", "sparse"}
    | {"tensorflow", "torch", "xarray"}
)
_MODELS: Final = frozenset({"pydantic", "starlette"})
_KNOWN: Final = _STANDARD | _ARRAYS | _MODELS
_SECRETS: Final = frozenset({"pydantic.SecretStr", "pydantic.SecretBytes", "pydantic.Secret", "starlette.Secret"})
# Time zones whose arithmetic is known to be short; another one's may run for as long as it likes.
_ZONES: Final = frozenset({"datetime.timezone", "zoneinfo.ZoneInfo"})


def type_name(kind: type) -> str:
    """The bare name of a class, at most 64 characters."""
    return str.__getitem__(_name(kind), slice(0, _MAX_TYPE_NAME))  # the name may be of a subclass of str


def builtin_base(kind: type) -> type | None:
    """The builtin whose slots a class inherits; looks up only classes of metaclass `type`, whose hash is C code."""
    for base in _mro(kind)[:_MAX_BASES]:
        if type(base) is type and base in _BUILTINS:
            return base
    return None


def plain(value: object) -> object:
    """What to show in place of a value.

    Returns:
        Itself if it is a builtin of JSON's kinds, bytes or a set, or of a class that inherits one; a `str`, `int`,
        `float` or `bool`; a `dict` of at most 33 field names and values (dataclasses, pydantic models); of an enum
        member its value; a `Digest`; or `SECRET`. Never raises an `Exception`.
    """
    kind = class_of(value)
    if kind is str or kind is dict or kind is list:
        return value
    for _ in range(_MAX_ENUMS):
        if value is None or kind is bool or (not _is_enum(kind) and builtin_base(kind)) or value is SECRET:
            return value
        if kind is _Object:
            return _OBJECT
        try:
            value, last = _plain(value, kind), kind
        except Exception:  # noqa: BLE001 - an array library's attribute may raise anything (a deleted buffer, say)
            value, last = _NOTHING, kind
        kind = class_of(value)
        if value is _NOTHING:
            return Digest(f"<unserializable: {type_name(last)}>")
    return Digest(f"<unserializable: {type_name(kind)}>")


def _is_enum(kind: type) -> bool:
    return type(kind) is not type and issubclass(kind, Enum)  # asks EnumType, which inherits type's C code


def _plain(value: object, kind: type) -> object:
    line = _mro(kind)[:_MAX_BASES]
    if _is_enum(kind):
        return (_instance_dict(value, line) or {}).get("_value_", _NOTHING)
    for at, base in enumerate(line):
        name = _known(base)
        if not name:
            continue
        if name in _SECRETS:
            return SECRET
        if name in _TEXTS:
            text, overridable = _TEXTS[name]
            return _NOTHING if _redefined(line[:at], overridable) else text(base, value)
        if name == "pydantic.BaseModel":
            return _fields(value, line, ("__pydantic_fields__", "model_fields", "__fields__"))
        if at == 0 and name.partition(".")[0] in _ARRAYS:
            return _array(value, name)
    return _fields(value, line, ("__dataclass_fields__",))


def _known(kind: type) -> str:
    """`library.Class` when `sys.modules` holds this very class by its name, else empty: a name alone can be taken."""
    module = _module(kind)
    if type(module) is not str:
        return ""
    root = module.partition(".")[0]
    holder = sys.modules.get(module) if root in _KNOWN else None
    if not issubclass(type(holder), ModuleType):
        return ""
    name = type_name(kind)
    return f"{root}.{name}" if _contents(cast("ModuleType", holder)).get(name) is kind else ""


def _redefined(line: Iterable[type], methods: tuple[str, ...] | None) -> bool:
    """Whether one of these subclasses redefines what the text is made of; None: any subclass may."""
    return any(methods is None or any(method in _names(base) for method in methods) for base in line)


# --- fields --------------------------------------------------------------------------------------------------------


def _instance_dict(value: object, line: Iterable[type]) -> dict[str, object] | None:
    """The real `__dict__`: a class may have a property of that name."""
    for base in line:
        slot = _names(base).get("__dict__")
        if type(slot) is GetSetDescriptorType:
            found = slot.__get__(value)
            return cast("dict[str, object]", found) if type(found) is dict else None
    return None


def _slot(value: object, line: Iterable[type], name: str) -> object:
    """The content of a slot; raises AttributeError where it is empty, as the slot does."""
    for base in line:
        slot = _names(base).get(name)
        if type(slot) is MemberDescriptorType:
            return slot.__get__(value)
    raise AttributeError(name)


def _fields(value: object, line: tuple[type, ...], tables: tuple[str, ...]) -> object:
    """Names and values of the fields that a class declares in one of these tables."""
    for base in line:
        for table in tables:
            declared = _names(base).get(table)
            if type(declared) is dict:
                return _read(value, line, cast("dict[str, object]", declared))
    return _NOTHING


def _read(value: object, line: tuple[type, ...], declared: dict[str, object]) -> dict[str, object]:
    """The values of declared fields, from where the instance keeps them: no property runs."""
    own = _instance_dict(value, line) or {}
    fields: dict[str, object] = {}
    for name in islice(declared, _MAX_FIELDS):
        if type(name) is not str:
            continue
        try:
            fields[name] = own[name] if name in own else _slot(value, line, name)
        except AttributeError:  # a field without a value, or a ClassVar
            continue
    return fields


# --- texts of the standard library ---------------------------------------------------------------------------------


def _moment(base: Any, value: Any) -> str:
    zone = class_of(base.tzinfo.__get__(value))
    if zone is type(None) or _known(zone) in _ZONES:
        return base.isoformat(value)
    date = "".join(
        f"{parent.isoformat(value)}T" for parent in cast("tuple[Any, ...]", _mro(base)[1:-1])
    )  # of a datetime; a time has none
    clock = [getattr(base, part).__get__(value) for part in ("hour", "minute", "second")]
    return f"{date}{clock[0]:02}:{clock[1]:02}:{clock[2]:02}[{type_name(zone)}]"


def _decimal(base: Any, value: Any) -> str:
    size = base.__sizeof__(value)  # of its digits too, in O(1)
    return str(base.__str__(value)) if size <= 2048 else Digest(f"<Decimal: {size} bytes>")


def _iso(base: Any, value: Any) -> str:
    return base.isoformat(value)


def _str(base: Any, value: Any) -> str:
    return base.__str__(value)


# How each is written, and which methods a subclass must not redefine; None: it must not be a subclass at all.
_TEXTS: Final[dict[str, tuple[_Text, tuple[str, ...] | None]]] = {
    "datetime.datetime": (_moment, ("isoformat", "tzinfo")),
    "datetime.date": (_iso, ("isoformat",)),
    "datetime.time": (_moment, ("isoformat", "tzinfo")),
    "datetime.timedelta": (_str, ("__str__",)),
    "decimal.Decimal": (_decimal, ("__str__", "__sizeof__")),
    "uuid.UUID": (_str, ("__str__", "int", "__getattribute__", "__getattr__")),
    "pathlib.PosixPath": (_str, None),
    "pathlib.WindowsPath": (_str, None),
    "pathlib.PurePosixPath": (_str, None),
    "pathlib.PureWindowsPath": (_str, None),
    "pandas.Timestamp": (_iso, None),
    "pandas.Timedelta": (_str, None),
    "pandas.NaTType": (_str, None),
}


# --- arrays, frames, tensors ---------------------------------------------------------------------------------------


_ARROW: Final = frozenset({"RecordBatch", "Table"})
_FRAMES: Final = frozenset({"DataFrame", "GeoDataFrame"}) | _ARROW


def _array(value: Any, known: str) -> object:
    """A digest of type, shape and dtype, such as `<ndarray (1000, 3) float64>`; of a NumPy scalar the number."""
    root, _, name = known.partition(".")
    if root == "numpy" and issubclass(type(value), sys.modules["numpy"].generic):
        return _scalar(value, name)
    shape = getattr(value, "shape", None)
    if shape is None and root == "xarray":
        shape = value.sizes.values()
    if shape is None and root == "pyarrow":
        return Digest(f"<{name} ({len(value)},) {_dtype(value.type)}>")
    if shape is None:
        return _NOTHING
    sizes = [str(size) if type(size) is int else "?" for size in islice(iter(shape), 8)]
    text = f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"
    return Digest(f"<{' '.join((name, text, *_dtypes(value, sizes)))}>")


def _scalar(value: Any, name: str) -> object:
    kind = value.dtype.kind
    number = value.item() if kind in "biufc" else None
    if type(number) in (int, float, bool):
        return number
    return str(value) if kind in "cmM" else Digest(f"<{name} () {_dtype(value.dtype)}>")


def _dtypes(value: Any, sizes: list[str]) -> list[str]:
    """The element type; for a frame of at most 8 columns each different one, in order."""
    if len(sizes) == 2 and type(value).__name__ in _FRAMES:
        if not sizes[1].isdigit() or int(sizes[1]) > _MAX_COLUMNS:
            return []
        types: Iterable[object] = value.schema.types if type(value).__name__ in _ARROW else value.dtypes
        return [", ".join(dict.fromkeys(_dtype(each) for each in islice(types, _MAX_COLUMNS)))]
    dtype = getattr(value, "dtype", None)
    return [] if dtype is None else [_dtype(dtype)]


def _dtype(dtype: Any) -> str:
    kind = class_of(dtype)
    if issubclass(kind, type):  # polars has classes as element types
        kind = dtype
    module = _module(kind)
    root = module.partition(".")[0] if type(module) is str else ""
    if root not in _ARRAYS or root == "polars":  # polars' text of an Enum lists its categories
        return type_name(kind)
    name = getattr(dtype, "name", None) if root != "pyarrow" else None
    text: str = name if type(name) is str else str(dtype)
    return text.removeprefix("torch.")[:_MAX_TYPE_NAME]
