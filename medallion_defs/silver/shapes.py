"""The short way for JSON records: straight into the source's `Input`, and sure that no key stood twice.

A parser does not tell of a key that stands twice, but the number of quotes does: each key has two, each text two more,
and there are more of them if a key is lost. Working that number out for a record costs more than decoding it. So the
shapes of a file's records are learnt, objects within included: a decoder that requires just these keys says all that is
needed by not failing, if the record has no more quotes than they need.
"""

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from operator import itemgetter
from types import NoneType, UnionType
from typing import Annotated, Any, TypedDict, Union, get_args, get_origin

import msgspec

from medallion_defs.silver.exact_json import count_quotes, exact_number

MAX_TRIES = 256  # of learning a shape, per file: where no two records are alike, it is time lost
MAX_QUOTES = 1000  # of a shape

Decode = Callable[[bytes], Any]
# A JSON value, as far as its quotes go. None: it has none, such as a number; "text"; (n, kind): a list of n of one kind; (key, kind) of
# each part: an object.
Kind = None | str | tuple[int, "Kind"] | frozenset[tuple[str, "Kind"]]


class NoShapeError(Exception):
    """How many quotes a value has does not follow from its kind."""


class RecordDecoder:
    """Decodes the records of one file.

    Attributes:
        by_quotes: what to decode a record with that has so many quotes in its text. Sure if it does not fail. Grows as `decode` is used.
    """

    def __init__(self, input_type: type[msgspec.Struct]) -> None:
        self.by_quotes: dict[int, Decode] = {}
        self._input_type = input_type
        self._decode = msgspec.json.Decoder(input_type, float_hook=exact_number).decode
        self._seen: dict[int, Kind] = {}
        self._tries = MAX_TRIES

    def decode(self, raw: bytes, quotes: int) -> Any:
        """Decode a record whose text has so many quotes; None if a key may stand twice in it.

        Raises:
            msgspec.DecodeError: it is not JSON, or not of the source's `Input`.
            RecursionError: it is nested too deep.
        """
        record = self._decode(raw)
        parts = msgspec.json.decode(raw)
        if quotes != count_quotes(parts):
            return None
        if self._tries and quotes <= MAX_QUOTES and quotes not in self.by_quotes:
            self._learn(parts, quotes)
        return record

    def _learn(self, parts: dict[str, object], quotes: int) -> None:
        """Make a decoder for the second of two records of one shape: one that does not come again is not worth it."""
        self._tries -= 1
        try:
            shape = _kind_of(parts)
            if self._seen.get(quotes) == shape:
                self.by_quotes[quotes] = _make_shape(self._input_type, shape, frozenset(name for name in parts if parts[name] is None))
            self._seen[quotes] = shape
        except NoShapeError:
            pass


def _kind_of(value: object) -> Kind:
    """Return the kind of a decoded JSON value.

    Raises:
        NoShapeError: a list in it has parts of several kinds.
    """
    if type(value) is str:
        return "text"
    if type(value) is dict:
        return frozenset((key, _kind_of(part)) for key, part in value.items())
    if type(value) is not list:
        return None
    kinds = {_kind_of(part) for part in value}
    if len(kinds) > 1:
        raise NoShapeError
    kind = kinds.pop() if kinds else None
    return (len(value), kind) if kind else None


@lru_cache(maxsize=256)
def _make_shape(input_type: type[msgspec.Struct], shape: frozenset[tuple[str, Kind]], nulls: frozenset[str]) -> Decode:
    """Return the decoder of records that have these fields, the `nulls` among them without a value.

    Raises:
        NoShapeError: what quotes a field has does not follow from its type.
    """
    fields = {field.encode_name: field for field in msgspec.structs.fields(input_type)}
    required = []
    for name, kind in sorted(shape, key=itemgetter(0)):
        field = fields[name]
        required.append((field.name, NoneType if name in nulls else _field_type(field.type, kind)))
    made = msgspec.defstruct("Shape", required, bases=(input_type,), kw_only=True, gc=False)
    return msgspec.json.Decoder(made, float_hook=exact_number).decode


def _field_type(annotation: Any, kind: Kind) -> Any:
    declared = bare = _without_none(annotation)
    while get_origin(bare) is Annotated:
        bare = _without_none(get_args(bare)[0])
    if bare in (str, datetime, int, float, bool):
        return declared
    if bare != dict[str, Any]:
        raise NoShapeError
    return _type_of(kind) if kind else declared


def _type_of(kind: Kind) -> Any:
    """Return the type of what has at least the quotes of `kind`. Values come out of it as they do of `Any`."""
    if not kind:
        return Any
    if isinstance(kind, str):
        return str
    if isinstance(kind, frozenset):
        return TypedDict("Object", {key: _type_of(part) for key, part in kind})  # type: ignore[operator]  # keys of data
    return Annotated[list[_type_of(kind[1])], msgspec.Meta(min_length=kind[0])]  # type: ignore[misc]  # made at run time


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    return Union[tuple(part for part in get_args(annotation) if part is not NoneType)]  # noqa: UP007 - made at run time
