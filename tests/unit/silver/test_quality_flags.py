"""The list of flags, the code that writes them and the page that explains them agree."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from medallion_defs.silver.quality import QUALITY_FLAGS

ROOT = Path(__file__).parents[3]
WRITERS = [
    *ROOT.glob("medallion_defs/sources/*/*.py"),
    *ROOT.glob("medallion_defs/sources/*/variants/*.py"),
    *ROOT.glob("medallion_defs/silver/*.py"),
]


def written_flags(path: Path) -> Iterator[str]:
    """Flags are appended as text that begins with a comma."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(",[a-z0-9_]+", node.value):
            yield node.value[1:]


def test_the_list_is_what_the_code_writes() -> None:
    assert {flag for path in WRITERS for flag in written_flags(path)} == set(QUALITY_FLAGS)


def test_the_page_explains_every_flag_in_the_words_of_the_list() -> None:
    page = (ROOT / "docs/reference/quality-flags.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert rows == [f"| `{flag}` | {text} |" for flag, text in QUALITY_FLAGS.items()]
