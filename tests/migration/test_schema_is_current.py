"""The migrations and the table declarations in the code describe the same schema."""

import shutil
from pathlib import Path

import psycopg
import pytest
from alembic import command

from medallion_defs.core.content import load_content
from medallion_defs.stack.migrate import alembic_config, migrate, newest_revision, write_migration
from tests.conftest import ROOT


def test_migrations_give_the_tables_that_the_code_declares(database_url: str) -> None:
    command.check(alembic_config(ROOT, database_url))


def test_migrating_twice_changes_nothing(database_url: str) -> None:
    newest = newest_revision(alembic_config(ROOT, database_url))
    assert migrate(ROOT, database_url) == newest
    with psycopg.connect(database_url) as db:
        assert db.execute("SELECT version_num FROM ops.schema_versions").fetchall() == [(newest,)]


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("medallion_bronze", "INSERT INTO silver.rejected_rows VALUES (gen_random_uuid(), 1, 'x', 'x', 'x')"),
        ("medallion_silver", "DELETE FROM gold.driver_events_enriched"),
        ("medallion_gold", "DELETE FROM silver.driver_events"),
        ("medallion_console", "DELETE FROM ops.file_ingestions"),
    ],
)
def test_a_layer_cannot_write_the_tables_of_another(db: psycopg.Connection, role: str, statement: str) -> None:
    db.execute(f"SET ROLE {role}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        db.execute(statement)


@pytest.mark.parametrize("table", [module.TABLE.name for module in load_content("medallion_defs.sources", "tables").values()])
def test_every_silver_table_is_under_the_change_feed(db: psycopg.Connection, table: str) -> None:
    triggers = db.execute(
        "SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal ORDER BY 1", (f"silver.{table}",)
    )
    assert triggers.fetchall() == [("advance_change_seq",), ("lock_change_feed",), ("lock_deletions",), ("note_vanished",)]


def test_a_new_source_table_gets_a_migration_that_puts_it_under_the_change_feed(database_url: str, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(ROOT / "migrations", project / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute("DROP TABLE silver.companies")
    written = write_migration(project, database_url, "Add silver.companies again")
    text = written.read_text()
    number = f"{int(newest_revision(alembic_config(ROOT, database_url))) + 1:04}"
    assert written.name == f"{number}_add_silver_companies_again.py"
    assert "silver.watch_changes('silver.companies')" in text
    assert migrate(project, database_url) == number
