"""From one record to one silver row, or to the reason why it cannot be one.

JSON takes a short way (bytes straight into the source's `Input`); whatever fails there, and everything else, takes the
long way, which says what is wrong. Where records come from is `extract.py`'s.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import msgspec

from medallion_defs.silver.contract import InvalidRecord, ItemFacts, RejectedRecord, reject
from medallion_defs.silver.exact_json import RenamedKeys, decode_exactly
from medallion_defs.silver.expressions import Expression, Filter, parse_object, parse_timestamp
from medallion_defs.silver.numbers import NumberStyle, parse_integer, parse_number
from medallion_defs.silver.recipes import Recipe
from medallion_defs.silver.shapes import RecordDecoder

Row = tuple[Any, ...]
Transform = Callable[[Any, ItemFacts], Row]

_MARK = b"\xef\xbb\xbf"
_GROUP = 128  # lines; one that is broken costs the others of its group what is saved
_BACKSLASH = 0x5C
_NUL_ESCAPE = rb"\u0000"
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000|\x00")
_RECORD_ERRORS = (InvalidRecord, msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class RowBuilder:
    """Makes one record a row, or says why not.

    Args:
        is_text: values come as text (CSV) and are cast to the types of `Input`.
        style: how the file writes numbers.
    """

    def __init__(
        self, input_type: type[msgspec.Struct], transform: Transform, recipe: Recipe, item: ItemFacts,
        *, is_text: bool, style: NumberStyle = "point",
    ) -> None:  # fmt: skip
        self._item = item
        self._transform = transform
        self._input_type = input_type
        self._decoder = RecordDecoder(input_type)
        self._is_canonical = not recipe.columns
        self._casts = _field_casts(input_type, style) if is_text or recipe.columns else {}
        self._fields, self._attributes = recipe.column_expressions(style), recipe.attribute_expressions(style)
        self._facts = recipe.used_facts
        self._known = recipe.ignore | (recipe.used_columns if recipe.columns else frozenset(input_type.__struct_fields__))

    def from_lines(self, first: int, lines: Sequence[bytes]) -> Iterator[Iterable[Row | RejectedRecord]]:
        """Make a row of each JSON text that is not blank, in groups. The hot path: 1.1 µs for 215 bytes, so measure before adding to it."""
        for start in range(0, len(lines), _GROUP):
            group = lines[start : start + _GROUP]
            yield self._from_alike(first + start, group) or self.one_by_one(first + start, group)

    def _from_alike(self, first: int, lines: Sequence[bytes]) -> list[Row] | None:
        """Make rows of records that have all one known shape; None if they have not.

        Counting the quotes of many at once costs half of counting those of each. It says as much: a record that fits the shape has
        no fewer than it, so where all fit and the sum is right, none has more.
        """
        quotes = lines[0].count(b'"')
        if (decode := self._decoder.by_quotes.get(quotes)) is None:
            return None
        text = b"".join(lines)
        if text.count(b'"') != quotes * len(lines) or _BACKSLASH in text:
            return None
        transform, item = self._transform, self._item
        try:
            return [(number,) + transform(decode(raw), item) for number, raw in enumerate(lines, first)]  # noqa: RUF005 - unpacking is slow
        except _RECORD_ERRORS:
            return None

    def one_by_one(self, first: int, lines: Iterable[bytes]) -> Iterator[Row | RejectedRecord]:
        """Make a row of each JSON text that is not blank, of whatever shape."""
        if not self._is_canonical:
            yield from (made for number, raw in enumerate(lines, first) if (made := self._explain_json(number, raw)) is not None)
            return
        decoders, transform, item = self._decoder.by_quotes.get, self._transform, self._item
        for number, raw in enumerate(lines, first):
            quotes = raw.count(b'"')
            # Looking for one byte, as a number, costs a tenth of looking for the escape itself.
            if (decode := decoders(quotes)) and (_BACKSLASH not in raw or _NUL_ESCAPE not in raw):
                try:
                    yield (number,) + transform(decode(raw), item)  # noqa: RUF005 - unpacking is twice as slow
                    continue
                except _RECORD_ERRORS:
                    pass
            if (row := self._decode_or_explain(number, raw, quotes)) is not None:
                yield row

    def _decode_or_explain(self, number: int, raw: bytes, quotes: int) -> Row | RejectedRecord | None:
        if _BACKSLASH not in raw or _NUL_ESCAPE not in raw:
            try:
                if (record := self._decoder.decode(raw, quotes)) is not None:
                    return (number, *self._transform(record, self._item))
            except _RECORD_ERRORS:
                pass
        return self._explain_json(number, raw)

    def _explain_json(self, number: int, raw: bytes) -> Row | RejectedRecord | None:
        """Take the long way, which names the fault, and which an unknown field does not stop."""
        raw = raw.removeprefix(_MARK)
        if not raw.strip():
            return None
        try:
            if (_BACKSLASH in raw or 0 in raw) and _NUL.search(raw):
                raise InvalidRecord("nul_character", "The record contains a NUL character, which Postgres cannot store.")
            document = decode_exactly(raw)
            if not isinstance(document.value, dict):
                raise InvalidRecord("invalid_value", f"The record is a JSON {type(document.value).__name__}, not an object.")
            if document.repeated_key is not None:
                key = document.repeated_key[:100]
                raise InvalidRecord(
                    "repeated_key", f"The key '{key}' stands more than once in the record: which one is meant is not known."
                )
            return self._build(number, document.value, ",repeated_key" if document.has_renamed else "")
        except _RECORD_ERRORS as error:
            return _rejected(number, error, raw)

    def from_cells(self, number: int, record: Mapping[str, object], raw: str, flags: str = "") -> Row | RejectedRecord:
        """Make a row of a CSV record; `record` has no blank cells, `flags` is what its reader says of it."""
        try:
            return self._build(number, record, flags)
        except _RECORD_ERRORS as error:
            return _rejected(number, error, raw)

    def _build(self, number: int, record: Mapping[str, object], flags: str) -> Row:
        extra = {} if record.keys() <= self._known else {key: value for key, value in record.items() if key not in self._known}
        if self._facts:
            record = {**record, "@record": number, "@filename": self._item.filename}
        if self._is_canonical:
            fields = {key: record[key] for key in record if key in self._known} if extra else dict(record)
        else:
            fields = _evaluate(self._fields, record)
        for name, cast in self._casts.items():
            if isinstance(text := fields.get(name), str):
                fields[name] = _cast(name, cast, text)
        computed = _evaluate(self._attributes, record) if self._attributes else {}
        if _has_renamed(fields, computed):
            flags += ",repeated_key"
        if extra or self._attributes:
            fields["attributes"] = _merge(fields.get("attributes"), computed, extra)
        row = (number, *self._transform_or_explain(fields, record))
        flags += ",unknown_fields" if extra else ""
        return (*row[:-1], f"{row[-1]}{flags}".lstrip(",")) if flags else row

    def _transform_or_explain(self, fields: dict[str, object], record: Mapping[str, object]) -> Row:
        try:
            return self._transform(msgspec.convert(fields, self._input_type), self._item)
        except InvalidRecord as error:
            if error.error_code != "missing_key" or self._is_canonical:
                raise
            raise InvalidRecord("missing_key", f"{error}{_name_empty_columns(self._fields, fields, record)}") from error


def _name_empty_columns(templates: Mapping[str, Expression], fields: Mapping[str, object], record: Mapping[str, object]) -> str:
    """Say which columns are to blame for the templates that made nothing: a key of several columns does not tell by itself."""
    empty = sorted({column for name, made in templates.items() if name not in fields for column in made.empty_columns(record)})
    return f" In this record nothing is in: {', '.join(empty)}." if empty else ""


def _field_casts(input_type: type[msgspec.Struct], style: NumberStyle) -> dict[str, Filter]:
    """Return, per field of `Input` that is not text, how text becomes its value."""
    known: dict[type, Filter] = {
        float: partial(parse_number, style=style), int: partial(parse_integer, style=style), datetime: parse_timestamp, dict: parse_object,
    }  # fmt: skip
    casts = {}
    for field in msgspec.structs.fields(input_type):
        for kind, cast in known.items():
            if _accepts(field.type, kind):
                casts[field.name] = cast
    return casts


def _accepts(annotation: Any, kind: type) -> bool:
    """True when `annotation` is `kind`, or a union or an Annotated that contains it."""
    origin = getattr(annotation, "__origin__", annotation)
    return origin is kind or (origin is not dict and any(_accepts(part, kind) for part in getattr(annotation, "__args__", ())))


def _evaluate(expressions: Mapping[str, Expression], record: Mapping[str, object]) -> dict[str, object]:
    values: dict[str, object] = {}
    for name, expression in expressions.items():
        try:
            value = expression.evaluate(record)
        except ValueError as error:
            raise InvalidRecord("invalid_value", f"{name}: {error}.") from error
        if value is not None:
            values[name] = value
    return values


def _cast(name: str, cast: Filter, text: str) -> object:
    try:
        return cast(text)
    except ValueError as error:
        raise InvalidRecord("invalid_value", f"{name}: {error}.") from error


def _has_renamed(*parts: Mapping[str, object]) -> bool:
    return any(RenamedKeys in map(type, part.values()) for part in parts)


def _merge(given: object, computed: dict[str, object], extra: dict[str, object]) -> object:
    """Return attributes with what has no field of its own; an unknown field that meets its own name gets a `_` behind it."""
    if given is not None and not isinstance(given, dict):
        return given
    merged = {**(given or {}), **computed}
    for key, value in extra.items():
        name = key
        while name in merged:
            name += "_"
        merged[name] = value
    return merged


def _rejected(number: int, error: Exception, raw: str | bytes) -> RejectedRecord:
    match error:
        case InvalidRecord():
            return reject(number, error.error_code, str(error), raw)
        case msgspec.ValidationError():
            what, _, where = str(error).replace("`", "").partition(" - at $")
            return reject(number, "invalid_value", f"{where.lstrip('.') or 'record'}: {what}.", raw)
        case UnicodeDecodeError():
            return reject(number, "invalid_encoding", f"The record is not UTF-8: {error.reason}.", raw)
        case RecursionError():
            return reject(number, "record_too_deep", "The record's lists and objects are nested too deep.", raw)
        case _:
            return reject(number, "malformed_json", f"The record is not JSON: {error}.", raw)
