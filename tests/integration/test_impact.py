"""What a bad file has done, as `medallion impact` says it, and whether the steps that it names put things right."""

import json
import re
import shlex
from typing import Any

import psycopg

from medallion_defs.core.settings import Settings
from medallion_defs.enrichments.driver_events_enriched.enrichment import ENRICHMENT
from medallion_defs.gold.enrich_run import run_work
from medallion_defs.locations.silver import load_contents
from medallion_defs.silver.wanted import Wanted, which_batches
from tests.integration.commands import call, load_pending
from tests.integration.dagster_assets import drop


def deliver(settings: Settings, source: str, name: str, *records: dict[str, str]) -> None:
    """Drop a file and take it through all layers."""
    drop(settings, source, name, "".join(json.dumps(record) + "\n" for record in records).encode())
    assert call("fetch", source).exit_code == 0
    load_pending(settings)
    run_work(settings, ENRICHMENT, "test", None)


def impact(what: str) -> Any:
    """The answer as JSON."""
    result = call("impact", what, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def event(key: str, kind: str = "position", company: str = "C1") -> dict[str, str]:
    return {"event_id": key, "event_type": kind, "company_id": company}


def test_a_bad_file_of_events_names_its_rows_in_silver_and_gold_and_what_may_take_over(project: Settings) -> None:
    deliver(project, "driver_events", "monday.jsonl", event("e1"), event("e2"))
    deliver(project, "driver_events", "tuesday.jsonl", event("e2", "idle"), event("e3"), {"event_id": ""})
    found = impact("driver_events/tuesday.jsonl")
    [silver] = found["silver"]
    assert (silver["table"], silver["file_column"], silver["rows"], silver["is_exact"]) == ("silver.driver_events", "file_id", 2, True)
    [gold] = found["gold"]
    assert (gold["table"], gold["role"], gold["rows"]) == ("gold.driver_events_enriched", "subject", 2)
    assert found["rejects"] == {"missing_key": 1}
    assert {name: found["last_load"][name] for name in ("read", "created", "updated")} == {"read": 3, "created": 1, "updated": 1}
    assert found["older"] == {"items": 1, "same_dataset": 1, "revisions": [], "is_exact": True}
    assert impact("driver_events/monday.jsonl")["older"] == {"items": 0, "same_dataset": 0, "revisions": [], "is_exact": True}


def test_a_bad_file_of_companies_names_the_gold_rows_that_took_values_from_it(project: Settings) -> None:
    deliver(project, "companies", "companies.jsonl", {"company_id": "C1", "name": "Love Corp Car"})
    deliver(project, "driver_events", "monday.jsonl", event("e1"), event("e2"), event("e3", company="C9"))
    [gold] = impact("companies/companies.jsonl")["gold"]
    assert (gold["role"], gold["file_column"], gold["rows"]) == ("lookup", "company_file_id", 2)


def test_the_steps_for_a_file_that_nothing_corrects_bring_the_older_one_back(project: Settings, db: psycopg.Connection) -> None:
    deliver(project, "driver_events", "monday.jsonl", event("e1"), event("e2"))
    deliver(project, "driver_events", "monday.jsonl", event("e2", "idle"), event("e3"))
    path = "driver_events/monday.jsonl@2"
    output = call("impact", path).output
    [step] = re.findall(r"medallion (withdraw .*?)    # where", output)
    assert call(*shlex.split(step)).exit_code == 0
    load_pending(project)
    run_work(project, ENRICHMENT, "test", None)
    rows = db.execute("SELECT event_id, event_type FROM gold.driver_events_enriched ORDER BY 1").fetchall()
    assert rows == [("e1", "position"), ("e2", "position")]
    assert impact(path)["next"] == ["No row is made of the item now. There is nothing to redo."]


def test_a_corrected_file_leaves_what_it_does_not_have_and_impact_says_so(project: Settings) -> None:
    deliver(project, "driver_events", "monday.jsonl", event("e1", "wrong"), event("e2", "wrong"))
    deliver(project, "driver_events", "monday.jsonl", event("e1"))
    found = impact("driver_events/monday.jsonl")
    assert [(rows["rows"], rows["examples"]) for rows in found["silver"]] == [(1, ["e2"])]
    assert found["newer"] == ["driver_events/monday.jsonl@2"]


def test_the_impact_of_what_is_no_item_is_a_sentence(project: Settings) -> None:
    result = call("impact", "driver_events/nobody.csv")
    assert result.exit_code == 1
    assert "The ledger knows no item" in str(result.exception)


def test_an_item_on_its_way_has_no_impact_yet(project: Settings) -> None:
    drop(project, "driver_events", "noise.bin", b"\x00\x01")
    call("fetch", "driver_events")
    for content in load_contents():
        list(which_batches(project, content, Wanted()))
    assert "is claimed: what it will bring" in str(impact("driver_events/noise.bin")["next"])
