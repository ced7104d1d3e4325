"""The published JSON Schemas are those of the code."""

from pathlib import Path

from medallion_defs.silver.schemas import build_schemas, find_stale, write_schemas

PUBLISHED = Path(__file__).parents[3] / "docs" / "reference" / "schemas"


def test_the_published_schemas_are_current() -> None:
    assert find_stale(PUBLISHED, build_schemas()) == [], "run 'python -m medallion_defs.silver.schemas --write'"


def test_absent_changed_and_surplus_files_are_stale_until_written(tmp_path: Path) -> None:
    schemas = build_schemas()
    assert find_stale(tmp_path, schemas) == sorted(schemas)
    write_schemas(tmp_path, schemas)
    (tmp_path / "companies.row.json").write_text("{}", encoding="utf-8")
    (tmp_path / "gone.row.json").write_text("{}", encoding="utf-8")
    assert find_stale(tmp_path, schemas) == ["companies.row.json", "gone.row.json"]
    write_schemas(tmp_path, schemas)
    assert find_stale(tmp_path, schemas) == []
