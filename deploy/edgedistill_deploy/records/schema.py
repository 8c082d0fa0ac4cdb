"""A dataclass is the only definition of a record: it says how to write it, how to read it, and which values are valid.

An annotation says which values are accepted: `Share` and `Time` are numbers within bounds, a plain `int` is a count. A
field with a default may be missing. The fields of a `FLAT` field are placed beside its neighbours: the document is flat
and the dataclass is grouped. `writing.plain` writes by the same rules.
"""

import typing
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import cache, partial
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar, Union

from edgedistill_deploy.errors import DataError, UsageError, quote_value
from edgedistill_deploy.records import values as accept
from edgedistill_deploy.records.writing import FLAT, HIDDEN, SCHEMA, plain
from edgedistill_deploy.statistics.paired import Interval

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")
Read = Callable[[Any], Any]


def as_shares(value: Any) -> Interval:
    """Accept an interval of shares, or of differences of two."""
    low, high = accept.as_list(value)
    return accept.as_share(low), accept.as_share(high)


Share = Annotated[float, accept.as_share]
Shares = Annotated[Interval, as_shares]
Time = Annotated[float, accept.as_time]


class Record:
    """A dataclass that is written as a document of its `KIND`, and checked when it is read back."""

    __slots__ = ()
    KIND: ClassVar[str]

    def to_json(self) -> dict[str, Any]:
        """Return the record: its kind, schema 1, plain JSON values without NaN."""
        return {"kind": self.KIND, "schema": SCHEMA, **plain(self)}

    @classmethod
    def from_json(cls, document: Any) -> "Self":
        """Read a record from any source. Raises DataError that says what is wrong with it."""
        try:
            record = accept.as_mapping(document)
            if record.get("kind") != cls.KIND or record.get("schema") != SCHEMA:
                raise ValueError(f"it is not a {cls.KIND} record of schema {SCHEMA}")
            return read_as(cls, record)
        except KeyError as error:
            raise DataError(f"it has no {error.args[0]}") from error
        except (TypeError, ValueError, OverflowError, UsageError) as error:
            raise DataError(str(error).rstrip(".")) from error


def read_as(kind: type[T], document: Any) -> T:
    """Read an object into its dataclass. Raises KeyError for a missing field, else TypeError or ValueError."""
    found, values = accept.as_mapping(document), {}
    for name, read, is_flat, is_needed in _fields_of(kind):  # type: ignore[arg-type]  # a class is hashable
        if is_flat:
            values[name] = read(found)
        elif is_needed or name in found:
            values[name] = read(found[name])
    return kind(**values)


@cache
def _fields_of(kind: type[Any]) -> tuple[tuple[str, Read, bool, bool], ...]:
    """Return each field's name, its reader, whether it is flat, and whether it is needed."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return tuple(
        (
            each.name,
            _reader_of(hints[each.name], each.name),
            each.metadata == FLAT,
            each.default is MISSING and each.default_factory is MISSING,
        )
        for each in fields(kind)
        if each.metadata != HIDDEN
    )


def _reader_of(hint: Any, name: str) -> Read:
    """Return the function that accepts what an annotation allows."""
    if hint in _SIMPLE:
        return _SIMPLE[hint]
    if isinstance(hint, type) and is_dataclass(hint):
        return partial(read_as, hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return arguments[1]  # type: ignore[no-any-return]  # the reader stands beside the type
    if origin is Literal:
        return partial(_read_choice, arguments, name)
    if origin in (Union, UnionType):
        (inner,) = (each for each in arguments if each is not NoneType)
        return partial(accept.maybe, read=_reader_of(inner, name))
    if origin is not tuple:
        return partial(_read_mapping, _reader_of(arguments[1], name))
    if arguments[1] is Ellipsis:
        return partial(_read_items, _reader_of(arguments[0], name))
    return partial(_read_exactly, tuple(_reader_of(each, name) for each in arguments))


def _read_items(read: Read, value: Any) -> tuple[Any, ...]:
    return tuple(map(read, accept.as_list(value)))


def _read_exactly(readers: tuple[Read, ...], value: Any) -> tuple[Any, ...]:
    return tuple(read(item) for read, item in zip(readers, accept.as_list(value), strict=True))


def _read_mapping(read: Read, value: Any) -> dict[str, Any]:
    return {key: read(item) for key, item in accept.as_mapping(value).items()}


def _read_choice(known: tuple[str, ...], name: str, value: Any) -> str:
    if value not in known:
        raise ValueError(f"the {name} {quote_value(value)} is none of {', '.join(known)}")
    return str(value)


def _read_anything(value: Any) -> Any:
    return value


_SIMPLE: dict[Any, Read] = {
    str: accept.as_text,
    int: accept.as_count,
    float: accept.as_number,
    bool: accept.as_bool,
    Any: _read_anything,
    object: _read_anything,
}
