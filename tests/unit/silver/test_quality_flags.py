"""The list of flags, the code that writes them and the page that explains them agree."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from medallion_defs.silver.load_run import LoadReport
from medallion_defs.silver.quality import QUALITY_FLAGS
from tests.integration.bronze_items import NOON, make_row

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


def test_the_rows_of_a_run_are_summed_by_flag_most_first() -> None:
    loaded = [
        msgspec.structs.replace(make_row(name), silver_ingest_end_time=NOON, silver_quality_flags=flags)
        for name, flags in (("a", {"rare": 1, "often": 2}), ("b", {"often": 3}), ("c", None))
    ]
    waiting = msgspec.structs.replace(make_row("d"), silver_quality_flags={"rare": 9})
    assert list(LoadReport([*loaded, waiting], 1.0).rows_by_flag.items()) == [("often", 5), ("rare", 1)]
