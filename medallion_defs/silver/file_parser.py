"""Sources whose files are each one silver row (media, web pages): no recipes, no records, the whole file goes to `read_file`.

Which of the two kinds a source is, its `transform.py` says by its shape; this is looked at once, when the code location
loads. The other kind, records by recipes, is `extract.py`'s.
"""

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import ModuleType

from medallion_defs.core.content import Source
from medallion_defs.core.errors import ConfigurationError, TransientError
from medallion_defs.silver.contract import EXCERPT_BYTES, FileFacts, InvalidRecord, RejectedRecord, reject
from medallion_defs.silver.extract import Extraction, Parser, Row, load_parser
from medallion_defs.silver.reader import UnreadableFileError
from medallion_defs.silver.recipes import Recipe

ReadFile = Callable[[Path, FileFacts], Row]


@dataclass(frozen=True)
class FileParser:
    """What a whole-file source brings to the engine.

    Attributes:
        read_file: the file to the values of its row, flags last.
        libraries: distributions whose version decides about the rows, too (`LIBRARIES` in `transform.py`).
        recipe: stands for every file of the source, with the ledger's facts.
    """

    source_name: str
    read_file: ReadFile
    libraries: tuple[str, ...]
    recipe: Recipe


def load_source_parser(source: Source, transform_module: ModuleType) -> Parser | FileParser:
    """Return the parser of a source, of the kind that its `transform.py` shows.

    Raises:
        ConfigurationError: the module is of neither kind, or of both; or a recipe is not valid.
    """
    has_records, has_files = (hasattr(transform_module, name) for name in ("transform", "read_file"))
    if has_records == has_files:
        raise ConfigurationError(
            f"sources/{source.name}/transform.py has {'both transform() and' if has_files else 'neither transform() nor'} read_file(). "
            "Keep transform(record, item) for files of records, or read_file(path, item) for files that are one row each."
        )
    if has_records:
        return load_parser(transform_module)
    if (files(str(transform_module.__package__)) / "recipes").is_dir():
        raise ConfigurationError(f"sources/{source.name}: read_file() takes every file as it is; remove the folder recipes/.")
    return FileParser(source.name, transform_module.read_file, tuple(getattr(transform_module, "LIBRARIES", ())), recipe_for_all(source))


def open_file(folder: Callable[[], AbstractContextManager[Path]], parser: FileParser, item: FileFacts) -> Extraction:
    """Open `item.artifact`, which lies in `folder` with the item's other files; `records` yields one row `(1, …)`, or one reject.

    All of the item's files are hashed before `read_file` gets the path. While it is read, `records` may raise `UnreadableFileError`,
    `ChangedBytesError` or `TransientError`.
    """
    return Extraction(parser.recipe, _read(folder, parser, item))


def _read(folder: Callable[[], AbstractContextManager[Path]], parser: FileParser, item: FileFacts) -> Iterator[Row | RejectedRecord]:
    # A generator, as for records: what is wrong with a file is raised where the loader can tell whose fault it is.
    try:
        with folder() as place:
            record = _read_record(place / item.artifact, parser, item)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UnreadableFileError(f"{item.filename}: the gzip is cut off or damaged ({error}). Deliver the file again.") from error
    except FileNotFoundError as error:
        raise UnreadableFileError(f"{item.filename}: there is no file {error.filename}. Restore it, or deliver it again.") from error
    except OSError as error:
        raise TransientError(f"{item.filename}: reading it failed: {error}. Check the storage; the item is tried again.") from error
    yield record


def _read_record(path: Path, parser: FileParser, item: FileFacts) -> Row | RejectedRecord:
    try:
        return (1, *parser.read_file(path, item))
    except InvalidRecord as verdict:
        return reject(1, verdict.error_code, str(verdict), _first_bytes(path))


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(EXCERPT_BYTES)


def recipe_for_all(source: Source) -> Recipe:
    """Return the recipe that stands for every file of a source without recipes."""
    return Recipe(
        description=source.description, files=("*",), priority=1, domain=source.domain, dataset=source.name, source=source.name
    )  # fmt: skip
