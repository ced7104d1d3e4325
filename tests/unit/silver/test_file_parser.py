"""Sources whose files are each one row: told from the others by the shape of `transform.py`, read whole, versioned as others are."""

import importlib.metadata
import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from types import ModuleType
from uuid import UUID

import pytest

import medallion_defs.sources
from medallion_defs.core.content import Source
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.silver.code import versions_of
from medallion_defs.silver.contract import FileFacts, InvalidRecord, RejectedRecord
from medallion_defs.silver.extract import Parser
from medallion_defs.silver.file_parser import FileParser, load_source_parser, open_file
from medallion_defs.silver.reader import UnreadableFileError
from medallion_defs.sources.media.tables import TABLE
from tests.local_files import folder_of

PACKAGE = "file_parser_sources"
SOURCE = Source("media", "Media", "Files.", "content", "media", ())


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of all sources in a package of its own, to be changed."""
    copy = tmp_path / PACKAGE
    shutil.copytree(Path(str(medallion_defs.sources.__file__)).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield copy
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        del sys.modules[name]


def load(package: Path, name: str = "media") -> Parser | FileParser:
    return load_source_parser(SOURCE, import_module(f"{package.name}.{name}.transform"))


def parser_of(read_file: Callable[..., tuple[object, ...]]) -> FileParser:
    module = ModuleType("medallion_defs.sources.media.transform")
    module.__package__ = "medallion_defs.sources.media"
    module.read_file = read_file  # type: ignore[attr-defined]  # a module made by hand
    parser = load_source_parser(SOURCE, module)
    assert isinstance(parser, FileParser)
    return parser


def facts(path: Path) -> FileFacts:
    digest = sha256(path.read_bytes()).hexdigest() if path.exists() else "0" * 64
    return FileFacts(UUID(int=0), path.name, datetime(2026, 2, 1, tzinfo=UTC), path.name, f"media/{path.name}", path.name, 3, digest)


def test_the_kind_of_a_source_is_seen_by_its_transform(package: Path) -> None:
    assert isinstance(load(package, "media"), FileParser)
    assert isinstance(load(package, "companies"), Parser)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "neither transform"), ("def transform(): ...\ndef read_file(): ...\n", "both transform")],
)
def test_a_transform_of_no_kind_or_of_both_is_refused_when_it_loads(package: Path, text: str, message: str) -> None:
    (package / "media" / "transform.py").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=message):
        load(package)


def test_recipes_beside_a_reader_of_files_are_refused(package: Path) -> None:
    (package / "media" / "recipes").mkdir()
    with pytest.raises(ConfigurationError, match="remove the folder recipes"):
        load(package)


def test_a_file_is_one_record_and_the_ledgers_facts_are_the_sources(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"abc")
    extraction = open_file(folder_of(path), parser_of(lambda path, item: (item.external_id, path.read_bytes(), "")), facts(path))
    assert list(extraction.records) == [(1, "a.bin", b"abc", "")]
    recipe = extraction.recipe
    assert (recipe.domain, recipe.source, recipe.dataset, recipe.discriminator) == ("content", "media", "media", None)


def test_a_verdict_of_the_reader_is_a_reject_with_the_start_of_the_file(tmp_path: Path) -> None:
    def refuse(path: Path, item: FileFacts) -> tuple[object, ...]:
        raise InvalidRecord("not_media", "No.")

    path = tmp_path / "a.bin"
    path.write_bytes(b"ab\0" + b"x" * 2_000)
    assert list(open_file(folder_of(path), parser_of(refuse), facts(path)).records) == [
        RejectedRecord(1, "not_media", "No.", "ab\u2400" + "x" * 1_019)
    ]  # fmt: skip


def test_a_file_that_is_gone_fails_its_item(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match=r"gone\.bin: there is no file"):
        list(
            open_file(
                folder_of(tmp_path / "gone.bin"), parser_of(lambda path, item: (path.read_bytes(),)), facts(tmp_path / "gone.bin")
            ).records
        )


def version_of(parser: Parser | FileParser) -> str:
    return versions_of(parser, TABLE).otherwise


def test_the_code_version_changes_with_what_may_change_the_rows(package: Path) -> None:
    parser = load(package)
    before = version_of(parser)
    transform = package / "media" / "transform.py"
    transform.write_text(transform.read_text(encoding="utf-8").replace("MAX_ID_BYTES = 2_048", "MAX_ID_BYTES = 2_047"), encoding="utf-8")
    assert version_of(parser) != before


def test_the_code_version_changes_with_the_libraries_that_read_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = load_source_parser(SOURCE, import_module("medallion_defs.sources.media.transform"))
    before = version_of(parser)
    installed = importlib.metadata.version
    monkeypatch.setattr("medallion_defs.silver.code.version", lambda name: "99" if name == "av" else installed(name))
    assert version_of(parser) != before


def test_the_code_version_does_not_change_with_the_fetcher_the_samples_or_what_tasks_use(package: Path) -> None:
    parser = load(package)
    before = version_of(parser)
    for name in ("fetch.py", "subjects.sql", "samples/new.png"):
        (package / "media" / name).write_text("# changed\n", encoding="utf-8")
    assert version_of(parser) == before
