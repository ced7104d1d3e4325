"""Files of records that others reported as read wrong, from the landing folder to silver."""

import json
from decimal import Decimal
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import set_json_loads

from medallion_defs.core.settings import Settings
from medallion_defs.locations import bronze, silver
from tests.integration.dagster_assets import drop, materialize
from tests.reported_records import REPORTED, Reported

KEYS = {"companies": "company_id", "driver_events": "event_id"}


# A file alone: their keys are the same, and the newest of a key would hide the others.
@pytest.mark.parametrize("name", REPORTED)
def test_what_others_reported_is_loaded_as_it_was_meant(
    settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance, shared_data: Path, name: str
) -> None:
    reported = REPORTED[name]
    drop(settings, reported.source, name, (shared_data / "failing" / name).read_bytes())
    assert materialize(bronze.defs, ["bronze", reported.source], settings, instance).success
    assert materialize(silver.defs, ["silver", reported.source], settings, instance).success
    read, rejected = len(reported.rows) + len(reported.rejects), len(reported.rejects)
    is_refused = rejected / read > settings.source(reported.source).max_rejected_share
    loaded = read_silver(db, reported)
    assert loaded.rejects == reported.rejects
    assert loaded.rows == ({} if is_refused else reported.rows)
    counts = db.execute("SELECT status, attempts, silver_rows_read, silver_rows_rejected FROM ops.file_ingestions").fetchall()
    assert counts == [("dead" if is_refused else "loaded", 1, read, rejected)]


def read_silver(db: psycopg.Connection, reported: Reported) -> Reported:
    """Return what is in silver, in the form of the outcome that it must have."""
    set_json_loads(lambda content: json.loads(content, parse_float=Decimal), db)
    columns = [sql.Identifier(column) for column in (KEYS[reported.source], *reported.columns)]
    query = sql.SQL("SELECT source_record, {} FROM {}").format(sql.SQL(", ").join(columns), sql.Identifier("silver", reported.source))
    rows = {record: tuple(values) for record, *values in db.execute(query)}
    rejects = dict(db.execute("SELECT source_record, error_code FROM silver.rejected_rows").fetchall())
    return reported._replace(rows=rows, rejects=rejects)
