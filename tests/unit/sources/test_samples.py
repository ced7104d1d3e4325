"""Every source's samples give the rows that stand beside them. A new source is tested by dropping files into its samples folder."""

import json
from datetime import UTC, datetime
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

import medallion_defs.sources
from medallion_defs.silver.contract import FileFacts, ItemFacts, RejectedRecord
from medallion_defs.silver.extract import Extraction, open_extraction
from medallion_defs.silver.file_parser import FileParser, load_source_parser, open_file
from medallion_defs.storage.item import Artifact
from tests.local_files import folder_of, opener

SOURCES = Path(str(medallion_defs.sources.__file__)).parent
SAMPLES = sorted(path for path in SOURCES.glob("*/samples/*") if not path.name.endswith(".expected.json"))
FETCHED_AT = datetime(2026, 2, 1, tzinfo=UTC)


def expected(sample: Path) -> Path:
    return sample.with_name(sample.name + ".expected.json")


def open_sample(sample: Path) -> Extraction:
    package = f"medallion_defs.sources.{sample.parts[-3]}"
    parser = load_source_parser(import_module(f"{package}.source").SOURCE, import_module(f"{package}.transform"))
    if isinstance(parser, FileParser) and sample.is_dir():
        return open_folder(sample, parser, import_module(f"{package}.source").SOURCE.artifact_type)
    if isinstance(parser, FileParser):
        content = sample.read_bytes()
        place = (f"{parser.source_name}/{sample.name}", sample.name, len(content), sha256(content).hexdigest())
        return open_file(folder_of(sample), parser, FileFacts(UUID(int=0), sample.name, FETCHED_AT, sample.name, *place))
    return open_extraction(opener(sample), parser, ItemFacts(UUID(int=0), sample.name, FETCHED_AT))


def open_folder(sample: Path, parser: FileParser, artifact_type: str) -> Extraction:
    """Open a sample that is an item of several files; in its name, `_` stands for the `:` that not every file system takes."""
    artifacts = tuple(
        Artifact(path.name, "", path.stat().st_size, sha256(path.read_bytes()).hexdigest()) for path in sorted(sample.iterdir())
    )
    [main] = [artifact for artifact in artifacts if artifact.name.partition(".")[0] == artifact_type]
    key, place = sample.name.replace("_", ":"), f"{parser.source_name}/{sample.name}"
    facts = FileFacts(UUID(int=0), main.name, FETCHED_AT, key, place, main.name, main.bytes, main.sha256, artifacts)
    return open_file(folder_of(sample / main.name), parser, facts)


def run_sample(sample: Path) -> dict[str, object]:
    """Return what a sample becomes, as JSON has it: rows by column name, rejects by place and code."""
    module = import_module(f"medallion_defs.sources.{sample.parts[-3]}.transform")
    extraction = open_sample(sample)
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
