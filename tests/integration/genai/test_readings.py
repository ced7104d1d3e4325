"""What odd answers cost, where they are kept, and what of them can be asked again: as a person sees it."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from medallion_defs.genai.emulator_faults import Faults, ItemFault
from medallion_defs.genai.report import BatchReport, describe_report
from medallion_defs.labeling.contract import ModelTask
from medallion_defs.labeling.models.dead import list_dead, requeue_dead
from tests.integration.genai.conftest import Transport, ask, judge_task, parse, run_round
from tests.integration.labeling.notes import make_due, outputs, put_notes, states


def plant(transport: Transport, *items: ItemFault, **more: Any) -> None:
    transport.provider.faults = Faults(items=list(items), **more)


def settled_and_share(db: psycopg.Connection) -> tuple[Decimal, Decimal]:
    """What the only batch was settled at, and what was reserved for one of its records."""
    [row] = db.execute("SELECT settled_usd, reserved_usd / request_count FROM ops.active_batches").fetchall()
    db.commit()
    return row


@pytest.mark.parametrize(
    "usage", [None, {}, {"promptTokenCount": "12"}, {"promptTokenCount": 12.5, "candidatesTokenCount": 3}, {"promptTokenCount": None}, "12"]
)
def test_an_answer_that_does_not_say_what_it_used_keeps_its_reserved_share(
    notes: psycopg.Connection, transport: Transport, usage: object
) -> None:
    put_notes(notes, "one", "two")
    plant(transport, ItemFault(kind="usage", keys=["n0", "n1"], usage=usage))
    [report] = run_round(transport, judge_task())
    assert report.success == 2
    settled, share = settled_and_share(notes)
    assert settled == report.cost_usd == pytest.approx(2 * share)
    assert "2 lines, which do not say what tokens they used" in describe_report(report)


def test_answers_without_a_price_keep_their_reserved_share_and_the_report_says_so(notes: psycopg.Connection, transport: Transport) -> None:
    put_notes(notes, "one", "two")
    plant(transport, ItemFault(kind="error", keys=["n1"]))
    ask(transport, judge_task())
    transport.settings = transport.settings.model_copy(update={"genai": transport.settings.genai.model_copy(update={"prices": []})})
    [report] = parse(transport, judge_task())
    settled, share = settled_and_share(notes)
    assert settled == pytest.approx(share), "the provider's error cost nothing"
    assert "1 lines, for whose day `genai.prices` has no price" in describe_report(report)


def test_an_unreadable_line_is_billed_logged_and_kept(notes: psycopg.Connection, transport: Transport) -> None:
    put_notes(notes, "one", "two")
    plant(transport, ItemFault(kind="torn", keys=["n1"]), file=["bom", "blank_lines"])
    [report] = run_round(transport, judge_task())
    assert (report.success, report.unreadable_lines, [each.error_type for each in report.failures]) == (1, (4,), ["MissingResponse"])
    settled, share = settled_and_share(notes)
    [(answer_usd,)] = notes.execute("SELECT cost_usd FROM silver.tasks_results").fetchall()
    assert settled == pytest.approx(answer_usd + share)
    [logged] = transport.state.read_failure_logs(error_type="UnreadableLine")
    [item] = [path for path in (transport.settings.bronze_path / "gemini_batch").iterdir() if path.is_dir()]
    kept = (item / "responses.jsonl").read_bytes().splitlines()[3].decode()
    assert (logged.record_key, logged.raw_response_text) == ("line 4", kept + "\n")


def test_a_record_without_a_line_keeps_its_reserved_share_and_the_report_says_so(notes: psycopg.Connection, transport: Transport) -> None:
    put_notes(notes, "one", "two", "three")
    plant(transport, ItemFault(kind="missing", keys=["n1", "n2"]))
    [report] = run_round(transport, judge_task())
    settled, share = settled_and_share(notes)
    [(answer_usd,)] = notes.execute("SELECT cost_usd FROM silver.tasks_results").fetchall()
    assert settled == report.cost_usd == pytest.approx(answer_usd + 2 * share)
    assert "2 records without a line; what they used is not known" in describe_report(report)


def test_a_foreign_line_stands_for_the_record_without_one(notes: psycopg.Connection, transport: Transport) -> None:
    put_notes(notes, "one", "two", "three")
    plant(transport, ItemFault(kind="foreign", keys=["n1"]), ItemFault(kind="missing", keys=["n2"]))
    [report] = run_round(transport, judge_task())
    _, share = settled_and_share(notes)
    assert (report.unanswered, len(report.foreign_keys)) == (1, 1)
    assert share < report.cost_usd < 2 * share


def test_a_byte_order_mark_and_blank_lines_lose_nothing(notes: psycopg.Connection, transport: Transport) -> None:
    put_notes(notes, "one", "two", "three")
    plant(transport, file=["bom", "blank_lines"])
    [report] = run_round(transport, judge_task())
    assert (report.success, report.unreadable_lines, report.unstated) == (3, (), 0)


def test_json_in_a_fence_or_after_words_is_read_and_flagged(notes: psycopg.Connection, transport: Transport) -> None:
    put_notes(notes, "one", "two", "three", "four")
    plant(transport, *(ItemFault(kind=kind, keys=[key]) for kind, key in (("fenced", "n0"), ("preamble", "n1"), ("two_objects", "n2"))))
    [report] = run_round(transport, judge_task())
    assert set(outputs(notes, "note.judge")) == {"n0", "n1", "n3"}
    assert [each.error_type for each in report.failures] == ["JSONDecodeError"]
    assert sorted(report.remarked_keys) == ["n0", "n1"]
    flags = notes.execute("SELECT error_type FROM silver.tasks_status WHERE event = 'discarded'").fetchall()
    assert flags == [("TextAroundJSON",)] * 2


def test_a_line_that_is_there_twice_is_one_answer_and_asked_once(notes: psycopg.Connection, transport: Transport) -> None:
    put_notes(notes, "one", "two")
    plant(transport, ItemFault(kind="repeated", keys=["n0", "n1"]))
    [report] = run_round(transport, judge_task())
    assert (report.success, transport.provider.calls.count("create")) == (2, 1)
    [(per_record,)] = notes.execute("SELECT sum(cost_usd) FROM silver.tasks_results").fetchall()
    assert settled_and_share(notes)[0] == per_record


@pytest.mark.parametrize("code", [1, 2, 10, 499])
def test_a_record_that_the_provider_dropped_on_the_way_is_asked_again(notes: psycopg.Connection, transport: Transport, code: int) -> None:
    put_notes(notes, "one")
    plant(transport, ItemFault(kind="error", keys=["n0"], code=code))
    run_round(transport, judge_task())
    assert states(notes, "note.judge") == {"n0": ("retrying", 1, "ProviderError")}
    plant(transport)
    make_due(notes)
    assert [report.success for report in run_round(transport, judge_task())] == [1]


def dead(db: psycopg.Connection) -> dict[str, tuple[str | None, int]]:
    rows = list_dead(db, ["note.judge"], 3)
    db.commit()
    return {row.record_key: (row.error_type, row.count) for row in rows}


def test_whatever_is_dead_is_listed_and_can_be_requeued(notes: psycopg.Connection, transport: Transport) -> None:
    def build(item: Any, prompt: str) -> Any:
        if item.subject_key == "n2":
            raise ZeroDivisionError("a bug in the task")
        return judge_task().model.build_request(item, prompt)

    put_notes(notes, "one", "two", "three", "four")
    task = judge_task()
    broken = replace(task, spec=replace(task.spec, model=ModelTask(build, record_key=lambda item: item.subject_key)))
    plant(
        transport,
        ItemFault(kind="blocked", keys=["n0"]),
        ItemFault(kind="error", keys=["n1"], code=3),
        ItemFault(kind="empty", keys=["n3"]),
    )
    reports: list[BatchReport] = []
    for _ in range(5):
        reports += run_round(transport, broken)
        make_due(notes)
    assert {key for key, (status, *_) in states(notes, "note.judge").items() if status == "dead"} == {"n0", "n1", "n2", "n3"}
    assert dead(notes) == {
        "n0": ("Blocked", 1), "n1": ("ProviderError", 1), "note.judge:n2": ("ZeroDivisionError", 0), "n3": ("EmptyCandidates", 4),
    }  # fmt: skip
    assert "`n3` (Empty Candidates) - *Retry #3 (Maxed)*" in describe_report(reports[-1])
    plant(transport)
    assert requeue_dead(notes, list_dead(notes, ["note.judge"], 3)) == 4
    notes.commit()
    assert [report.success for report in run_round(transport, task)] == [4]
    assert dead(notes) == {}
