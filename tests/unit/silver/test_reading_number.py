"""The numbers in `READING` are raised by hand. This test asks for it when the code that reads files is another than it was."""

import ast
import hashlib
from importlib.resources import files

from medallion_defs.core.code_version import _as_text
from medallion_defs.silver.code import READING

MODULES = (
    "contract", "csv_lines", "csv_reader", "exact_json", "expressions", "extract", "file_parser", "json_reader", "numbers", "reader",
    "rows", "shapes", "text_encoding",
)  # fmt: skip
# Of what the modules say, without comments, docstrings and layout.
KNOWN_READING = {"csv": 2, "jsonl": 2, "json": 2, "file": 1}
KNOWN_DIGEST = "a5edc098fe45b2e1"


def test_a_change_of_the_reading_code_is_weighed() -> None:
    digest = hashlib.sha256()
    for name in MODULES:
        source = (files("medallion_defs.silver") / f"{name}.py").read_text(encoding="utf-8")
        digest.update(f"{name}\n{_as_text(ast.parse(source))}\n".encode())
    found = digest.hexdigest()[:16]
    assert (found, dict(READING)) == (KNOWN_DIGEST, KNOWN_READING), (
        "The code that reads files has changed. Where the same bytes give other rows or rejects now, raise the numbers of those formats in "
        "READING (medallion_defs/silver/code.py) and in KNOWN_READING here, so that files are read again. A change that keeps all values, "
        f"such as a pure refactoring, updates only KNOWN_DIGEST, in either case to {found}."
    )
