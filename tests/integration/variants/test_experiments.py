"""Variants beside silver: what they write, what they leave alone, and what goes wrong."""

import json
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.settings import Settings, load_settings
from medallion_defs.enrichments.driver_events_enriched.enrichment import ENRICHMENT
from medallion_defs.gold.enrich_run import run_work
from medallion_defs.locations import silver
from medallion_defs.ops.scope import Scope
from medallion_defs.silver.compare import compare_variants
from medallion_defs.silver.experiments import VariantInUseError, prepare_tables, run_variant
from medallion_defs.sources.driver_events.tables import TABLE as EVENTS
from tests.integration.commands import call, load_pending
from tests.integration.dagster_assets import materialize
from tests.integration.variants.planted import PLANTED, RIGHT, deliver, digest_of, event, planted_variants, production, run, variant


def test_an_experiment_leaves_silver_gold_their_rejects_and_the_ledger_alone(
    project: Settings, db: psycopg.Connection, planted: Path
) -> None:
    deliver(project, "monday.jsonl", event("e1"), event("refused"), event("e2"), event("e3"), {"event_id": ""})
    load_pending(project)
    run_work(project, ENRICHMENT, "test", None)
    deliver(project, "pending.jsonl", event("e4"))
    before = production(db)
    x = planted_variants()["x"]
    assert run(project, x).total("rejected") == 2
    rejects = db.execute("SELECT source_record, error_code FROM silver_experiments.driver_events__x__rejected ORDER BY 1").fetchall()
    db.rollback()
    assert rejects == [(2, "invalid_value"), (5, "missing_key")]
    compare_variants(project, planted_variants()["a"], x)
    assert production(db) == before
    assert "The code of variant x of driver_events is gone" in call("variants", "list").output
    assert "driver_events__x is dropped" in call("variants", "drop", "driver_events", "x").output
    assert db.execute("SELECT to_regclass('silver_experiments.driver_events__x')").fetchone() == (None,)
    assert db.execute("SELECT count(*) FROM silver_experiments.variant_loads").fetchone() == (0,)
    assert production(db) == before
    assert "There was no" in call("variants", "drop", "driver_events", "x").output


def test_running_a_variant_twice_does_nothing_more_and_newer_code_starts_afresh(
    project: Settings, db: psycopg.Connection, planted: Path
) -> None:
    deliver(project, "monday.jsonl", event("e1"), event("renamed"))
    deliver(project, "tuesday.jsonl", event("e2"), event("e1", speed_kmh=3))
    x = planted_variants()["x"]
    assert len(run(project, x).items) == 2
    digest = digest_of(db, x)
    assert run(project, x).items == []
    assert digest_of(db, x) == digest
    (planted / "variants" / "x.py").write_text(PLANTED.replace("new name", "newer name"), encoding="utf-8")
    newer = planted_variants()["x"]
    # Somebody is reading the table, and does not come to an end.
    db.execute("SELECT count(*) FROM silver_experiments.driver_events__x")
    assert len(run(project, newer).items) == 2
    keys = db.execute("SELECT event_id FROM silver_experiments.driver_events__x ORDER BY 1").fetchall()
    assert keys == [("e1",), ("e2",), ("newer name",)]
    (planted / "variants" / "x.py").write_text(PLANTED, encoding="utf-8")
    run(project, planted_variants()["x"])
    assert digest_of(db, x) == digest


