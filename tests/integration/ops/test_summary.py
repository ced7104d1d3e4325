"""Which run did what: the calendar, the summary of a run and its manifest, asked of a ledger that the layers have filled."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import dagster as dg
import psycopg
import pytest

from medallion_defs.core.errors import TerminalError
from medallion_defs.core.sections import SourceSettings
from medallion_defs.core.settings import Settings
from medallion_defs.locations import bronze, gold, silver
from medallion_defs.ops.file_ingestion import DatasetIngestion, GoldResult, RowCounts
from medallion_defs.ops.ledger import Ledger
from medallion_defs.ops.ledger_values import LedgerFilter
from medallion_defs.ops.run_manifest import Manifest, read_manifest
from medallion_defs.ops.summary import list_runs, summarize_run
from tests.integration.bronze_items import NOON, SOURCE, make_row
from tests.integration.dagster_assets import drop, materialize

EVENTS = b'{"event_id": "e1", "company_id": "C1", "speed_kmh": -5}\n{"event_id": ""}\n{"event_id": "e2"}\n{"event_id": "e2"}\n'
OPTIONS = SourceSettings(max_items=10, max_attempts=3)
SECOND = timedelta(seconds=1)


@pytest.fixture
def console(database_url: str) -> Iterator[psycopg.Connection]:
    """A connection that may read and nothing else."""
    with psycopg.connect(database_url, autocommit=True, options="-c timezone=UTC -c role=medallion_console") as connection:
        yield connection


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def load(db: psycopg.Connection, run_id: str, names: Sequence[str], at: datetime, *, failing: Sequence[str] = ()) -> None:
    """Load items in one silver run of two seconds, as the silver process does; those in `failing` are dead then."""
    ledger = Ledger(db)
    known = ledger.register_published(make_row(name, at) for name in names)
    if not known:
        ledger.requeue(LedgerFilter(statuses=("loaded",)), at)
    batches = ledger.claim(SOURCE, OPTIONS, "v1", at)
    db.commit()
    for batch in batches:
        items = ledger.start_batch(batch.batch_id, run_id, "v1", OPTIONS, at)
        ledger.save(_outcome(item, at + 2 * SECOND, is_failed=item.external_id in failing) for item in items)
        ledger.leave_batch(batch.batch_id)
        db.commit()


def _outcome(item: DatasetIngestion, at: datetime, *, is_failed: bool) -> DatasetIngestion:
    if is_failed:
        return item.failed(TerminalError(f"{item.external_id} is rubbish"), at, OPTIONS)
    return item.finished("silver.driver_events", RowCounts(read=3, created=2, rejected=1), {"late": 1}, at)


def test_the_run_of_each_layer_says_what_it_did(
    settings: Settings, db: psycopg.Connection, console: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    drop(settings, "driver_events", "day.jsonl", EVENTS)
    drop(settings, "driver_events", "noise.bin", b"\x00\x01")
    runs = [
        materialize(defs, [layer, name], settings, instance)
        for defs, layer, name in (
            (bronze.defs, "bronze", "driver_events"),
            (silver.defs, "silver", "driver_events"),
            (gold.defs, "gold", "driver_events_enriched"),
        )
    ]
    [fetched, loaded, enriched] = [summarize_run(console, run.run_id) for run in runs]

    assert [(run.layer, run.items, run.status, run.rows_read, run.bytes) for run in fetched.runs] == [
        ("bronze", 2, "done", None, len(EVENTS) + 2)
    ]
    [line] = loaded.runs
    assert (line.layer, line.tables, line.status) == ("silver", ["silver.driver_events"], "partial")
    assert (line.items, line.items_failed, line.items_open) == (2, 1, 0)
    assert (line.rows_read, line.rows_created, line.rows_duplicate, line.rows_rejected) == (4, 2, 1, 1)
    assert line.seconds is not None
    assert line.seconds >= 0
    assert [(run.layer, run.tables, run.items, run.rows_created) for run in enriched.runs] == [
        ("gold", ["gold.driver_events_enriched"], 1, 2)
    ]
    # Asked of the fetch, the summary follows its two files through all layers.
    assert [(stage.layer, stage.items, stage.items_failed) for stage in fetched.stages] == [
        ("bronze", 2, 0),
        ("silver", 2, 1),
        ("gold", 1, 0),
    ]
    [error] = fetched.errors
    assert (error.item, error.layer, error.run_id, error.status) == ("driver_events/noise.bin", "silver", runs[1].run_id, "dead")
    assert "recipe" in error.message
    assert {row.external_id for row in Ledger(console).list_rows(LedgerFilter(run_id=runs[2].run_id)).rows} == {"day.jsonl"}


def test_the_manifest_on_a_materialization_is_the_one_that_the_ledger_gives(
    settings: Settings, console: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    drop(settings, "driver_events", "day.jsonl", EVENTS)
    drop(settings, "driver_events", "noise.bin", b"\x00\x01")
    assert materialize(bronze.defs, ["bronze", "driver_events"], settings, instance).success
    loaded = materialize(silver.defs, ["silver", "driver_events"], settings, instance)
    enriched = materialize(gold.defs, ["gold", "driver_events_enriched"], settings, instance)

    ingestion = _shown(loaded)
    assert ingestion == read_manifest(console, loaded.run_id)
    assert (ingestion.kind, ingestion.rows.read, ingestion.rows.duplicate, ingestion.rejects_by_code) == (
        "ingestion",
        4,
        1,
        {"missing_key": 1},
    )
    assert ingestion.quality_flags
    assert [(file.external_id, file.status, bool(file.content_sha256)) for file in ingestion.files] == [
        ("noise.bin", "dead", True),
        ("day.jsonl", "loaded", True),
    ]
    assert "recipe" in str(ingestion.files[0].error)

    enrichment = _shown(enriched)
    assert enrichment == read_manifest(console, enriched.run_id, unmatched=enrichment.unmatched)
    assert (enrichment.kind, enrichment.rows.created, enrichment.code_versions) == ("enrichment", 2, [ingestion.files[1].code_version])
    assert enrichment.unmatched["gold.driver_events_enriched"].by_key == {"C1": 1}


def _shown(result: dg.ExecuteInProcessResult) -> Manifest:
    [event] = result.get_asset_materialization_events()
    return Manifest.model_validate(event.materialization.metadata["manifest_json"].value)


def test_one_run_of_two_silver_assets_gives_each_its_own_manifest_and_one_line_in_the_calendar(
    settings: Settings, console: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    drop(settings, "driver_events", "day.jsonl", EVENTS)
    drop(settings, "companies", "firms.jsonl", b'{"company_id": "C1", "name": "Love Corp Car"}\n')
    names = ("driver_events", "companies")
    for name in names:
        assert materialize(bronze.defs, ["bronze", name], settings, instance).success
    keys = {dg.AssetKey(["silver", name]) for name in names}
    assets = [asset for asset in silver.defs.assets or () if isinstance(asset, dg.AssetsDefinition) and asset.key in keys]
    result = dg.materialize(assets, instance=instance, resources={"settings": settings})
    shown = {
        event.asset_key.path[-1]: Manifest.model_validate(event.materialization.metadata["manifest_json"].value)
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }
    assert {name: [file.external_id for file in manifest.files] for name, manifest in shown.items()} == {
        "driver_events": ["day.jsonl"], "companies": ["firms.jsonl"],
    }  # fmt: skip
    assert shown["companies"].rejects_by_code == {}
    line = list_runs(console).runs[0]
    assert (line.run_id, line.tables, line.items) == (result.run_id, ["silver.companies", "silver.driver_events"], 2)


def test_a_run_that_found_nothing_to_do_writes_no_materialization_and_is_green(settings: Settings, instance: dg.DagsterInstance) -> None:
    for defs, key in ((silver.defs, ["silver", "driver_events"]), (gold.defs, ["gold", "driver_events_enriched"])):
        result = materialize(defs, key, settings, instance)
        assert result.success
        assert result.get_asset_materialization_events() == []


def test_the_calendar_is_paged_from_the_latest_run_to_the_first(db: psycopg.Connection, console: psycopg.Connection) -> None:
    for number in range(5):
        # Two runs in every second: the order must not depend on the start alone.
        load(db, f"run-{number}", [f"{number}.csv"], NOON + (number // 2) * SECOND)
    pages, after = [], None
    while True:
        page = list_runs(console, limit=2, after=after)
        pages.append([run.run_id for run in page.runs])
        if page.next is None:
            break
        after = page.next
    assert pages == [["run-4", "run-3"], ["run-2", "run-1"], ["run-0"]]


def test_the_calendar_narrows_by_time_source_and_status(db: psycopg.Connection, console: psycopg.Connection) -> None:
    load(db, "good", ["a.csv", "b.csv"], NOON)
    load(db, "mixed", ["c.csv", "d.csv"], NOON + 10 * SECOND, failing=["d.csv"])
    load(db, "bad", ["e.csv"], NOON + 20 * SECOND, failing=["e.csv"])
    Ledger(db).register_published([make_row("f.csv", NOON)])
    [batch] = Ledger(db).claim(SOURCE, OPTIONS, "v1", NOON + 30 * SECOND)
    db.commit()
    Ledger(db).start_batch(batch.batch_id, "at it", "v1", OPTIONS, NOON + 30 * SECOND)
    Ledger(db).leave_batch(batch.batch_id)

    def ids(**which: object) -> list[str]:
        return [run.run_id for run in list_runs(console, **which).runs]  # type: ignore[arg-type]  # the filters of list_runs

    assert {status: ids(status=status) for status in ("done", "partial", "failed", "open")} == {
        "done": ["good"], "partial": ["mixed"], "failed": ["bad"], "open": ["at it"],
    }  # fmt: skip
    assert ids(since=NOON + 10 * SECOND, until=NOON + 20 * SECOND) == ["mixed"]
    assert ids(source_type="companies") == []
    assert ids(source_type=SOURCE) == ["at it", "bad", "mixed", "good"]
    [open_run] = list_runs(console, status="open").runs
    assert (open_run.ended_at, open_run.seconds, open_run.items_open) == (None, None, 1)
    [done] = list_runs(console, status="done").runs
    assert (done.seconds, done.rows_read, done.bytes) == (2.0, 6, 20)


def test_an_item_that_was_loaded_again_counts_for_the_last_run_only(db: psycopg.Connection, console: psycopg.Connection) -> None:
    load(db, "first", ["a.csv"], NOON)
    load(db, "again", [], NOON + 10 * SECOND)
    assert [run.run_id for run in list_runs(console).runs] == ["again"]
    with pytest.raises(TerminalError, match="done again"):
        summarize_run(console, "first")


def test_gold_rows_of_a_run_are_the_totals_of_its_items(db: psycopg.Connection, console: psycopg.Connection) -> None:
    load(db, "silver", ["a.csv"], NOON)
    file_id = make_row("a.csv").file_id
    for n, (run_id, created, updated) in enumerate((("gold-1", 3, 0), ("gold-2", 0, 1))):
        at = NOON + (10 + n) * SECOND
        result = GoldResult(
            file_id=file_id, run_id=run_id, object_type="enrichment", tablename="gold.x",
            started_at=at, ended_at=at, created=created, updated=updated,
        )  # fmt: skip
        Ledger(db).save_gold([result])
    db.commit()
    [line] = summarize_run(console, "gold-2").runs
    assert (line.rows_created, line.rows_updated, line.rows_read) == (3, 1, None)
    assert read_manifest(console, "gold-2").rows.created == 3


def test_a_manifest_of_many_files_lists_the_failed_ones_and_says_how_many_it_leaves_out(
    db: psycopg.Connection, console: psycopg.Connection
) -> None:
    load(db, "run", ["a.csv", "b.csv", "c.csv"], NOON, failing=["c.csv"])
    manifest = read_manifest(console, "run", max_files=2)
    assert [file.external_id for file in manifest.files] == ["c.csv", "a.csv"]
    assert manifest.files_omitted == 1
    assert (manifest.items.total, manifest.items.failed) == (3, 1)
    assert (manifest.timings.seconds, manifest.timings.rows_per_second) == (2.0, 3.0)


def test_a_bronze_run_and_an_unknown_one_have_no_manifest_and_the_error_says_why(settings: Settings, console: psycopg.Connection) -> None:
    drop(settings, "driver_events", "day.jsonl", EVENTS)
    with dg.DagsterInstance.ephemeral() as instance:
        fetched = materialize(bronze.defs, ["bronze", "driver_events"], settings, instance)
    with pytest.raises(TerminalError, match="fetched files"):
        read_manifest(console, fetched.run_id)
    with pytest.raises(TerminalError, match="names no run 'nobody'"):
        read_manifest(console, "nobody")
