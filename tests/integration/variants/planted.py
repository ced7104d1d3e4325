"""A copy of driver_events with a variant `x` whose differences are known, and what the tests of variants ask again and again."""

import json
import sys
from importlib import import_module

import psycopg
import pytest

from medallion_defs.core.settings import Settings, load_settings
from medallion_defs.enrichments.driver_events_enriched.tables import TABLE as GOLD
from medallion_defs.locations import silver
from medallion_defs.ops.scope import Scope
from medallion_defs.silver.compare import Comparison
from medallion_defs.silver.digest import digest_table
from medallion_defs.silver.experiments import VariantChunk, experiment_table, run_variant
from medallion_defs.silver.extract import load_parser
from medallion_defs.silver.load_run import SilverContent
from medallion_defs.silver.variants import VariantContent, load_variants
from medallion_defs.sources.driver_events.tables import TABLE as EVENTS
from tests.integration.commands import call
from tests.integration.dagster_assets import drop

PACKAGE = "planted_sources"

RIGHT = "truck:14|25|9223370572464814373"  # 2016-05-27 22:59:21.434


PLANTED = '''"""Planted differences."""
from medallion_defs.silver.contract import InvalidRecord
from medallion_defs.sources.driver_events.transform import Input, transform as transform_a

def transform(record, item):
    if record.event_id == "refused":
        raise InvalidRecord("invalid_value", "planted")
    if record.event_id == "renamed":
        record.event_id = "new name"
    if record.event_id == "faster":
        record.speed_kmh = 99.5
    if record.event_id == "typed":
        record.event_type, record.attributes = "idle", {"b": 1}
    return transform_a(record, item)
'''


def forget_modules() -> None:
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        del sys.modules[name]


def planted_variants() -> dict[str, VariantContent]:
    forget_modules()
    facts, tables, transform = (import_module(f"{PACKAGE}.driver_events.{name}") for name in ("source", "tables", "transform"))
    return load_variants(SilverContent(facts.SOURCE, tables.TABLE, load_parser(transform)), PACKAGE)


def deliver(settings: Settings, name: str, *records: dict[str, object]) -> None:
    drop(settings, "driver_events", name, "".join(json.dumps(record) + "\n" for record in records).encode())
    assert call("fetch", "driver_events").exit_code == 0


def event(key: str, **values: object) -> dict[str, object]:
    facts = {"event_at": "2016-05-27T22:59:21.4Z", "driver_id": "D1", "company_id": "C1", "event_type": "normal"}
    return {"event_id": key} | facts | values


def run(settings: Settings, content: VariantContent, scope: Scope | None = None) -> VariantChunk:
    return VariantChunk.merge(list(run_variant(settings, content, scope or Scope(), "test")))


def digest_of(db: psycopg.Connection, content: VariantContent) -> str:
    db.rollback()
    digest = digest_table(db, experiment_table(content))
    db.rollback()
    return digest


def variant(name: str) -> VariantContent:
    return silver.load_all_variants()["driver_events"][name]


def use_variant(monkeypatch: pytest.MonkeyPatch, name: str) -> Settings:
    monkeypatch.setenv("MEDALLION_SOURCES", json.dumps({"driver_events": {"variant": name}}))
    return load_settings()


def numbers(found: Comparison) -> tuple[int, int, int, int]:
    return found.rows_both, found.rows_different, found.a.rows_only, found.b.rows_only


def production(db: psycopg.Connection) -> list[object]:
    """Everything that an experiment must leave alone, as it is now."""
    db.rollback()
    state: list[object] = [digest_table(db, table) for table in (EVENTS, GOLD)]
    for query in (
        "SELECT * FROM ops.file_ingestions ORDER BY file_id",
        "SELECT * FROM silver.rejected_rows ORDER BY file_id, source_record",
        "SELECT event_id, change_seq, updated_at FROM silver.driver_events ORDER BY 1",
        "SELECT * FROM gold.driver_events_enriched ORDER BY event_id",
    ):
        state.append(db.execute(query).fetchall())
    db.rollback()
    return state
