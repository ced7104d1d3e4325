"""The code versions move with what decides the outcome of a file, and with nothing else."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import medallion_defs.sources
from medallion_defs.core.code_version import CodeVersions, fits
from medallion_defs.ops.scope import code_params
from medallion_defs.silver.code import READING, versions_of
from medallion_defs.silver.extract import load_parser
from medallion_defs.sources.driver_events.tables import TABLE

PACKAGE = "code_version_sources"
FLEET, UBER, NONE = "fleet.jsonl", "uber_dispatch_2015.csv", "strange.pdf"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of driver_events in a package of its own."""
    original = Path(str(medallion_defs.sources.__file__)).parent
    copy = tmp_path / PACKAGE
    shutil.copytree(original, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield copy / "driver_events"
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        del sys.modules[name]


def versions(**reading: int) -> CodeVersions:
    return versions_of(load_parser(import_module(f"{PACKAGE}.driver_events.transform")), TABLE, {**READING, **reading})


def changed(before: CodeVersions, after: CodeVersions) -> list[str]:
    return [name for name in (FLEET, UBER, NONE) if before.of(name) != after.of(name)]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_recipe_concerns_its_own_files(source: Path) -> None:
    before = versions()
    edit(source / "recipes" / "uber_dispatch.yaml", "dataset: uber_dispatch", "dataset: uber_trips")
    assert changed(before, versions()) == [UBER]


def test_a_new_recipe_concerns_only_the_files_that_it_takes(source: Path) -> None:
    before = versions()
    recipe = (source / "recipes" / "events.yaml").read_text(encoding="utf-8")
    lines = [line for line in recipe.splitlines() if not line.startswith(("files:", "priority:", '  - "'))]
    (source / "recipes" / "new.yaml").write_text("\n".join([*lines, 'files: ["strange*"]', "priority: 999", ""]), encoding="utf-8")
    assert changed(before, versions()) == [NONE]


def test_words_for_people_change_nothing(source: Path) -> None:
    before = versions()
    for recipe in (source / "recipes").glob("*.yaml"):
        recipe.write_text("# a comment\n" + recipe.read_text(encoding="utf-8"), encoding="utf-8")
    for name in ("transform.py", "tables.py", "source.py"):
        with (source / name).open("a", encoding="utf-8") as file:
            file.write("\n\n# changed\ndef not_used_by_anything():\n    return 1\n")
    edit(source / "transform.py", '"""Driver events:', '"""Other words:')
    (source / "fetch.py").write_text("# changed\n", encoding="utf-8")
    (source / "samples" / "new.jsonl").write_text("{}\n", encoding="utf-8")
    assert versions() == before


def test_code_that_moves_to_another_module_changes_nothing_and_code_that_changes_there_does(source: Path) -> None:
    before = versions()
    edit(source / "transform.py", "MAX_SPEED_KMH = 250.0\n", f"from {PACKAGE}.driver_events.limits import MAX_SPEED_KMH\n")
    (source / "limits.py").write_text("MAX_SPEED_KMH   =   250.0\n", encoding="utf-8")
    assert versions() == before
    (source / "limits.py").write_text("MAX_SPEED_KMH = 251.0\n", encoding="utf-8")
    assert changed(before, versions()) == [FLEET, UBER]


def test_the_number_of_a_reading_concerns_the_files_that_are_read_so(source: Path) -> None:
    assert changed(versions(), versions(csv=99)) == [UBER]
    assert changed(versions(), versions(jsonl=99)) == [FLEET]


def test_two_processes_agree(source: Path) -> None:
    """Sets are listed in another order by each process."""
    code = (
        "from importlib import import_module; from medallion_defs.silver.code import versions_of\n"
        "from medallion_defs.silver.extract import load_parser; from medallion_defs.sources.driver_events.tables import TABLE\n"
        "print(versions_of(load_parser(import_module('medallion_defs.sources.driver_events.transform')), TABLE).digest)"
    )
    found = {
        subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, check=True, capture_output=True).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1


def test_the_first_pattern_that_fits_decides_as_it_does_for_recipes() -> None:
    code = CodeVersions((("Fleet_*.csv", "a"), ("*.csv", "b")), "c")
    assert [code.of(name) for name in ("x/fleet_1.CSV.gz", "other.csv", "other.pdf")] == ["a", "b", "c"]
    assert fits("FLEET_.csv", "fleet_*.CSV")
    assert code_params(code) == {"patterns": ["fleet\\_%.csv", "%.csv", "%"], "versions": ["a", "b", "c"]}
