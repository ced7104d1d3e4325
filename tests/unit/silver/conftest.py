"""What the reading tests share: a file's bytes in, rows and rejects out."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from medallion_defs.silver.contract import ItemFacts, RejectedRecord
from medallion_defs.silver.extract import Parser, load_parser, open_extraction
from medallion_defs.silver.recipes import load_recipes
from tests.local_files import opener

FETCHED_AT = datetime(2026, 2, 1, tzinfo=UTC)


class Extracted(NamedTuple):
    rows: list[tuple[Any, ...]]
    rejects: list[RejectedRecord]

    @property
    def keys(self) -> list[tuple[int, str]]:
        """(source_record, key) of each row."""
        return [row[:2] for row in self.rows]

    @property
    def codes(self) -> list[tuple[int, str]]:
        """(source_record, error code) of each reject."""
        return [(reject.source_record, reject.error_code) for reject in self.rejects]


Extract = Callable[..., Extracted]


@pytest.fixture(scope="session")
def extract(tmp_path_factory: pytest.TempPathFactory) -> Extract:
    """`extract(name, content, source=…, recipe=…)`; `recipe` is YAML that stands in for the source's own recipes."""
    folder = tmp_path_factory.mktemp("extract")

    def run(name: str, content: bytes, source: str = "driver_events", recipe: str | None = None) -> Extracted:
        path = folder / "artifact"
        path.write_bytes(content)
        parser = shipped_parser(source)
        if recipe is not None:
            parser = with_recipe(folder, parser, recipe)
        records = list(open_extraction(opener(path), parser, ItemFacts(UUID(int=0), name, FETCHED_AT)).records)
        return Extracted([r for r in records if type(r) is tuple], [r for r in records if isinstance(r, RejectedRecord)])

    return run


@cache
def shipped_parser(source: str) -> Parser:
    return load_parser(import_module(f"medallion_defs.sources.{source}.transform"))


def with_recipe(folder: Path, parser: Parser, recipe: str) -> Parser:
    recipes = folder / "recipes"
    recipes.mkdir(exist_ok=True)
    (recipes / "only.yaml").write_text(recipe, encoding="utf-8")
    book = load_recipes(parser.source_name, recipes, frozenset(parser.input_type.__struct_fields__))
    return Parser(parser.source_name, parser.input_type, parser.transform, book)
