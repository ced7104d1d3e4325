"""The code versions of a source's files: by the recipe, the transform and the reading that each of them uses.

Raise the number of a format in `READING` when the same bytes really give something else by the engine's own code (readers,
expressions, what `contract.py` has for transforms): the change is then seen in `medallion status`, items that failed are tried again,
and the others wait for `medallion backfill … --scope outdated`. For a faster or a more readable reader do not.
A test fails when that code changes, so that this is weighed.
"""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import PurePosixPath
from types import MappingProxyType

from sqlalchemy import Table

from medallion_defs.core.code_version import CodeVersions, bare_name, digest_code, make_version
from medallion_defs.silver.extract import Parser
from medallion_defs.silver.file_parser import FileParser
from medallion_defs.silver.recipes import FORMATS, Recipe
from medallion_defs.silver.stage import own_columns

FIRST_READING: Mapping[str, int] = MappingProxyType({"csv": 1, "jsonl": 1, "json": 1, "file": 1})
READING: Mapping[str, int] = MappingProxyType({"csv": 2, "jsonl": 2, "json": 2, "file": 1})
# What decides which files a recipe is for, and words for people.
_NOT_READING = {"description", "files", "priority"}


def versions_of(parser: Parser | FileParser, table: Table, reading: Mapping[str, int] = READING) -> CodeVersions:
    """Return the versions of the files of a source whose rows go to `table`."""
    shape = _shape(table)
    if isinstance(parser, FileParser):
        libraries = [f"{name} {version(name)}" for name in parser.libraries]
        return CodeVersions((), make_version("file", reading["file"], digest_code(parser.read_file), shape, *libraries))
    code = digest_code(parser.transform, parser.input_type)
    by_pattern = tuple(
        (pattern, make_version("records", _how_to_read(recipe, pattern, reading), code, shape))
        for recipe in parser.recipes.recipes
        for pattern in recipe.files
    )
    return CodeVersions(by_pattern, otherwise=make_version("no recipe"))


def _how_to_read(recipe: Recipe, pattern: str, reading: Mapping[str, int]) -> str:
    known = recipe.format or FORMATS.get(PurePosixPath(bare_name(pattern)).suffix)
    # Where the pattern does not tell the format, the file's own extension will: it may be any of them.
    formats = {known} if known else set(FORMATS.values())
    left_out = _NOT_READING if "csv" in formats else _NOT_READING | {"csv"}
    # Without defaults: an option that recipes can have from now on changes nothing for those that do not use it.
    content = recipe.model_dump(exclude=left_out, exclude_defaults=True)
    return repr((sorted((name, reading[name]) for name in formats), _in_order(content)))


def _in_order(value: object) -> object:
    if isinstance(value, dict):
        return sorted((key, _in_order(each)) for key, each in value.items())
    return sorted(value) if isinstance(value, frozenset) else value


def _shape(table: Table) -> list[tuple[object, ...]]:
    """Return what decides whether the table takes a row: the source's own columns, without the words for people."""
    columns = (table.columns[name] for name in own_columns(table))
    return [(column.name, str(column.type), column.nullable, column.primary_key) for column in columns]
