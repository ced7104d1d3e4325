"""`medallion ops …` and `medallion manifest` as a person and as a program use them."""

import json
from datetime import timedelta

import psycopg
import pytest

from medallion_defs.bronze.assets import BronzeContent, fetch_source
from medallion_defs.core import clock
from medallion_defs.core.settings import Settings
from medallion_defs.enrichments.driver_events_enriched.enrichment import ENRICHMENT
from medallion_defs.gold.enrich_run import run_work
from medallion_defs.ops.run_manifest import Manifest
from medallion_defs.sources.driver_events.fetch import FETCH
from medallion_defs.sources.driver_events.source import SOURCE
from tests.integration.commands import call, load_pending
from tests.integration.dagster_assets import drop

EVENTS = b'{"event_id": "e1", "company_id": "C1"}\n{"event_id": ""}\n{"event_id": "e2"}\n'


@pytest.fixture(autouse=True)
def runs(project: Settings) -> None:
    """One good and one unreadable file, and one run of each layer."""
    drop(project, "driver_events", "day.jsonl", EVENTS)
    drop(project, "driver_events", "noise.bin", b"\x00\x01")
    fetch_source(project, BronzeContent(SOURCE, FETCH), "fetch-run")
    load_pending(project, "silver-run")
    run_work(project, ENRICHMENT, "gold-run", None)


def answer(*words: str) -> dict[str, list[dict[str, object]]]:
    result = call(*words, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, list[dict[str, object]]] = json.loads(result.output)
    return found


def test_the_calendar_shows_the_run_of_each_layer(project: Settings) -> None:
    output = call("ops", "runs").output
    lines = {name: next(line for line in output.splitlines() if name in line) for name in ("fetch-run", "silver-run", "gold-run")}
    assert "bronze.driver_events" in lines["fetch-run"]
    assert "silver.driver_events" in lines["silver-run"]
    assert "partial" in lines["silver-run"]
    assert "gold.driver_events_enriched" in lines["gold-run"]
    assert [run["run_id"] for run in answer("ops", "runs")["runs"]] == ["gold-run", "silver-run", "fetch-run"]


def test_the_calendar_narrows_as_asked_and_says_when_there_is_more(project: Settings) -> None:
    assert [run["run_id"] for run in answer("ops", "runs", "--status", "partial")["runs"]] == ["silver-run"]
    assert answer("ops", "runs", "--source", "companies")["runs"] == []
    today = clock.now()
    assert (
        len(
            answer("ops", "runs", "--from", f"{today - timedelta(days=1):%Y-%m-%d}", "--to", f"{today + timedelta(days=1):%Y-%m-%d}")[
                "runs"
            ]
        )
        == 3
    )
    assert answer("ops", "runs", "--to", f"{today - timedelta(days=1):%Y-%m-%d}")["runs"] == []
    assert "There are more" in call("ops", "runs", "--limit", "1").output
    assert "There are more" not in call("ops", "runs", "--limit", "3").output


def test_one_run_is_told_with_seconds_errors_and_what_became_of_its_items(project: Settings) -> None:
    output = call("ops", "run", "fetch-run").output
    assert "noise.bin" in output
    assert "recipe" in output
    told = answer("ops", "run", "silver-run")
    assert [(run["rows_read"], run["rows_created"], run["rows_rejected"], run["items_failed"]) for run in told["runs"]] == [(3, 2, 1, 1)]
    assert isinstance(told["runs"][0]["seconds"], float)
    assert [stage["layer"] for stage in told["stages"]] == ["bronze", "silver", "gold"]
    assert [error["item"] for error in told["errors"]] == ["driver_events/noise.bin"]


def test_every_stage_is_told_with_its_speed(project: Settings, db: psycopg.Connection) -> None:
    stages = {str(stage["layer"]): stage for stage in answer("ops", "run", "silver-run")["stages"]}
    timed = {layer: {name for name in ("rows_per_second", "bytes_per_second") if stage[name]} for layer, stage in stages.items()}
    both = {"rows_per_second", "bytes_per_second"}
    assert timed == {"bronze": {"bytes_per_second"}, "silver": both, "gold": both}
    # The fetch took until its items were registered, not the microsecond between their fetch times.
    took = db.execute("SELECT extract(epoch FROM max(created_at) - min(bronze_ingest_start_time))::float8 FROM ops.file_ingestions")
    assert took.fetchone() == (stages["bronze"]["seconds"],)
    assert "rows/s" in call("ops", "run", "silver-run").output


def test_files_are_found_by_run_status_and_pattern(project: Settings) -> None:
    def names(*words: str) -> list[object]:
        return [row["external_id"] for row in answer("ops", "files", *words)["rows"]]

    assert sorted(map(str, names())) == ["day.jsonl", "noise.bin"]
    assert names("--status", "dead") == ["noise.bin"]
    assert names("--item", "day*") == names("--run", "gold-run") == ["day.jsonl"]
    assert sorted(map(str, names("--run", "silver-run", "--source", "driver_events"))) == ["day.jsonl", "noise.bin"]
    assert "day.jsonl" in call("ops", "files").output


def test_the_manifest_of_each_kind_fits_its_schema_and_counts_what_the_database_has(project: Settings, db: psycopg.Connection) -> None:
    ingestion, enrichment = (Manifest.model_validate_json(call("manifest", run).output) for run in ("silver-run", "gold-run"))
    assert (ingestion.kind, ingestion.rows.created, ingestion.rejects_by_code) == ("ingestion", 2, {"missing_key": 1})
    assert dict(db.execute("SELECT file_id, content_sha256 FROM ops.file_ingestions").fetchall()) == {
        file.file_id: file.content_sha256 for file in ingestion.files
    }
    assert (enrichment.kind, enrichment.rows.created) == ("enrichment", 2)
    assert enrichment.unmatched["gold.driver_events_enriched"].by_key == {"C1": 1}


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("ops", "run", "nobody"), "names no run"),
        (("ops", "runs", "--status", "dead"), "open, done, partial, failed"),
        (("ops", "files", "--status", "done"), "refused, pending"),
        (("manifest", "fetch-run"), "ops run fetch-run"),
        (("manifest", "nobody"), "names no run"),
    ],
)
def test_a_wrong_question_gets_a_sentence_that_helps(project: Settings, words: tuple[str, ...], hint: str) -> None:
    result = call(*words)
    assert result.exit_code == 1
    assert hint in str(result.exception)
