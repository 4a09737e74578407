"""Values come back from JSON as the types that were declared, and the same value has the same bytes."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import uuid
from decimal import Decimal
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durable.errors import EncodingError, ValueTooLarge
from durable.journal.codec import CorruptRow, ValueType, encode_value, pack, unpack_row
from durable.journal.entries import Command, Completion, EntryType, Failure, Start


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass(frozen=True)
class Line:
    name: str
    price: Decimal
    tags: frozenset[str] = frozenset()


@dataclasses.dataclass
class Order:
    number: uuid.UUID
    lines: list[Line]
    at: dt.datetime
    color: Color | None = None


class Point(msgspec.Struct, frozen=True):
    x: float
    y: int = 0


class Tagged(msgspec.Struct, tag="tagged", rename="camel"):
    some_name: str
    points: dict[str, Point]


class Options(TypedDict):
    level: Level
    note: NotRequired[str]


class Pair(NamedTuple):
    left: int
    right: str


@attrs.define(frozen=True)
class Spot:
    where: str
    when: dt.date


class Model(pydantic.BaseModel):
    name: str
    amount: Decimal
    tags: set[int] = set()
    inner: Line | None = None


TEXT = st.text(max_size=12)
WHEN = st.datetimes(timezones=st.just(dt.UTC))
PRICES = st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**6), max_value=10**6)
LINES = st.builds(Line, TEXT, PRICES, st.frozensets(TEXT, max_size=3))
POINTS = st.builds(Point, st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**53), 2**53))

CASES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "int": (int, st.integers()),
    "int as any": (Any, st.integers()),
    "float": (float, st.floats(allow_nan=False, allow_infinity=False)),
    "str": (str, st.text()),
    "bytes": (bytes, st.binary(max_size=60)),
    "none": (None, st.none()),
    "datetime": (dt.datetime, WHEN),
    "naive datetime": (dt.datetime, st.datetimes()),
    "date": (dt.date, st.dates()),
    "time": (dt.time, st.times()),
    "timedelta": (dt.timedelta, st.timedeltas(min_value=dt.timedelta(days=-9999), max_value=dt.timedelta(days=9999))),
    "decimal": (Decimal, st.decimals(allow_nan=False)),
    "uuid": (uuid.UUID, st.uuids()),
    "enum": (Color, st.sampled_from(Color)),
    "int enum": (Level, st.sampled_from(Level)),
    "literal": (Literal["a", "b"], st.sampled_from(["a", "b"])),
    "set": (set[int], st.sets(st.integers(0, 99))),
    "set of enums": (set[Color], st.sets(st.sampled_from(Color))),
    "frozenset of dataclasses": (frozenset[Line], st.frozensets(LINES, max_size=3)),
    "tuple": (tuple[int, str, Color], st.tuples(st.integers(0, 9), TEXT, st.sampled_from(Color))),
    "long tuple": (tuple[int, ...], st.lists(st.integers(0, 9)).map(tuple)),
    "named tuple": (Pair, st.builds(Pair, st.integers(0, 9), TEXT)),
    "dict by int": (dict[int, str], st.dictionaries(st.integers(-9, 9), TEXT)),
    "dict by enum": (dict[Color, list[int]], st.dictionaries(st.sampled_from(Color), st.lists(st.integers(0, 9)))),
    "typed dict": (Options, st.fixed_dictionaries({"level": st.sampled_from(Level)}, optional={"note": TEXT})),
    "dataclass": (Line, LINES),
    "nested dataclass": (
        Order,
        st.builds(Order, st.uuids(), st.lists(LINES, max_size=3), WHEN, st.none() | st.sampled_from(Color)),
    ),
    "struct": (Point, POINTS),
    "tagged struct": (Tagged, st.builds(Tagged, TEXT, st.dictionaries(TEXT, POINTS, max_size=3))),
    "attrs": (Spot, st.builds(Spot, TEXT, st.dates())),
    "pydantic": (Model, st.builds(Model, name=TEXT, amount=PRICES, tags=st.sets(st.integers(0, 9)), inner=st.none() | LINES)),
    "list of pydantic": (list[Model], st.lists(st.builds(Model, name=TEXT, amount=PRICES), max_size=2)),
    "optional": (Line | None, st.none() | LINES),
    "object": (list[object], st.lists(st.integers(0, 9) | TEXT)),
}


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_value_comes_back_as_its_type(case: str, data: st.DataObject) -> None:
    annotation, strategy = CASES[case]
    value = data.draw(strategy)
    encoded = encode_value(value)
    back = ValueType(annotation).decode(encoded)
    assert back == value
    assert type(back) is type(value)
    assert encode_value(back) == encoded


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"order": {"lines": [1, lambda: 0]}}, r"value\['order'\]\['lines'\]\[1\]"),
        (Order(uuid.UUID(int=1), [object()], dt.datetime.now(dt.UTC)), r"value\.lines\[0\]"),  # type: ignore[list-item]
        ([1.0, float("nan")], r"value\[1\] is not a finite number"),
        ({"a": Point(float("inf"))}, r"value\['a'\]\.x is not a finite"),
        ("half \ud800", "value cannot be recorded"),
        (3 + 4j, "value cannot be recorded"),
        ({"k": Color}, r"value\['k'\]"),
        ((n for n in range(3)), "value cannot be recorded"),
    ],
)
def test_what_has_no_json_form_is_refused_by_its_place(value: Any, place: str) -> None:
    with pytest.raises(EncodingError, match=place):
        encode_value(value)


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(EncodingError):
        encode_value(loop)


def test_a_large_value_is_taken_and_a_larger_one_refused() -> None:
    million = "x" * 1_000_000
    assert ValueType(str).decode(encode_value(million)) == million
    with pytest.raises(ValueTooLarge, match="1,000,002 bytes"):
        encode_value(million, bytes_max=1_000_000)


def test_json_that_does_not_fit_names_the_type() -> None:
    with pytest.raises(EncodingError, match="Line"):
        ValueType(Line).decode(b'{"name":1}')
    with pytest.raises(EncodingError, match="cannot come back"):
        ValueType(set[list[int]] | dict[str, int] | Line)


FAILURES = st.builds(Failure, TEXT, TEXT, TEXT)
ROWS = st.one_of(
    st.builds(Command, st.sampled_from(EntryType), TEXT, st.binary(max_size=30), st.integers(0, 2**60), TEXT),
    st.builds(Completion, st.integers(-1, 2**31), st.none() | st.binary(max_size=30), st.integers(0, 2**60), st.none() | FAILURES),
    st.builds(Start, TEXT, st.integers(1, 9), st.binary(max_size=30), st.integers(0, 2**60), TEXT, st.binary(max_size=8)),
)


@given(ROWS, st.data())
def test_a_row_comes_back_and_one_flipped_bit_is_seen(row: Any, data: st.DataObject) -> None:
    packed = pack(row)
    assert unpack_row(packed) == row
    bit = data.draw(st.integers(0, len(packed) * 8 - 1))
    flipped = bytearray(packed)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptRow):
        unpack_row(bytes(flipped))
    with pytest.raises(CorruptRow):
        unpack_row(packed[: data.draw(st.integers(0, len(packed) - 1))])
