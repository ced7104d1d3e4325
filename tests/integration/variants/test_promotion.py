"""What it means to promote a variant: silver becomes what the experiment was, and a wrong name stops the source."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest

from medallion_defs.core import clock
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.settings import Settings
from medallion_defs.enrichments.driver_events_enriched.enrichment import ENRICHMENT
from medallion_defs.gold.enrich_run import run_work
from medallion_defs.locations import silver
from medallion_defs.ops.base import base_definitions
from medallion_defs.ops.scope import Scope
from medallion_defs.silver.assets import build_silver
from medallion_defs.silver.backfill import load_history
from medallion_defs.silver.compare import compare_variants
from medallion_defs.silver.compare_report import describe_comparison
from medallion_defs.silver.digest import digest_table
from medallion_defs.silver.load_run import SilverContent
from medallion_defs.sources.driver_events.tables import TABLE as EVENTS
from tests.conftest import ROOT
from tests.integration.commands import call, load_pending
from tests.integration.dagster_assets import drop
from tests.integration.test_sensors import tick
from tests.integration.variants.planted import RIGHT, deliver, digest_of, event, planted_variants, production, run, use_variant


def compare(*words: str) -> Any:
    result = call("variants", "compare", "driver_events", *words, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.output)


def load_history_as(settings: Settings, content: SilverContent) -> None:
    """A backfill of all of silver, with the given variant in use."""
    for _ in load_history(settings, content, Scope(), clock.now(), "test"):
        pass


def test_the_truck_events_by_their_key_compared_promoted_and_taken_back(
    project: Settings, db: psycopg.Connection, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(project, "driver_events", "truck_events.csv", (shared_data / "fleet/truck_events.csv").read_bytes())
    assert call("fetch", "driver_events").exit_code == 0
    load_pending(project)
    run_work(project, ENRICHMENT, "test", None)
    before = production(db)
    done = call("variants", "run", "driver_events", "b")
    assert "Done: 1 items loaded, 0 failed, rows 17,075 read, 17,075 created" in done.output
    found = compare("a", "b")
    assert [found[name] for name in ("items", "rows_both", "rows_different")] == [1, 17_075, 4_597]
    assert {column["column"]: (column["rows"], len(column["examples"])) for column in found["columns"]} == {
        "event_at": (4_597, 20), "quality_flags": (4_597, 20),
    }  # fmt: skip
    assert found["a"]["quality_flags"] == {"missing_company_id": 17_075}
    assert found["b"]["quality_flags"] == {"event_at_from_key": 4_597, "missing_company_id": 17_075}
    example = found["columns"][0]["examples"][0]
    assert (example["file_a"], example["record_a"]) == (example["file_b"], example["record_b"])
    assert example["file_a"] == "driver_events/truck_events.csv"
    assert production(db) == before

    use_variant(monkeypatch, "b")
    assert "1 items loaded" in call("backfill", "silver.driver_events", "--scope", "outdated").output
    db.rollback()
    assert digest_table(db, EVENTS) == found["b"]["digest"] != found["a"]["digest"]
    assert "Done: 0 items" in call("backfill", "silver.driver_events", "--scope", "outdated").output
    assert call("variants", "run", "driver_events", "a").exit_code == 0
    again = compare("a", "b")
    assert (again["a"]["table"], again["a"]["digest"]) == ("silver_experiments.driver_events__a", found["a"]["digest"])
    assert again["rows_different"] == 4_597

    use_variant(monkeypatch, "a")
    assert "1 items loaded" in call("backfill", "silver.driver_events", "--scope", "outdated").output
    db.rollback()
    assert digest_table(db, EVENTS) == found["a"]["digest"]


def test_a_promotion_leaves_nothing_of_the_old_variant_in_silver(project: Settings, db: psycopg.Connection, planted: Path) -> None:
    deliver(project, "monday.jsonl", event("e1"), event("renamed"), event("refused"))
    load_pending(project)
    variants = planted_variants()
    x = variants["x"]
    run(project, x)
    promoted = digest_of(db, x)
    found = compare_variants(project, variants["a"], x)
    assert "2 rows that only silver has go after a promotion" in describe_comparison(found)
    load_history_as(project, x)
    assert db.execute("SELECT event_id FROM silver.driver_events ORDER BY 1").fetchall() == [("e1",), ("new name",)]
    assert digest_table(db, EVENTS) == promoted


def test_a_setting_that_names_no_variant_is_one_sentence_and_loads_nothing(
    project: Settings, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(project, "monday.jsonl", event("e1"))
    settings = use_variant(monkeypatch, "z")
    why = r"sources\.driver_events\.variant: There is no variant 'z' of driver_events\. There is: a, b\."
    assert "There is no variant 'z'" in str(call("backfill", "silver.driver_events").exception)
    with pytest.raises(ConfigurationError, match=why):
        load_pending(settings)
    [content] = [content for content in silver.load_contents() if content.source.name == "driver_events"]
    with pytest.raises(ConfigurationError, match=why), dg.DagsterInstance.ephemeral() as instance:
        tick(dg.Definitions.merge(base_definitions(), build_silver(content)), "discover_driver_events", settings, instance)
    assert db.execute("SELECT count(*) FROM silver.driver_events").fetchone() == (0,)


@pytest.mark.parametrize(("used", "assets"), [("a", ["driver_events__b"]), ("b", ["driver_events__a"]), ("z", [])])
def test_the_code_location_loads_with_an_asset_for_every_variant_but_the_one_in_use(used: str, assets: list[str]) -> None:
    program = (
        "from medallion_defs.locations.silver import defs\n"
        "keys = {asset.key for asset in defs.assets}\n"
        "assert 'companies' in {key.path[-1] for key in keys}\n"
        "print(*(key.path[-1] for key in keys if key.path[0] == 'silver_experiments'))\n"
    )
    variables = {"MEDALLION_ROOT": str(ROOT), "MEDALLION_SOURCES": json.dumps({"driver_events": {"variant": used}})}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=variables, cwd=ROOT, check=False, timeout=120
    )
    assert done.stdout.split() == assets, done.stderr


def test_the_variant_in_the_settings_loads_what_arrives(project: Settings, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = use_variant(monkeypatch, "b")
    deliver(project, "monday.jsonl", event(RIGHT, event_at="2016-05-27T20:59:21.4Z"))
    load_pending(settings)
    rows = db.execute("SELECT event_at::text, quality_flags FROM silver.driver_events").fetchall()
    assert rows == [("2016-05-27 22:59:21.4+00", ["event_at_from_key"])]
