"""The sample and the real files through all three layers, each layer run as its Dagster asset runs."""

from pathlib import Path

import dagster as dg
import psycopg

from medallion_defs.core.settings import Settings
from medallion_defs.demo.outcome import differences, read_outcome
from medallion_defs.demo.sample import FOLDER, make_sample
from medallion_defs.enrichments.driver_events_enriched.tables import TABLE as GOLD
from medallion_defs.locations import bronze, gold, silver
from medallion_defs.silver.digest import digest_table
from medallion_defs.sources.driver_events.tables import TABLE as EVENTS
from tests.integration.dagster_assets import drop, materialize

LAYERS = (
    (bronze.defs, ["bronze", "driver_events"]),
    (bronze.defs, ["bronze", "companies"]),
    (silver.defs, ["silver", "driver_events"]),
    (silver.defs, ["silver", "companies"]),
    (gold.defs, ["gold", "driver_events_enriched"]),
)


def run_all(settings: Settings, instance: dg.DagsterInstance) -> None:
    for defs, key in LAYERS:
        assert materialize(defs, key, settings, instance).success


def test_the_sample_gives_what_its_generator_says(settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance) -> None:
    sample = make_sample(events_per_file=300)
    for wave in (1, 2):
        for file in sample.files:
            if file.wave == wave:
                drop(settings, file.source, f"{FOLDER}/{file.name}", file.content)
        run_all(settings, instance)
    outcome = read_outcome(db)
    assert differences(sample.expected, outcome.counts) == []
    assert outcome.is_settled(sum(sample.expected.items.values()))


def test_the_real_files_come_through_whole(
    settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance, shared_data: Path
) -> None:
    for source, name in (
        ("driver_events", "fleet/fhv_dispatch_2015.csv"),
        ("driver_events", "fleet/uber_dispatch_2015.csv"),
        ("driver_events", "fleet/truck_events.csv"),
        ("companies", "fleet/fhv_dispatch_2015.csv"),
        ("companies", "companies/sp500_constituents.csv"),
    ):
        drop(settings, source, Path(name).name, (shared_data / name).read_bytes())
    run_all(settings, instance)
    read = db.execute("SELECT dataset, silver_rows_read, silver_rows_rejected FROM ops.file_ingestions WHERE source_type = 'driver_events'")
    assert sorted(read.fetchall()) == [("fhv_dispatch", 26_181, 0), ("truck_events", 17_075, 0), ("uber_dispatch", 354, 0)]
    assert db.execute("SELECT count(*) FROM silver.companies").fetchone() == (329 + 503,)
    matches = db.execute("SELECT match_status, count(*) FROM gold.driver_events_enriched GROUP BY 1").fetchall()
    # The Uber bases are in neither company file, and the trucks name no company.
    assert dict(matches) == {"matched": 26_181, "unmatched": 354, "no_company": 17_075}


def test_loading_all_history_again_changes_no_row(settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance) -> None:
    for file in make_sample(events_per_file=100).files:
        if file.wave == 1:
            drop(settings, file.source, f"{FOLDER}/{file.name}", file.content)
    run_all(settings, instance)
    before = {table.name: digest_table(db, table) for table in (EVENTS, GOLD)}
    for defs, key in LAYERS[2:]:
        assert materialize(defs, key, settings, instance, scope="all").success
    assert {table.name: digest_table(db, table) for table in (EVENTS, GOLD)} == before


def test_silver_and_gold_rebuilt_from_bronze_are_the_same(settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance) -> None:
    for file in make_sample(events_per_file=100).files:
        if file.wave == 1:
            drop(settings, file.source, f"{FOLDER}/{file.name}", file.content)
    run_all(settings, instance)
    before = {table.name: digest_table(db, table) for table in (EVENTS, GOLD)}
    db.execute("TRUNCATE silver.driver_events, silver.companies, silver.rejected_rows, gold.driver_events_enriched, ops.file_ingestions")
    db.commit()
    # The ledger is gone as well: discovery finds every item in bronze again.
    run_all(settings, instance)
    assert {table.name: digest_table(db, table) for table in (EVENTS, GOLD)} == before


def test_one_broken_file_leaves_the_run_green_and_says_what_to_do(
    settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    drop(settings, "driver_events", "good.jsonl", b'{"event_id": "e1", "company_id": "C1"}\n')
    drop(settings, "driver_events", "strange.pdf", b"%PDF-1.7")
    assert materialize(bronze.defs, ["bronze", "driver_events"], settings, instance).success
    result = materialize(silver.defs, ["silver", "driver_events"], settings, instance)
    assert result.success
    checks = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert (checks["counts_reconcile"], checks["all_items_loaded"]) == (True, False)
    items = db.execute("SELECT external_id, status, silver_errors ->> 'message' FROM ops.file_ingestions ORDER BY 1").fetchall()
    assert items[0][:2] == ("good.jsonl", "loaded")
    assert items[1][:2] == ("strange.pdf", "dead")
    assert "strange.pdf" in items[1][2]
    assert "recipe" in items[1][2]


def test_a_file_of_rubbish_is_kept_out_of_silver_and_so_of_gold(
    settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    drop(settings, "driver_events", "rubbish.jsonl", b'{"event_id": "e1"}\n' + b"rubbish\n" * 3)
    run_all(settings, instance)
    assert db.execute("SELECT status FROM ops.file_ingestions").fetchall() == [("dead",)]
    assert db.execute("SELECT count(*) FROM silver.rejected_rows").fetchone() == (3,)
    assert db.execute(
        "SELECT (SELECT count(*) FROM silver.driver_events) + (SELECT count(*) FROM gold.driver_events_enriched)"
    ).fetchone() == (0,)


def test_a_refused_file_is_in_the_ledger_with_its_reason(
    settings: Settings, db: psycopg.Connection, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    folder = settings.landing_path / "driver_events"
    folder.mkdir(parents=True)
    (folder / "link.csv").symlink_to(tmp_path / "elsewhere.csv")
    assert materialize(bronze.defs, ["bronze", "driver_events"], settings, instance).success
    [(status, reason)] = db.execute("SELECT status, bronze_error FROM ops.file_ingestions").fetchall()
    assert status == "refused"
    assert "link" in reason
