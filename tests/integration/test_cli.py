"""The command line as a person uses it, on a project with a database that is up."""

import json
import re
from pathlib import Path

import psycopg
import pytest

from medallion_defs.core.settings import Settings
from tests.integration.commands import call, load_pending
from tests.integration.dagster_assets import drop

EVENTS = b'{"event_id": "e1", "company_id": "C1"}\n{"event_id": ""}\n{"event_id": "e2"}\n'


def test_fetch_says_what_it_took_and_what_it_had(project: Settings) -> None:
    path = drop(project, "driver_events", "day.jsonl", EVENTS)
    first = call("fetch", "driver_events")
    assert (first.exit_code, "published  day.jsonl as driver_events/day.jsonl" in first.output) == (0, True)
    assert not path.exists()
    drop(project, "driver_events", "day.jsonl", EVENTS)
    assert "unchanged  day.jsonl" in call("fetch", "driver_events").output


def test_fetch_of_an_unknown_source_names_the_known_ones(project: Settings) -> None:
    result = call("fetch", "weather")
    assert result.exit_code == 1
    assert "There is: articles, companies, curricular_pages, driver_events, media." in str(result.exception)


def test_status_shows_what_is_where_and_what_needs_a_person(project: Settings) -> None:
    assert "Nothing has been ingested yet" in call("status").output
    drop(project, "driver_events", "day.jsonl", EVENTS)
    drop(project, "driver_events", "noise.bin", b"\x00\x01")
    call("fetch", "driver_events")
    load_pending(project)
    output = call("status").output
    assert "noise.bin" in output
    counts = {count["status"]: count["items"] for count in json.loads(call("status", "--json").output)["counts"]}
    assert counts == {"loaded": 1, "dead": 1}


def test_trace_goes_from_a_row_to_the_bytes_and_from_the_bytes_to_the_rows(project: Settings) -> None:
    drop(project, "driver_events", "day.jsonl", EVENTS)
    call("fetch", "driver_events")
    load_pending(project)
    row = call("trace", "silver.driver_events", "e2")
    assert re.search(r"record 3 of bronze item driver_events/day\.jsonl", row.output)
    assert re.search(r"sha256 [0-9a-f]{64}", row.output)
    item = call("trace", str(project.bronze_path / "driver_events" / "day.jsonl"))
    assert "silver.driver_events: 2" in item.output
    assert "1 records rejected: missing_key" in item.output
    [rows] = json.loads(call("trace", "driver_events/day.jsonl", "--keys", "1", "--json").output)["silver"]
    assert (rows["rows"], rows["is_exact"], len(rows["examples"])) == (2, True, 1)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("trace", "gold.driver_events_enriched"), "Name the row"),
        (("trace", "gold.weather", "x"), "silver.companies"),
        (("trace", "silver.driver_events", "nobody"), "no row"),
        (("requeue", "--status", "pending"), "dead, retrying or loaded"),
    ],
)
def test_a_wrong_question_gets_a_sentence_that_helps(project: Settings, words: tuple[str, ...], hint: str) -> None:
    result = call(*words)
    assert result.exit_code == 1
    assert hint in str(result.exception)


def test_requeue_sets_a_dead_item_back_and_it_is_tried_again(project: Settings, db: psycopg.Connection) -> None:
    drop(project, "driver_events", "noise.bin", b"\x00\x01")
    call("fetch", "driver_events")
    load_pending(project)
    assert "1 items are pending again" in call("requeue", "--source", "driver_events", "--item", "noise*").output
    assert db.execute("SELECT status, attempts FROM ops.file_ingestions").fetchall() == [("pending", 0)]


def test_bronze_verify_finds_a_changed_byte_and_reindex_rebuilds_the_index(project: Settings) -> None:
    drop(project, "driver_events", "day.jsonl", EVENTS)
    call("fetch", "driver_events")
    assert call("bronze", "verify").exit_code == 0
    artifact: Path = project.bronze_path / "driver_events" / "day.jsonl" / "events.jsonl"
    artifact.chmod(0o644)
    artifact.write_bytes(EVENTS.replace(b"e1", b"e9"))
    result = call("bronze", "verify", "driver_events")
    assert (result.exit_code, "changed" in result.output) == (1, True)
    artifact.write_bytes(EVENTS)
    artifact.chmod(0o444)
    (project.bronze_path / "driver_events" / "_index.jsonl").unlink()
    assert "1 items in the index" in call("bronze", "reindex").output
    assert call("bronze", "verify").exit_code == 0
