"""From one file to silver rows: choose the recipe, read records, have each made a row or a reject. No database here.

The one entry that the engine calls per item is `open_extraction`. How a record becomes a row is `rows.py`'s.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain
from types import ModuleType

import msgspec

from medallion_defs.core.errors import ConfigurationError
from medallion_defs.silver.contract import ItemFacts, RejectedRecord, reject
from medallion_defs.silver.csv_lines import has_comma_numbers
from medallion_defs.silver.csv_reader import CsvReader, shorten_list
from medallion_defs.silver.json_reader import ArrayReader
from medallion_defs.silver.reader import (
    MAX_RECORD_BYTES,
    FileEncoding,
    InputFile,
    Opener,
    OverlongLine,
    UnexpectedFormatError,
    detect_encoding,
    read_chunks,
    read_lines,
)
from medallion_defs.silver.recipes import CsvOptions, Recipe, RecipeBook, load_recipes
from medallion_defs.silver.rows import Row as Row
from medallion_defs.silver.rows import RowBuilder, Transform
from medallion_defs.silver.text_encoding import encoding_of_label


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

    `records` reads as it is iterated, so it may raise `UnreadableFileError`, `UnexpectedFormatError`, `ChangedBytesError` or
    `TransientError` at any step: nothing of the item may be kept then.
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


def open_extraction(opener: Opener, parser: Parser, item: ItemFacts) -> Extraction:
    """Open a file, which came as `item.filename`, with the recipe for that name.

    Raises:
        NoRecipeError: the source has no recipe for the name.
        ConfigurationError: the recipe does not say how to read it.
        UnreadableFileError, UnexpectedFormatError: the header cannot be found; later faults raise from `records`.
    """
    recipe = parser.recipes.choose(item.filename)
    file = InputFile(opener, item.filename)
    kind = recipe.format_of(item.filename)
    if kind == "csv":
        return Extraction(recipe, _read_csv(file, recipe, parser, item))
    builder = RowBuilder(parser.input_type, parser.transform, recipe, item, is_text=False)
    # Chained in C: one generator less that each record passes.
    return Extraction(recipe, chain.from_iterable(_read_json_lines(file, builder) if kind == "jsonl" else _read_json_array(file, builder)))


def _read_json_lines(file: InputFile, builder: RowBuilder) -> Iterator[Iterable[Row | RejectedRecord]]:
    number = 0
    for batch in read_lines(read_chunks(file)):
        if isinstance(batch, OverlongLine):
            number += 1
            yield (_overlong(number, batch),)
            continue
        if number == 0:
            _require_lines(file, batch[0].strip())
        yield from builder.from_lines(number + 1, batch)
        number += len(batch)


def _read_json_array(file: InputFile, builder: RowBuilder) -> Iterator[Iterable[Row | RejectedRecord]]:
    for element in ArrayReader(file):
        yield (element,) if isinstance(element, RejectedRecord) else builder.one_by_one(element[0], element[1:])


def _read_csv(file: InputFile, recipe: Recipe, parser: Parser, item: ItemFacts) -> Iterator[Row | RejectedRecord]:
    options = recipe.csv
    if options is None:
        raise ConfigurationError(f"{file.name}: recipe {recipe.name} has no 'csv:' options. Add csv.header, a cell of the header row.")
    reader = CsvReader(file, options, _encoding_of(file, options))
    if missing := sorted(recipe.used_columns - set(reader.header)):
        raise UnexpectedFormatError(
            f"{file.name}: recipe {recipe.name} needs the columns {', '.join(missing)}; the header has {shorten_list(reader.header)}. "
            "Deliver the file with them, or change the recipe."
        )
    style = options.decimal or ("either" if reader.delimiter == ";" and has_comma_numbers(file) else "point")
    return _read_cells(reader, RowBuilder(parser.input_type, parser.transform, recipe, item, is_text=True, style=style))


def _encoding_of(file: InputFile, options: CsvOptions) -> FileEncoding:
    declared = encoding_of_label(options.encoding)
    return FileEncoding(declared) if declared else detect_encoding(file)


def _read_cells(reader: CsvReader, builder: RowBuilder) -> Iterator[Row | RejectedRecord]:
    header = reader.header
    for record in reader:
        if isinstance(record, RejectedRecord):
            yield record
        else:
            cells = {name: cell for name, cell in zip(header, record.cells, strict=True) if cell and not cell.isspace()}
            yield builder.from_cells(record.source_record, cells, record.raw, record.flags)


def _require_lines(file: InputFile, first: bytes) -> None:
    if first == b"[" or first.startswith(b"[{"):
        raise UnexpectedFormatError(
            f"{file.name}: expected JSON Lines, one object per line, and found a JSON array. Name the file .json, or deliver it as lines."
        )


def _overlong(number: int, line: OverlongLine) -> RejectedRecord:
    return reject(number, "record_too_long", f"The line is longer than {MAX_RECORD_BYTES} bytes.", line.start)
