"""Values to JSON and back; rows to bytes and back.

A value crosses a journal as JSON, because a person will read it there, and comes back as the type that the function or the
workflow declares. Never pickle: a journal outlives the classes of its day. msgspec does the work (dataclasses, Structs,
TypedDicts, attrs, enums, dates, Decimal, UUID, bytes); pydantic models come in through a hook.

Three traps are closed here. A set has no order, so it is written sorted: the same value must give the same bytes in every
process. JSON has no NaN, and msgspec would write null: that is refused. And a failure to encode names the place in the
value, because "cannot encode function" helps nobody who passes an order with forty fields.

A row is msgpack behind a CRC-32 of it: one flipped byte is then an error with a name and not a strange value.

Read next: `durable.journal.failures`, how an exception is recorded.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import math
import types
import typing
import uuid
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Generic, TypeVar
from zlib import crc32

import msgspec

from durable.errors import EncodingError, ValueTooLarge
from durable.journal.entries import Row

T = TypeVar("T")
VALUE_BYTES_MAX = 16 * 1024 * 1024
MISSING: Any = object()
"""No value was given, which None cannot say: None is a value."""


# --- values ---------------------------------------------------------------------------------------------------------


def _enc_hook(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return _sort_like(dump(mode="json"), dump(mode="python"))
    raise TypeError(f"{type(value).__qualname__} has no JSON form")


def _sort_like(json_value: Any, value: Any) -> Any:
    """What pydantic made a list of, and was a set, in an order of its own."""
    if isinstance(value, set | frozenset) and isinstance(json_value, list):
        return sorted(json_value, key=_encode)
    if isinstance(value, dict) and isinstance(json_value, dict) and len(value) == len(json_value):
        return {key: _sort_like(item, value[of]) for (key, item), of in zip(json_value.items(), value, strict=True)}
    if isinstance(value, list | tuple) and isinstance(json_value, list) and len(value) == len(json_value):
        return [_sort_like(item, of) for item, of in zip(json_value, value, strict=True)]
    return json_value


def _dec_hook(wanted: Any, value: Any) -> Any:
    if wanted is object:  # as good as Any
        return value
    validate = getattr(wanted, "model_validate", None)
    if callable(validate):
        return validate(value)
    raise TypeError(f"cannot make a {getattr(wanted, '__qualname__', wanted)} from JSON")


_encode = msgspec.json.Encoder(enc_hook=_enc_hook).encode
_encode_sorted = msgspec.json.Encoder(enc_hook=_enc_hook, order="deterministic").encode
_SCALARS = frozenset({int, str, float, bool, type(None), bytes})
_NO_SETS = frozenset({datetime.datetime, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID, ...})


def encode_value(value: Any, what: str = "value", bytes_max: int = VALUE_BYTES_MAX) -> bytes:
    """JSON bytes of ``value``; ``what`` names it in an error.

    Raises `EncodingError` naming the place inside the value that has no JSON form, `ValueTooLarge` above ``bytes_max``.

    >>> encode_value({"total": 12, "tags": {"b", "a"}})
    b'{"tags":["a","b"],"total":12}'
    """
    try:
        data = _encode_sorted(_sort_sets(value)) if _holds_set(value) else _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError, AttributeError) as error:
        raise EncodingError(
            f"{_find(value, what)} cannot be recorded: {error}. Nothing was recorded; give it a type that has a JSON form "
            "(dataclass, msgspec.Struct, TypedDict, attrs, enum, pydantic model, or plain values)."
        ) from error
    if len(data) > bytes_max:
        raise ValueTooLarge(
            f"{what} takes {len(data):,} bytes of JSON, and value_bytes_max is {bytes_max:,}. Nothing was recorded; keep "
            "large data in a file or an object store and pass its name."
        )
    if b"null" in data:
        place = _find_nan(value, what)
        if place:
            raise EncodingError(f"{place} is not a finite number, and JSON has no other. Nothing was recorded.")
    return data


def _holds_set(value: Any) -> bool:
    """Whether a set may be inside. On the way of every value, so no generators here."""
    kind = type(value)
    if kind in _SCALARS:
        return False
    if kind is dict:
        for item in value.values():
            if type(item) not in _SCALARS and _holds_set(item):
                return True
        return False
    if kind is list or kind is tuple:
        for item in value:
            if type(item) not in _SCALARS and _holds_set(item):
                return True
        return False
    return kind is set or kind is frozenset or _type_may_hold_set(kind)  # type: ignore[arg-type]


@lru_cache(maxsize=4096)
def _type_may_hold_set(kind: type) -> bool:
    return _hint_may_hold_set(kind, ())


def _hint_may_hold_set(hint: Any, above: tuple[Any, ...]) -> bool:
    """Whether values of this declared type may have a set in them; when it cannot be told, they may."""
    if hint in _SCALARS or hint in _NO_SETS or hint in above:
        return False
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return False
    if origin in (list, dict, tuple, typing.Union, types.UnionType, typing.Annotated):
        return any(_hint_may_hold_set(part, above) for part in inner[: 1 if origin is typing.Annotated else None])
    if not isinstance(hint, type) or issubclass(hint, enum.Enum):
        return not (isinstance(hint, type) or hint is ...)
    if not (dataclasses.is_dataclass(hint) or hasattr(hint, "__struct_fields__") or hasattr(hint, "__attrs_attrs__")):
        return True  # a NamedTuple, a subclass of dict, a pydantic model: too many kinds to know
    try:
        return any(_hint_may_hold_set(part, (*above, hint)) for part in typing.get_type_hints(hint).values())
    except Exception:  # a name that cannot be found now
        return True


def _sort_sets(value: Any) -> Any:
    """Sets whose members Python cannot put in order (enums, dataclasses, sets) as lists in the order of their JSON."""
    kind = type(value)
    if kind is set or kind is frozenset:
        kinds = {type(item) for item in value}
        if len(kinds) <= 1 and kinds <= _SCALARS:
            return value
        return [msgspec.Raw(data) for data in sorted(_encode_sorted(_sort_sets(item)) for item in value)]
    if isinstance(value, dict):
        return {key: _sort_sets(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_sort_sets(item) for item in value]
    if dataclasses.is_dataclass(value) and kind.__dataclass_fields__.keys() == getattr(value, "__dict__", {}).keys():
        return {key: _sort_sets(item) for key, item in value.__dict__.items()}
    return value


def _children(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f"[{key!r}]", item) for key, item in value.items()]
    if isinstance(value, list | tuple | set | frozenset):
        return [(f"[{index}]", item) for index, item in enumerate(value)]
    if dataclasses.is_dataclass(value):
        return [(f".{field.name}", getattr(value, field.name, None)) for field in dataclasses.fields(value)]
    names = getattr(value, "__struct_fields__", None) or [a.name for a in getattr(value, "__attrs_attrs__", ())]
    return [(f".{name}", getattr(value, name, None)) for name in names]


def _find(value: Any, place: str, depth: int = 0) -> str:
    """The place of the innermost part that cannot be encoded."""
    if depth < 50:
        for name, item in _children(value):
            try:
                _encode(item)
            except Exception:
                return _find(item, place + name, depth + 1)
    return place


def _find_nan(value: Any, place: str, depth: int = 0) -> str | None:
    if isinstance(value, float):
        return None if math.isfinite(value) else place
    if depth < 50:
        for name, item in _children(value):
            found = _find_nan(item, place + name, depth + 1)
            if found:
                return found
    return None


class ValueType(Generic[T]):
    """How values of one declared type come back from JSON.

    >>> ValueType(list[int]).decode(b"[1,2]")
    [1, 2]
    """

    __slots__ = ("_decode", "annotation")

    def __init__(self, annotation: Any = Any) -> None:
        self.annotation = annotation
        try:
            self._decode: Callable[[bytes], T] = msgspec.json.Decoder(annotation, dec_hook=_dec_hook).decode
        except (TypeError, RuntimeError) as error:  # a type that msgspec does not know how to build
            raise EncodingError(
                f"values of type {annotation!r} cannot come back from a journal: {error}. Declare another type."
            ) from error

    def decode(self, data: bytes, what: str = "value") -> T:
        """Raises `EncodingError` when the JSON does not fit the type."""
        try:
            return self._decode(data)
        except (msgspec.MsgspecError, TypeError, ValueError) as error:
            raise EncodingError(f"{what} does not fit the declared type {self.annotation!r}: {error}") from error


@lru_cache(maxsize=4096)
def _cached_type(annotation: Any) -> ValueType[Any]:
    return ValueType(annotation)


def value_type(annotation: Any) -> ValueType[Any]:
    """The `ValueType` of an annotation, made once."""
    try:
        return _cached_type(annotation)
    except TypeError:  # an annotation that cannot be hashed
        return ValueType(annotation)


ANY: ValueType[Any] = ValueType(Any)


# --- rows -----------------------------------------------------------------------------------------------------------

_pack = msgspec.msgpack.Encoder().encode
_unpack_row: Callable[[bytes], Row] = msgspec.msgpack.Decoder(Row).decode


class CorruptRow(Exception):
    """The bytes of a row are not those that were written. Whoever knows the workflow and the index says so."""


def pack(row: Any) -> bytes:
    """A row as bytes, checksum first."""
    data = _pack(row)
    return crc32(data).to_bytes(4, "big") + data


def unpack_row(data: bytes) -> Row:
    """A journal row from its bytes. Raises `CorruptRow`."""
    body = data[4:]
    if crc32(body).to_bytes(4, "big") != data[:4]:
        raise CorruptRow("its checksum does not match")
    try:
        return _unpack_row(body)
    except msgspec.MsgspecError as error:
        raise CorruptRow(str(error)) from error


class RowType(Generic[T]):
    """Packs and unpacks rows of the other tables."""

    __slots__ = ("_decode",)

    def __init__(self, annotation: type[T]) -> None:
        self._decode = msgspec.msgpack.Decoder(annotation).decode

    def unpack(self, data: bytes) -> T:
        """Raises `CorruptRow`."""
        body = data[4:]
        if crc32(body).to_bytes(4, "big") != data[:4]:
            raise CorruptRow("its checksum does not match")
        try:
            return self._decode(body)
        except msgspec.MsgspecError as error:
            raise CorruptRow(str(error)) from error
