"""The documents say what the code does: generated pages are current, links lead somewhere, every setting and test named exists."""

import re
from pathlib import Path

import pytest

from medallion_defs.cli.reference import PAGES
from tests.conftest import ROOT

PAGES_WRITTEN_BY_HAND = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")
TEST = re.compile(r"`(test_\w+)`")
INVARIANT = re.compile(r"`(test_invariant_\d+_)\*`")


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_current(name: str) -> None:
    written = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert written == PAGES[name](), "run: .venv/bin/python -m medallion_defs.cli.reference --write"


@pytest.mark.parametrize("page", PAGES_WRITTEN_BY_HAND, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page: Path) -> None:
    missing = [target for target in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / target).exists()]
    assert missing == []


def test_every_invariant_that_the_architecture_page_names_has_a_test() -> None:
    named = INVARIANT.findall((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert named
    assert [name for name in named if f"def {name}" not in tests] == []


def test_every_test_that_the_reliability_page_names_is_there() -> None:
    named = set(TEST.findall((ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")))
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 30
    assert sorted(name for name in named if f"def {name}(" not in tests) == []