def test_a_run_that_was_stopped_goes_on_where_it_was(
    project: Settings, db: psycopg.Connection, planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        deliver(project, f"{number}.jsonl", event("e1", speed_kmh=number), event(f"only {number}"))
    x = planted_variants()["x"]
    run(project, x)
    digest = digest_of(db, x)
    assert call("variants", "drop", "driver_events", "x").exit_code == 0
    monkeypatch.setenv("MEDALLION_SOURCES", json.dumps({"driver_events": {"max_items": 2}}))
    small = load_settings()
    chunks = run_variant(small, x, Scope(), "test")
    assert len(next(chunks).items) == 2
    chunks.close()  # type: ignore[attr-defined]  # a generator
    assert [len(chunk.items) for chunk in run_variant(small, x, Scope(), "test")] == [2, 1]
    assert digest_of(db, x) == digest


def test_an_item_that_was_taken_back_is_not_in_the_next_run(project: Settings, db: psycopg.Connection, planted: Path) -> None:
    deliver(project, "monday.jsonl", event("e1", speed_kmh=1), event("e2"))
    deliver(project, "tuesday.jsonl", event("e1", speed_kmh=2), event("e3"))
    x = planted_variants()["x"]
    run(project, x)
    assert call("withdraw", "driver_events/tuesday.jsonl", "--reason", "wrong day").exit_code == 0
    assert [item.external_id for item in run(project, x).items] == ["monday.jsonl"]
    rows = db.execute("SELECT event_id, speed_kmh FROM silver_experiments.driver_events__x ORDER BY 1").fetchall()
    assert rows == [("e1", 1), ("e2", None)]


def test_a_variant_that_raises_fails_the_item_and_says_where(project: Settings, db: psycopg.Connection, planted: Path) -> None:
    deliver(project, "good.jsonl", event("e1"))
    deliver(project, "bad.jsonl", event("e2"), event("refused"))
    text = PLANTED.replace('raise InvalidRecord("invalid_value", "planted")', 'return {}["planted"]')
    (planted / "variants" / "x.py").write_text(text, encoding="utf-8")
    x = planted_variants()["x"]
    done = run(project, x)
    [(item, error)] = done.failed
    assert item.external_id == "bad.jsonl"
    assert str(error).startswith(
        "Variant x of driver_events raised KeyError: 'planted' (x.py, line 7) at a record of driver_events/bad.jsonl."
    )
    assert db.execute("SELECT event_id FROM silver_experiments.driver_events__x").fetchall() == [("e1",)]
    (planted / "variants" / "x.py").write_text(PLANTED, encoding="utf-8")
    assert run(project, planted_variants()["x"]).failed == []


def test_a_variant_that_makes_rows_which_postgres_refuses_fails_that_item_alone(
    project: Settings, db: psycopg.Connection, planted: Path
) -> None:
    deliver(project, "good.jsonl", event("e1"))
    deliver(project, "bad.jsonl", event("typed"))
    (planted / "variants" / "x.py").write_text(PLANTED.replace('"idle"', '"i\\0dle"'), encoding="utf-8")
    done = run(project, planted_variants()["x"])
    [(item, error)] = done.failed
    assert (item.external_id, "Postgres" in str(error)) == ("bad.jsonl", True)
    assert db.execute("SELECT event_id FROM silver_experiments.driver_events__x").fetchall() == [("e1",)]


def test_an_item_with_too_many_rejects_names_the_table_of_the_variant(project: Settings, planted: Path) -> None:
    deliver(project, "monday.jsonl", event("refused"), {"event_id": ""})
    [(_, error)] = run(project, planted_variants()["x"]).failed
    assert "See silver_experiments.driver_events__x__rejected for the reasons" in str(error)


def test_two_runs_of_a_variant_at_once_are_refused(project: Settings, planted: Path) -> None:
    for number in range(2):
        deliver(project, f"{number}.jsonl", event("e1"))
    x = planted_variants()["x"]
    first = run_variant(project, x, Scope(), "first")
    next(first)
    with pytest.raises(VariantInUseError, match=r"Another run is loading or dropping silver_experiments\.driver_events__x"):
        run(project, x)
    assert list(first) == []


def test_a_table_from_before_a_migration_is_not_written(project: Settings, db: psycopg.Connection) -> None:
    b = variant("b")
    prepare_tables(db, b)
    db.execute("ALTER TABLE silver_experiments.driver_events__b DROP COLUMN speed_kmh")
    with pytest.raises(ConfigurationError, match=r"differ in speed_kmh\). Run 'medallion variants drop driver_events b'"):
        prepare_tables(db, b)


def test_the_table_of_a_variant_has_the_columns_and_the_rights_of_its_declaration(project: Settings, db: psycopg.Connection) -> None:
    deliver(project, "monday.jsonl", event("e1"))
    run(project, variant("b"))
    columns = db.execute("SELECT attname FROM pg_attribute WHERE attrelid = 'silver_experiments.driver_events__b'::regclass AND attnum > 0")
    assert [name for (name,) in columns] == [column.name for column in EVENTS.columns]
    for role in ("medallion_gold", "medallion_console"):
        db.execute("SELECT set_config('role', %s, false)", (role,))
        assert db.execute("SELECT count(*) FROM silver_experiments.driver_events__b").fetchone() == (1,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege), db.transaction():
            db.execute("DELETE FROM silver_experiments.driver_events__b")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), db.transaction():
            db.execute("CREATE TABLE silver_experiments.other (x int)")


