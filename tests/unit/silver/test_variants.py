"""Which variants a source has, what each is made of, and what the code version of one rests on."""

import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import medallion_defs.sources
from medallion_defs.core.content import Broken
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.silver.code import versions_of
from medallion_defs.silver.extract import Parser, load_parser
from medallion_defs.silver.load_run import SilverContent
from medallion_defs.silver.variants import VariantContent, choose_variant, find_variant, load_variants, variant_names

PACKAGE = "variant_sources"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of driver_events, with its variants, in a package of its own."""
    original = Path(str(medallion_defs.sources.__file__)).parent / "driver_events"
    copy = tmp_path / PACKAGE / "driver_events"
    shutil.copytree(original, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    yield copy
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        del sys.modules[name]


def load(package: str = PACKAGE, broken: list[Broken] | None = None) -> dict[str, VariantContent]:
    folder = f"{package}.driver_events"
    facts, tables, transform = (import_module(f"{folder}.{name}") for name in ("source", "tables", "transform"))
    return load_variants(SilverContent(facts.SOURCE, tables.TABLE, load_parser(transform)), package, broken)


def test_transform_py_is_variant_a_and_every_file_in_variants_is_one_more(source: Path) -> None:
    shutil.copy(source / "variants" / "b.py", source / "variants" / "c2.py")
    found = load()
    assert list(found) == ["a", "b", "c2"]
    assert found["b"].title.startswith("The hour of a truck event from its key")
    assert found["a"].title.startswith("Driver events:")
    parsers = [each.parser for each in found.values()]
    assert all(isinstance(parser, Parser) and parser.source_name == "driver_events" for parser in parsers)
    assert len({parser.transform for parser in parsers if isinstance(parser, Parser)}) == 3


def test_a_source_without_the_folder_has_one_variant() -> None:
    assert variant_names("companies") == ["a"]


def test_variant_a_has_the_code_version_that_the_source_had_before_there_were_variants() -> None:
    default = load("medallion_defs.sources")["a"]
    assert default.code == SilverContent(default.source, default.table, default.parser).code


def test_the_code_versions_of_a_variant_are_those_of_its_own_code(source: Path) -> None:
    shutil.copy(source / "variants" / "b.py", source / "variants" / "c.py")
    variants = load()

    def versions() -> dict[str, str]:
        return {name: versions_of(content.parser, content.table).digest for name, content in variants.items()}

    first = versions()
    assert first["a"] != first["b"] == first["c"]
    text = (source / "variants" / "b.py").read_text(encoding="utf-8")
    (source / "variants" / "b.py").write_text(text.replace("timedelta(hours=1)", "timedelta(hours=2)"), encoding="utf-8")
    assert [name for name in first if first[name] != versions()[name]] == ["b"]


@pytest.mark.parametrize("name", ["a.py", "B.py", "with_hour.py", "2b.py"])
def test_a_name_that_cannot_be_a_variant_is_refused(source: Path, name: str) -> None:
    shutil.copy(source / "variants" / "b.py", source / "variants" / name)
    with pytest.raises(ConfigurationError, match=f"variants/{name}: a variant's name is a letter"):
        load()


def test_a_module_that_is_no_transform_is_left_out(source: Path) -> None:
    (source / "variants" / "c.py").write_text('"""Nothing."""\n', encoding="utf-8")
    broken: list[Broken] = []
    assert "c" not in load(broken=broken)
    assert "variants.c has no Input and no transform" in broken[0].sentence


def test_an_input_that_lacks_a_field_of_a_recipe_is_left_out(source: Path) -> None:
    text = "import msgspec\n\nclass Input(msgspec.Struct):\n    event_id: str\n\ndef transform(record, item):\n    return ()\n"
    (source / "variants" / "c.py").write_text(text, encoding="utf-8")
    broken: list[Broken] = []
    assert "c" not in load(broken=broken)
    assert "Input has no field" in broken[0].sentence


def test_an_unknown_variant_is_one_sentence_that_names_those_there_are() -> None:
    variants = load("medallion_defs.sources")
    with pytest.raises(ConfigurationError) as refused:
        find_variant(variants, "z")
    assert str(refused.value) == "There is no variant 'z' of driver_events. There is: a, b."


def test_a_setting_that_names_no_variant_stops_the_source_with_that_sentence_and_no_other() -> None:
    content = choose_variant(load("medallion_defs.sources"), "z")
    with pytest.raises(ConfigurationError, match=r"sources\.driver_events\.variant: There is no variant 'z' of driver_events"):
        _ = content.code
