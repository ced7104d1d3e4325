"""From one file to silver rows: choose the recipe, read records, make each a row or a reject. No database here.

The one entry that the engine calls per item is `open_extraction`. Canonical JSON takes a short way (bytes straight
into the source's `Input`); whatever fails there, and everything else, takes the long way, which says what is wrong.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from medallion_defs.core.errors import ConfigurationError
from medallion_defs.silver.contract import InvalidRecord, ItemFacts, RejectedRecord, reject
from medallion_defs.silver.csv_reader import CsvReader
from medallion_defs.silver.expressions import Expression, Filter, parse_integer, parse_number, parse_object, parse_timestamp
from medallion_defs.silver.json_reader import ArrayReader
from medallion_defs.silver.reader import (
    MAX_RECORD_BYTES,
    InputFile,
    OverlongLine,
    UnexpectedFormatError,
    detect_encoding,
    read_chunks,
    read_lines,
)
from medallion_defs.silver.recipes import Recipe, RecipeBook, load_recipes

Row = tuple[Any, ...]
Transform = Callable[[Any, ItemFacts], Row]

# The modules whose text decides what becomes of a file. A change in any of them re-arms failed items.
_ENGINE_FILES = (
    "contract.py", "text_encoding.py", "reader.py", "csv_reader.py", "json_reader.py", "expressions.py", "recipes.py", "extract.py",
)  # fmt: skip
_CONTENT_FILES = ("transform.py", "tables.py", "source.py")

_BACKSLASH = 0x5C
_NUL_ESCAPE = rb"\u0000"
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000|\x00")
_RECORD_ERRORS = (InvalidRecord, msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_CASTS: dict[type, Filter] = {float: parse_number, int: parse_integer, datetime: parse_timestamp, dict: parse_object}


@dataclass(frozen=True)
class Parser:
    """What a source brings to the engine: its input type, its transform and its recipes."""

    source_name: str
    input_type: type[msgspec.Struct]
    transform: Transform
    recipes: RecipeBook


@dataclass(frozen=True)
class Extraction:
    """One opened file: `recipe` has the ledger's facts, `records` yields a row `(source_record, …)` or a reject per record.

    `records` reads as it is iterated, so it may raise `UnreadableFileError`, `UnexpectedFormatError` or `TransientError`
    at any step: nothing of the item may be kept then.
    """

    recipe: Recipe
    records: Iterator[Row | RejectedRecord]


def load_parser(transform_module: ModuleType) -> Parser:
    """Return the parser of the source that `transform_module` (`sources.<name>.transform`) belongs to.

    Raises:
        ConfigurationError: a recipe is not valid.
    """
    package = str(transform_module.__package__)
    source_name = package.rpartition(".")[2]
    input_type: type[msgspec.Struct] = transform_module.Input
    book = load_recipes(source_name, files(package) / "recipes", frozenset(input_type.__struct_fields__))
    return Parser(source_name, input_type, transform_module.transform, book)


def open_extraction(path: Path, parser: Parser, item: ItemFacts) -> Extraction:
    """Open the artifact at `path`, which came as `item.filename`, with the recipe for that name.

    Raises:
        NoRecipeError: the source has no recipe for the name.
        ConfigurationError: the recipe does not say how to read it.
        UnreadableFileError, UnexpectedFormatError: the header cannot be found; later faults raise from `records`.
    """
    recipe = parser.recipes.choose(item.filename)
    file = InputFile(path, item.filename)
    kind = recipe.format_of(item.filename)
    builder = RowBuilder(parser, recipe, item, is_text=kind == "csv")
    if kind == "csv":
        return Extraction(recipe, _read_csv(file, recipe, builder))
    return Extraction(recipe, _read_json_lines(file, builder) if kind == "jsonl" else _read_json_array(file, builder))


def code_version(source_name: str, package: str = "medallion_defs.sources") -> str:
    """Return 16 hex digits that change when the same bytes might give other rows: the source's transform and recipes, and this engine."""
    folder = files(f"{package}.{source_name}")
    engine = files(__package__)
    recipes = sorted(entry.name for entry in (folder / "recipes").iterdir() if entry.name.endswith(".yaml"))
    parts = [(name, folder / name) for name in _CONTENT_FILES]
    parts += [(f"recipes/{name}", folder / "recipes" / name) for name in recipes]
    parts += [(f"silver/{name}", engine / name) for name in _ENGINE_FILES]
    digest = hashlib.sha256(b"silver-code-version-1")
    for name, entry in parts:
        content = entry.read_bytes()
        digest.update(f"\n{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


class RowBuilder:
    """Makes one record a row, or says why not. `is_text`: values come as text (CSV) and are cast to the types of `Input`."""

    def __init__(self, parser: Parser, recipe: Recipe, item: ItemFacts, *, is_text: bool) -> None:
        self._item = item
        self._transform = parser.transform
        self._decode = msgspec.json.Decoder(parser.input_type).decode
        self._is_canonical = not recipe.columns
        self._input_type = parser.input_type
        self._casts = _field_casts(parser.input_type) if is_text or recipe.columns else {}
        self._fields, self._attributes = recipe.column_expressions, recipe.attribute_expressions
        self._known = recipe.ignore | (recipe.used_columns if recipe.columns else frozenset(parser.input_type.__struct_fields__))

    def from_json(self, records: Iterable[tuple[int, bytes]]) -> Iterator[Row | RejectedRecord]:
        """Make a row of each numbered JSON text that is not blank. The hot path: 1.2 µs for 240 bytes, so measure before adding to it."""
        decode, transform, item, is_canonical = self._decode, self._transform, self._item, self._is_canonical
        for number, raw in records:
            # Looking for one byte, as a number, costs a tenth of looking for the escape itself.
            if is_canonical and (_BACKSLASH not in raw or _NUL_ESCAPE not in raw):
                try:
                    row: Row | RejectedRecord | None = (number,) + transform(decode(raw), item)  # noqa: RUF005 - unpacking is twice as slow
                except _RECORD_ERRORS:
                    row = self._explain_json(number, raw)
            else:
                row = self._explain_json(number, raw)
            if row is not None:
                yield row

    def _explain_json(self, number: int, raw: bytes) -> Row | RejectedRecord | None:
        """Take the long way, which names the fault, and which an unknown field does not stop."""
        if not raw.strip():
            return None
        try:
            if _NUL.search(raw):
                raise InvalidRecord("nul_character", "The record contains a NUL character, which Postgres cannot store.")
            document = msgspec.json.decode(raw)
            if not isinstance(document, dict):
                raise InvalidRecord("invalid_value", f"The record is a JSON {type(document).__name__}, not an object.")
            return self._build(number, document)
        except _RECORD_ERRORS as error:
            return _rejected(number, error, raw)

    def from_cells(self, number: int, record: Mapping[str, object], raw: str) -> Row | RejectedRecord:
        """Make a row of a CSV record; `record` has no blank cells."""
        try:
            return self._build(number, record)
        except _RECORD_ERRORS as error:
            return _rejected(number, error, raw)

    def _build(self, number: int, record: Mapping[str, object]) -> Row:
        fields = _evaluate(self._fields, record) if not self._is_canonical else {key: record[key] for key in record if key in self._known}
        for name, cast in self._casts.items():
            if isinstance(text := fields.get(name), str):
                fields[name] = _cast(name, cast, text)
        extra = {key: value for key, value in record.items() if key not in self._known}
        if extra or self._attributes:
            fields["attributes"] = _merge(fields.get("attributes"), _evaluate(self._attributes, record), extra)
        row = (number, *self._transform(msgspec.convert(fields, self._input_type), self._item))
        return (*row[:-1], f"{row[-1]},unknown_fields".lstrip(",")) if extra else row


def _read_json_lines(file: InputFile, builder: RowBuilder) -> Iterator[Row | RejectedRecord]:
    number = 0
    for batch in read_lines(read_chunks(file)):
        if isinstance(batch, OverlongLine):
            number += 1
            yield _overlong(number, batch)
            continue
        if number == 0:
            _require_lines(file, batch[0].strip())
        yield from builder.from_json(enumerate(batch, number + 1))
        number += len(batch)


def _read_json_array(file: InputFile, builder: RowBuilder) -> Iterator[Row | RejectedRecord]:
    for element in ArrayReader(file):
        if isinstance(element, RejectedRecord):
            yield element
        else:
            yield from builder.from_json([element])


def _read_csv(file: InputFile, recipe: Recipe, builder: RowBuilder) -> Iterator[Row | RejectedRecord]:
    options = recipe.csv
    if options is None:
        raise ConfigurationError(f"{file.name}: recipe {recipe.name} has no 'csv:' options. Add csv.header, a cell of the header row.")
    encoding = detect_encoding(file) if options.encoding == "auto" else options.encoding
    reader = CsvReader(file, options.header, options.delimiter, encoding)
    if missing := sorted(recipe.used_columns - set(reader.header)):
        raise UnexpectedFormatError(
            f"{file.name}: recipe {recipe.name} needs the columns {', '.join(missing)}; the header has {', '.join(reader.header)}. "
            "Deliver the file with them, or change the recipe."
        )
    return _read_cells(reader, builder)


def _read_cells(reader: CsvReader, builder: RowBuilder) -> Iterator[Row | RejectedRecord]:
    header = reader.header
    for record in reader:
        if isinstance(record, RejectedRecord):
            yield record
        else:
            cells = {name: cell for name, cell in zip(header, record.cells, strict=True) if cell and not cell.isspace()}
            yield builder.from_cells(record.source_record, cells, record.raw)


def _require_lines(file: InputFile, first: bytes) -> None:
    if first == b"[" or first.startswith(b"[{"):
        raise UnexpectedFormatError(
            f"{file.name}: expected JSON Lines, one object per line, and found a JSON array. Name the file .json, or deliver it as lines."
        )


def _overlong(number: int, line: OverlongLine) -> RejectedRecord:
    return reject(number, "record_too_long", f"The line is longer than {MAX_RECORD_BYTES} bytes.", line.start)


def _field_casts(input_type: type[msgspec.Struct]) -> dict[str, Filter]:
    """Return, per field of `Input` that is not text, how text becomes its value."""
    casts = {}
    for field in msgspec.structs.fields(input_type):
        for kind, cast in _CASTS.items():
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
