"""The code version moves with what decides the outcome, and with nothing else."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import medallion_defs.sources
from medallion_defs.silver.extract import code_version

PACKAGE = "code_version_sources"


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


def test_it_is_short_stable_and_apart_for_each_source() -> None:
    assert code_version("driver_events") == code_version("driver_events")
    assert code_version("driver_events") != code_version("companies")
    assert len(code_version("companies")) == 16


@pytest.mark.parametrize("name", ["transform.py", "tables.py", "source.py", "recipes/events.yaml", "recipes/brand_new.yaml"])
def test_it_changes_with_what_may_change_the_rows(source: Path, name: str) -> None:
    before = code_version("driver_events", PACKAGE)
    with (source / name).open("a", encoding="utf-8") as file:
        file.write("\n# changed\n")
    assert code_version("driver_events", PACKAGE) != before


def test_it_does_not_change_with_the_fetcher_or_the_samples(source: Path) -> None:
    before = code_version("driver_events", PACKAGE)
    (source / "fetch.py").write_text("# changed\n", encoding="utf-8")
    (source / "samples" / "new.jsonl").write_text("{}\n", encoding="utf-8")
    assert code_version("driver_events", PACKAGE) == before
