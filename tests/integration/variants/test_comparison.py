"""What the comparison of two variants finds, and what it leaves out."""

from pathlib import Path

import psycopg
import pytest

from medallion_defs.core.settings import Settings
from medallion_defs.ops.scope import Scope
from medallion_defs.silver.compare import compare_variants
from medallion_defs.silver.compare_report import describe_comparison
from tests.integration.commands import call, load_pending
from tests.integration.variants.planted import PLANTED, deliver, digest_of, event, numbers, planted_variants, run, use_variant, variant


def test_a_variant_compared_with_itself_is_the_same(project: Settings) -> None:
    deliver(project, "monday.jsonl", event("e1"), event("e2"), {"event_id": ""})
    load_pending(project)
    found = compare_variants(project, variant("a"), variant("a"))
    assert found.is_same
    assert (found.items, *numbers(found), found.columns) == (1, 2, 0, 0, 0, [])
    assert found.a == found.b


def test_planted_differences_are_found_and_no_others(project: Settings, db: psycopg.Connection, planted: Path) -> None:
    plain = [event(f"e{number}") for number in range(50)]
    odd = [event("refused"), event("renamed"), event("faster", speed_kmh=12), event("typed", attributes={"b": 2})]
    deliver(project, "monday.jsonl", *plain, *odd, {"event_id": ""})
    load_pending(project)
    variants = planted_variants()
    done = run(project, variants["x"])
    assert [done.total(name) for name in ("read", "created", "rejected")] == [55, 53, 2]
    found = compare_variants(project, variants["a"], variants["x"])
    assert numbers(found) == (52, 2, 2, 1)
    assert {column.column: [(each.key, each.a, each.b) for each in column.examples] for column in found.columns} == {
        "speed_kmh": [("faster", 12, 99.5)],
        "event_type": [("typed", "normal", "idle")],
        "attributes": [("typed", {"b": 2}, {"b": 1})],
    }
    [faster] = [column.examples[0] for column in found.columns if column.column == "speed_kmh"]
    assert (faster.file_a, faster.record_a, faster.file_b, faster.record_b) == ("driver_events/monday.jsonl", 53) * 2
    assert [(row.key, row.record) for row in found.a.examples_only] == [("refused", 51), ("renamed", 52)]
    assert [(row.key, row.file, row.record) for row in found.b.examples_only] == [("new name", "driver_events/monday.jsonl", 52)]
    assert (found.a.rejects, found.b.rejects) == ({"missing_key": 1}, {"invalid_value": 1, "missing_key": 1})
    assert (found.a.rows, found.b.rows, found.a.rows_apart, found.b.rows_apart) == (54, 53, 0, 0)
    assert found.b.digest == digest_of(db, variants["x"])


def test_a_row_that_another_delivery_supplies_is_another_row(project: Settings, planted: Path) -> None:
    deliver(project, "monday.jsonl", event("e1"))
    deliver(project, "tuesday.jsonl", event("e1"))
    text = PLANTED.replace('record.event_id == "refused"', 'item.filename == "tuesday.jsonl"')
    (planted / "variants" / "x.py").write_text(text, encoding="utf-8")
    load_pending(project)
    variants = planted_variants()
    options = project.model_copy(
        update={"sources": {"driver_events": project.source("driver_events").model_copy(update={"max_rejected_share": 1.0})}}
    )
    run(options, variants["x"])
    found = compare_variants(project, variants["a"], variants["x"])
    assert [(column.column, column.rows) for column in found.columns] == [("file_id", 1)]
    assert {found.columns[0].examples[0].file_a, found.columns[0].examples[0].file_b} == {
        "driver_events/monday.jsonl", "driver_events/tuesday.jsonl",
    }  # fmt: skip


def test_a_side_that_other_code_made_is_named(project: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    deliver(project, "monday.jsonl", event("e1"))
    load_pending(project)
    settings = use_variant(monkeypatch, "b")
    run(settings, variant("a"))
    found = compare_variants(settings, variant("a"), variant("b"))
    assert (found.a.outdated, found.b.outdated) == (0, 1)
    assert "1 of the items in silver.driver_events were last tried by other code than variant b as it is now." in describe_comparison(found)


def test_only_what_both_have_read_is_compared(project: Settings, planted: Path) -> None:
    deliver(project, "monday.jsonl", event("e1"), event("e2"), event("faster"))
    deliver(project, "tuesday.jsonl", event("e2", speed_kmh=5), event("e3"))
    load_pending(project)
    deliver(project, "pending.jsonl", event("e4"))
    variants = planted_variants()
    [monday] = [item.file_id for item in run(project, variants["x"]).items if item.external_id == "monday.jsonl"]
    assert call("variants", "drop", "driver_events", "x").exit_code == 0
    run(project, variants["x"], Scope(file_ids=(monday,)))
    found = compare_variants(project, variants["a"], variants["x"])
    # e2 is Tuesday's in a, and Monday's in x, which has not read Tuesday's file.
    assert (found.items, numbers(found), found.a.rows_apart, found.b.rows_apart) == (1, (2, 1, 0, 0), 2, 1)
    run(project, variants["x"])
    found = compare_variants(project, variants["a"], variants["x"])
    assert (found.items, numbers(found), found.a.rows_apart, found.b.rows_apart) == (2, (4, 1, 0, 0), 0, 1)