def test_the_list_says_which_variant_silver_uses_and_what_was_loaded(project: Settings) -> None:
    deliver(project, "monday.jsonl", event("e1"))
    assert call("variants", "run", "driver_events", "b").exit_code == 0
    lines = {(line["source"], line["variant"]): line for line in json.loads(call("variants", "list", "--json").output)}
    assert lines["driver_events", "a"]["is_used"]
    assert lines["driver_events", "a"]["experiment"] is None
    assert lines["driver_events", "b"]["experiment"]["items"] == 1
    assert not lines["driver_events", "b"]["is_used"]
    assert lines["companies", "a"]["is_used"]
    assert "The hour of a truck event from its key" in call("variants", "list").output


def test_a_part_of_the_items_can_be_named(project: Settings) -> None:
    deliver(project, "monday.jsonl", event("e1"))
    load_pending(project)
    assert "Done: 0 items" in call("variants", "run", "driver_events", "b", "--dataset", "uber*").output
    assert "Done: 0 items" in call("variants", "run", "driver_events", "b", "--since", "2100-01-01T00:00:00+00:00").output
    assert "Done: 1 items" in call("variants", "run", "driver_events", "b", "--dataset", "event?").output


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("run", "weather", "b"), "There is no source 'weather'. There is: "),
        (("run", "driver_events", "z"), "There is no variant 'z' of driver_events. There is: a, b."),
        (("run", "driver_events", "a"), "Variant a of driver_events is the one that silver uses"),
        (("run", "driver_events", "b", "--since", "yesterday"), "since: 'yesterday' is no time"),
        (
            ("run", "driver_events", "b", "--dataset", "x", "--since", "2026-01-01T00:00:00+00:00"),
            "The setting 'dataset' is for scope dataset",
        ),
        (("compare", "driver_events", "a", "b"), "Nothing was loaded with variant b of driver_events yet. Run 'medallion variants run"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(project: Settings, words: tuple[str, ...], hint: str) -> None:
    result = call("variants", *words)
    assert result.exit_code == 1
    assert hint in str(result.exception)


def test_the_asset_of_a_variant_loads_it_and_shows_the_comparison(
    project: Settings, instance: dg.DagsterInstance, db: psycopg.Connection
) -> None:
    deliver(project, "monday.jsonl", event(RIGHT, event_at="2016-05-27T20:59:21.4Z"), event("e1"))
    load_pending(project)
    before = production(db)
    key = ["silver_experiments", "driver_events__b"]
    result = materialize(silver.defs, key, project, instance, scope="dataset", dataset="event*")
    assert result.success
    [event_of] = result.asset_materializations_for_node("__".join(key))
    metadata = event_of.metadata
    assert [metadata[name].value for name in ("items_loaded", "rows_read", "rows_different", "rows_only_a", "rows_only_b")] == [
        1,
        2,
        1,
        0,
        0,
    ]
    assert "2016-05-27T22:59:21.4+00:00 | driver_events/monday.jsonl, 1 |" in str(metadata["comparison"].value)
    for scope in ("pending", "outdated", "all"):
        again = materialize(silver.defs, key, project, instance, scope=scope)
        [event_of] = again.asset_materializations_for_node("__".join(key))
        assert (event_of.metadata["items_loaded"].value, event_of.metadata["digest"]) == (0, metadata["digest"])
    assert production(db) == before


def test_an_asset_whose_variant_raises_fails_with_the_reason(
    project: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, planted: Path
) -> None:
    deliver(project, "monday.jsonl", event("refused"))
    text = PLANTED.replace('raise InvalidRecord("invalid_value", "planted")', 'return {}["planted"]')
    (planted / "variants" / "x.py").write_text(text, encoding="utf-8")
    variants = planted_variants()
    result = materialize(silver.build_experiments(variants, "a"), ["silver_experiments", "driver_events__x"], project, instance)
    assert not result.success
    [failure] = [each for each in result.all_events if each.is_step_failure]
    assert "Variant x of driver_events raised KeyError: 'planted'" in str(failure.event_specific_data)
