"""The short way for JSON records: straight into the source's `Input`, and sure that no key stood twice.

A parser does not tell of a key that stands twice, but the number of quotes does: each key has two, each text two more,
and there are more of them if a key is lost. Working that number out for a record costs as much as decoding it. So the
shapes of a file's records are learnt: a decoder that requires just these fields says all that is needed by not failing.
"""

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from itertools import compress, repeat
from operator import is_not
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from medallion_defs.silver.exact_json import count_quotes, exact_number

MAX_SHAPES = 64  # of a file

Decode = Callable[[bytes], Any]


class RecordDecoder:
    """Decodes the records of one file.

    Attributes:
        by_quotes: what to decode a record with that has so many quotes in its text. Sure if it does not fail. Grows as `decode` is used.
    """

    def __init__(self, input_type: type[msgspec.Struct]) -> None:
        self.by_quotes: dict[int, Decode | None] = {}
        self._input_type = input_type
        self._decode = msgspec.json.Decoder(input_type, float_hook=exact_number).decode
        quotes = [_quotes_of(field.type) for field in msgspec.structs.fields(input_type)]
        self._weights = [2 if number is None else number for number in quotes]
        # What a field of any other type holds is looked at: lists, objects, several types.
        self._open_places = [place for place, number in enumerate(quotes) if number is None]

    def decode(self, raw: bytes, quotes: int) -> Any:
        """Decode a record whose text has so many quotes; None if a key may stand twice in it.

        Raises:
            msgspec.DecodeError: it is not JSON, or not of the source's `Input`.
        """
        record = self._decode(raw)
        values = msgspec.structs.astuple(record)
        surplus = quotes - sum(compress(self._weights, map(is_not, values, repeat(None))))
        for place in self._open_places:
            if (value := values[place]) is not None:
                surplus -= count_quotes(value)
        if surplus:
            nulls = len(msgspec.json.decode(raw)) - len(values) + values.count(None)
            if surplus != 2 * nulls:
                return None
        if quotes not in self.by_quotes and len(self.by_quotes) < MAX_SHAPES:
            self.by_quotes[quotes] = _learn(self._input_type, raw, quotes)
        return record


def _learn(input_type: type[msgspec.Struct], raw: bytes, quotes: int) -> Decode | None:
    record = msgspec.json.decode(raw)
    nulls = frozenset(name for name, value in record.items() if value is None)
    shape_quotes, decode = _make_shape(input_type, frozenset(record), nulls)
    return decode if shape_quotes == quotes else None


@lru_cache(maxsize=256)
def _make_shape(input_type: type[msgspec.Struct], present: frozenset[str], nulls: frozenset[str]) -> tuple[int, Decode | None]:
    """Return how many quotes a record of the shape has, none of them escaped, and its decoder; None if a field's type does not say."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(input_type)}
    required, quotes = [], 0
    for name in sorted(present):
        type_ = NoneType if name in nulls else _without_none(fields[name].type)
        of_field = _quotes_of(type_)
        if of_field is None:
            return 0, None
        required.append((fields[name].name, type_))
        quotes += of_field
    made = msgspec.defstruct("Shape", required, bases=(input_type,), kw_only=True, gc=False)
    return quotes, msgspec.json.Decoder(made).decode


def _quotes_of(annotation: Any) -> int | None:
    """Return the quotes of one field, key and value; None where the type does not say."""
    bare = _without_none(annotation)
    while get_origin(bare) is Annotated:
        bare = _without_none(get_args(bare)[0])
    if bare in (str, datetime):
        return 4
    return 2 if bare in (int, float, bool, NoneType) else None


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    return Union[tuple(part for part in get_args(annotation) if part is not NoneType)]  # noqa: UP007 - made at run time
