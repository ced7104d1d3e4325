"""Only one module writes the ledger: a second writer would be a second state machine."""

import re

from tests.conftest import ROOT

WRITE = re.compile(
    r"(INSERT\s+INTO|UPDATE|DELETE\s+FROM|TRUNCATE|COPY|MERGE\s+INTO)\s+(ONLY\s+)?\"?ops\"?\.\"?file_ingestions", re.IGNORECASE
)
SQLALCHEMY_WRITE = re.compile(r"(insert|update|delete)\(\s*FILE_INGESTIONS|FILE_INGESTIONS\s*\.\s*(insert|update|delete)\b")


def writers() -> set[str]:
    found = set()
    for path in (*(ROOT / "medallion_defs").rglob("*.py"), *(ROOT / "medallion_defs").rglob("*.sql")):
        text = path.read_text(encoding="utf-8")
        if WRITE.search(text) or SQLALCHEMY_WRITE.search(text):
            found.add(str(path.relative_to(ROOT)))
    return found


def test_only_the_ledger_writes_file_ingestions() -> None:
    assert writers() == {"medallion_defs/ops/ledger.sql"}


def test_only_the_ledger_loads_its_queries() -> None:
    loads = re.compile(r"[\"']ledger\.sql[\"']")
    found = {
        str(path.relative_to(ROOT)) for path in (ROOT / "medallion_defs").rglob("*.py") if loads.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"medallion_defs/ops/ledger.py"}
