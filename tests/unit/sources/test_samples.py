"""Every source's samples give the rows that stand beside them. A new source is tested by dropping files into its samples folder."""

import json
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

import medallion_defs.sources
from medallion_defs.silver.contract import ItemFacts, RejectedRecord
from medallion_defs.silver.extract import load_parser, open_extraction

SOURCES = Path(str(medallion_defs.sources.__file__)).parent
SAMPLES = sorted(path for path in SOURCES.glob("*/samples/*") if not path.name.endswith(".expected.json"))
FETCHED_AT = datetime(2026, 2, 1, tzinfo=UTC)


def expected(sample: Path) -> Path:
    return sample.with_name(sample.name + ".expected.json")


def run_sample(sample: Path) -> dict[str, object]:
    """Return what a sample becomes, as JSON has it: rows by column name, rejects by place and code."""
    module = import_module(f"medallion_defs.sources.{sample.parts[-3]}.transform")
    extraction = open_extraction(sample, load_parser(module), ItemFacts(UUID(int=0), sample.name, FETCHED_AT))
    records = list(extraction.records)
    rows = [record for record in records if type(record) is tuple]
    names = ("source_record", *module.Row.__struct_fields__, "quality_flags")
    return {
        "recipe": extraction.recipe.name,
        "rows": [msgspec.to_builtins(dict(zip(names, row, strict=True))) for row in rows],
        "rejected": [
            {"source_record": record.source_record, "error_code": record.error_code, "message": record.message}
            for record in records
            if isinstance(record, RejectedRecord)
        ],
    }


def test_every_source_has_a_sample() -> None:
    assert {path.parts[-3] for path in SAMPLES} == {path.parent.name for path in SOURCES.glob("*/transform.py")}


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: f"{path.parts[-3]}-{path.name}")
def test_a_sample_gives_its_expected_rows(sample: Path) -> None:
    assert run_sample(sample) == json.loads(expected(sample).read_text(encoding="utf-8"))
