"""The fixture of a source with planted differences."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import medallion_defs.sources
from tests.integration.variants.planted import PACKAGE, PLANTED, forget_modules


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a copy of driver_events whose variant `x` makes some records otherwise."""
    folder = tmp_path / PACKAGE / "driver_events"
    original = Path(str(medallion_defs.sources.__file__)).parent / "driver_events"
    shutil.copytree(original, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder.parent / "__init__.py").touch()
    (folder / "variants" / "x.py").write_text(PLANTED, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    forget_modules()
