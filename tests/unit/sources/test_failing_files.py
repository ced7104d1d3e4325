"""Real faults that people reported, each in a small file: what must come of it, through the reader that the engine uses."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from uuid import UUID

import pytest

from medallion_defs.silver.contract import ItemFacts, RejectedRecord
from medallion_defs.silver.extract import load_parser, open_extraction
from tests.local_files import opener
from tests.reported_records import REPORTED, Reported


@pytest.mark.parametrize("name", REPORTED)
def test_what_others_reported_reads_as_it_was_meant(shared_data: Path, name: str) -> None:
    assert read(REPORTED[name], shared_data / "failing" / name) == REPORTED[name]


def read(reported: Reported, path: Path) -> Reported:
    """Return what the reader makes of a file, in the form of the outcome that it must have."""
    module = import_module(f"medallion_defs.sources.{reported.source}.transform")
    names = ("source_record", *module.Row.__struct_fields__, "quality_flags")
    item = ItemFacts(UUID(int=0), path.name, datetime(2026, 7, 1, tzinfo=UTC))
    rows, rejects = {}, {}
    for record in open_extraction(opener(path), load_parser(module), item).records:
        if isinstance(record, RejectedRecord):
            rejects[record.source_record] = record.error_code
        else:
            row = dict(zip(names, record, strict=True))
            row["attributes"] = json.loads(row["attributes"], parse_float=Decimal)
            row["quality_flags"] = [flag for flag in row["quality_flags"].split(",") if flag]
            rows[row["source_record"]] = (record[1], *(row[column] for column in reported.columns))
    return reported._replace(rows=rows, rejects=rejects)
