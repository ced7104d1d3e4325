"""From planned tasks to results by way of a model: what each kind of answer makes of its record, what it costs, and who is asked again."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import BaseModel

from medallion_defs.core import clock
from medallion_defs.genai.emulator_faults import Faults, ItemFault
from medallion_defs.genai.report import BatchReport, describe_report
from medallion_defs.labeling import runner
from medallion_defs.labeling.contract import ModelRequest, ModelTask, RequestMedium
from medallion_defs.labeling.models.answers import reparse
from medallion_defs.labeling.models.dead import list_dead, requeue_dead
from medallion_defs.labeling.prompts import PromptProfile
from medallion_defs.labeling.registry import Task
from medallion_defs.ops.scope import Scope
from tests.integration.genai.conftest import Transport, ask, judge_task, parse, run_round
from tests.integration.labeling.notes import make_due, outputs, put_notes, states


def plant(transport: Transport, **kinds: list[str]) -> None:
    transport.provider.faults = Faults(items=[ItemFault.model_validate({"kind": kind, "keys": keys}) for kind, keys in kinds.items()])


def with_genai(transport: Transport, **changes: Any) -> None:
    genai = transport.settings.genai.model_copy(update=changes)
    transport.settings = transport.settings.model_copy(update={"genai": genai})


def count(db: psycopg.Connection, table: str) -> int:
    row = db.execute(f"SELECT count(*) FROM {table}").fetchone()
    db.commit()
    assert row is not None
    return int(row[0])


def judged(db: psycopg.Connection) -> Mapping[str, Any]:
    return outputs(db, "note.judge")


def test_each_note_gets_its_answer_and_the_books_balance(notes: psycopg.Connection, transport: Transport) -> None:
    put_notes(notes, "one", "two", "three")
    [report] = run_round(transport, judge_task())
    assert (report.total, report.success, report.failures) == (3, 3, ())
    assert set(judged(notes)) == {"n0", "n1", "n2"}
    assert all(1 <= answer["stars"] <= 5 and "item_token" not in answer for answer in judged(notes).values())
    [(status, settled, reserved)] = notes.execute("SELECT status, settled_usd, reserved_usd FROM ops.active_batches").fetchall()
    assert status == "completed"
    assert Decimal(0) < settled == report.cost_usd < reserved
    [(per_record,)] = notes.execute("SELECT sum(cost_usd) FROM silver.tasks_status").fetchall()
    [(per_result,)] = notes.execute("SELECT sum(cost_usd) FROM silver.tasks_results").fetchall()
    assert settled == per_record == per_result
    [row] = notes.execute(
        "SELECT status, silver_tablename, silver_rows_read, silver_rows_created, silver_rows_rejected FROM ops.file_ingestions"
    ).fetchall()
    assert row == ("loaded", "silver.tasks_results", 3, 3, 0)
    assert (count(notes, "ops.inflight_records"), count(notes, "ops.failure_counts")) == (0, 0)


def test_a_dry_run_of_a_backfill_says_what_the_answers_have_cost(notes: psycopg.Connection, transport: Transport) -> None:
    put_notes(notes, "one", "two")
    [report] = run_round(transport, judge_task())
    extent = runner.count_backfill(transport.settings, judge_task(), Scope(), clock.now())
    assert (extent.tasks, extent.bytes, extent.usd) == (2, 6, report.cost_usd)


def test_invariant_16_answers_whose_bytes_changed_in_bronze_are_not_read(notes: psycopg.Connection, transport: Transport) -> None:
    put_notes(notes, "one", "two")
    task = judge_task()
    for batch_id in runner.plan(transport.settings, task).batch_ids:
        runner.process(transport.settings, task, batch_id)
    transport.send()
    while transport.state.list_batches("active"):
        transport.poll()
    [item] = transport.collect()
    path = transport.settings.bronze_path / item.path / "responses.jsonl"
    path.chmod(0o644)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'\\"stars\\"', b'\\"stirs\\"', 1))
    assert path.read_bytes() != content
    parse(transport, task)
    [(status, error)] = notes.execute("SELECT status, silver_errors ->> 'error_type' FROM ops.file_ingestions").fetchall()
    notes.commit()
    assert (status, error, judged(notes)) == ("dead", "ChangedBytesError", {})


def test_nothing_is_asked_twice(notes: psycopg.Connection, transport: Transport) -> None:
    put_notes(notes, "one")
    run_round(transport, judge_task())
    assert run_round(transport, judge_task()) == []
    assert len(transport.provider.jobs) == 1


@pytest.mark.parametrize(
    ("kind", "error_type"),
    [
        ("missing", "MissingResponse"),
        ("duplicate", "DuplicateResponse"),
        ("foreign", "MissingResponse"),
        ("truncated", "JSONDecodeError"),
        ("bad_json", "JSONDecodeError"),
        ("max_tokens", "MaxTokens"),
        ("safety", "Safety"),
        ("recitation", "Recitation"),
        ("empty", "EmptyCandidates"),
        ("error", "ProviderError"),
    ],
)
def test_a_bad_answer_fails_its_record_alone_and_is_asked_again(
    notes: psycopg.Connection, transport: Transport, kind: str, error_type: str
) -> None:
    put_notes(notes, "one", "two")
    plant(transport, **{kind: ["n1"]})
    [report] = run_round(transport, judge_task())
    [failure] = report.failures
    assert (failure.record_key, failure.error_type, failure.retry) == ("n1", error_type, 1)
    assert states(notes, "note.judge") == {"n0": ("succeeded", 1, None), "n1": ("retrying", 1, error_type)}
    plant(transport)
    make_due(notes)
    [again] = run_round(transport, judge_task())
    assert (again.total, again.success) == (1, 1)
    assert states(notes, "note.judge")["n1"] == ("succeeded", 2, None)
    assert count(notes, "ops.failure_counts") == 0


def test_swapped_answers_fail_both(notes: psycopg.Connection, transport: Transport) -> None:
    put_notes(notes, "one", "two", "three")
    plant(transport, swapped=["n0", "n2"])
    [report] = run_round(transport, judge_task())
    assert {failure.record_key: failure.error_type for failure in report.failures} == {"n0": "SwappedResponse", "n2": "SwappedResponse"}
    assert set(judged(notes)) == {"n1"}


def test_an_answer_that_does_not_fit_is_logged_whole(notes: psycopg.Connection, transport: Transport) -> None:
    put_notes(notes, "one")
    plant(transport, invalid=["n0"])
    run_round(transport, judge_task())
    # The emulator's invalid answer has no token, and the token is looked at first.
    [row] = notes.execute(
        "SELECT record_key, attempt_number, error_type, raw_response_json -> 'response' -> 'candidates' -> 0 ->> 'finishReason',"
        " extracted_text, model_name, prompt_name, prompt_template, generation_config FROM ops.failure_logs"
    ).fetchall()
    assert row == (
        "n0", 1, "SwappedResponse", "STOP", '{"unexpected": true}',
        "gemini-3.8-flash", "default", "Judge: {body}", {"maxOutputTokens": 100},
    )  # fmt: skip


def test_a_blocked_prompt_is_not_asked_again(notes: psycopg.Connection, transport: Transport) -> None:
    put_notes(notes, "one")
    plant(transport, blocked=["n0"])
    [report] = run_round(transport, judge_task())
    assert report.failures[0].is_dead
    assert states(notes, "note.judge") == {"n0": ("dead", 1, "Blocked")}


def test_invariant_8_a_record_that_keeps_failing_is_dead_after_its_retries(notes: psycopg.Connection, transport: Transport) -> None:
    with_genai(transport, max_retries=2)
    put_notes(notes, "one")
    plant(transport, max_tokens=["n0"])
    reports: list[BatchReport] = []
    for _ in range(5):
        reports += run_round(transport, judge_task())
        make_due(notes)
    assert [report.failures[0].retry for report in reports] == [1, 2, 3]
    assert "*Retry #2 (Maxed)*" in describe_report(reports[-1])
    assert states(notes, "note.judge") == {"n0": ("dead", 3, "MaxTokens")}
    assert [dead.record_key for dead in list_dead(notes, ["note.judge"], 2)] == ["n0"]


def test_a_dead_record_is_asked_again_by_whichever_command_requeues_it(notes: psycopg.Connection, transport: Transport) -> None:
    with_genai(transport, max_retries=0)
    put_notes(notes, "one")
    plant(transport, max_tokens=["n0"])
    run_round(transport, judge_task())
    assert requeue_dead(notes, list_dead(notes, ["note.judge"], 0)) == 1
    notes.commit()
    run_round(transport, judge_task())
    assert states(notes, "note.judge") == {"n0": ("dead", 1, "MaxTokens")}
    plant(transport)
    assert runner.requeue(transport.settings, "note.judge") == 1
    assert [report.success for report in run_round(transport, judge_task())] == [1]


@pytest.mark.parametrize("end_state", ["FAILED", "EXPIRED"])
def test_a_job_without_results_fails_its_records_and_they_are_asked_again(
    notes: psycopg.Connection, transport: Transport, end_state: str
) -> None:
    put_notes(notes, "one", "two")
    transport.provider.faults = Faults.model_validate({"end_state": end_state})
    [report] = run_round(transport, judge_task())
    assert {failure.error_type for failure in report.failures} == {f"Job{end_state.title()}"}
    [(status,)] = notes.execute("SELECT status FROM ops.active_batches").fetchall()
    assert status == "failed"
    transport.provider.faults = Faults()
    make_due(notes)
    assert [again.success for again in run_round(transport, judge_task())] == [2]


def test_a_cap_in_dollars_leaves_the_batch_whole_for_later(notes: psycopg.Connection, transport: Transport) -> None:
    put_notes(notes, "one", "two")
    with_genai(transport, max_usd_per_day=Decimal("0.0000001"))
    task = judge_task()
    [batch_id] = runner.plan(transport.settings, task).batch_ids
    report = runner.process(transport.settings, task, batch_id)
    assert not report.is_claimed
    assert "genai.max_usd_per_day" in report.note
    assert (count(notes, "ops.active_batches"), count(notes, "ops.inflight_records"), count(notes, "silver.tasks_status")) == (0, 0, 0)
    assert not any((transport.settings.data_path / "outbox").iterdir())
    with_genai(transport, max_usd_per_day=Decimal(1))
    assert [report.success for report in run_round(transport, task)] == [2]


def test_a_cap_of_one_task_holds_for_what_is_spent_already(notes: psycopg.Connection, transport: Transport) -> None:
    put_notes(notes, "one")
    run_round(transport, judge_task())
    put_notes(notes, n7="later")
    with_genai(transport, max_usd_per_task={"note.judge": Decimal("0.0002")})
    assert run_round(transport, judge_task()) == []
    assert set(judged(notes)) == {"n0"}


def test_a_large_batch_of_tasks_becomes_several_at_the_provider(notes: psycopg.Connection, transport: Transport) -> None:
    with_genai(transport, max_batch_requests=2)
    put_notes(notes, *(f"note {number}" for number in range(5)))
    reports = run_round(transport, judge_task())
    assert sorted(report.total for report in reports) == [1, 2, 2]
    assert len(judged(notes)) == 5


def test_few_records_are_asked_online(notes: psycopg.Connection, transport: Transport) -> None:
    with_genai(transport, online_requests=5)
    put_notes(notes, "one", "two")
    [report] = run_round(transport, judge_task())
    assert (report.mode, report.success) == ("online", 2)
    assert transport.provider.jobs == {}


def test_a_record_in_flight_for_another_prompt_waits(notes: psycopg.Connection, transport: Transport) -> None:
    put_notes(notes, "one")
    with transport.connection.transaction():
        transport.state.claim_records("another", ["n0"])
    assert run_round(transport, judge_task()) == []
    assert states(notes, "note.judge")["n0"] == ("retrying", 0, "InFlightError")


class Lenient(BaseModel):
    mood: str
    stars: int


class Strict(BaseModel):
    mood: str
    stars: int
    reason: str


def test_answers_are_parsed_again_after_a_change_of_code_and_nothing_is_paid(notes: psycopg.Connection, transport: Transport) -> None:
    put_notes(notes, "one", "two")
    with_genai(transport, max_retries=0)
    [report] = run_round(transport, judge_task(Strict))
    assert {failure.error_type for failure in report.failures} == {"ValidationError"}
    fixed = judge_task(Lenient, code_version="v2")
    assert reparse(transport.settings, {fixed.task_key: fixed}, [report.batch_id], "again") == {report.batch_id: 2}
    assert set(judged(notes)) == {"n0", "n1"}
    assert {state for state, _, _ in states(notes, "note.judge").values()} == {"succeeded"}
    assert count(notes, "ops.failure_counts") == 0
    assert transport.provider.calls.count("create") == 1
    again = judged(notes)
    reparse(transport.settings, {fixed.task_key: fixed}, [report.batch_id], "once more")
    assert judged(notes) == again


def test_a_batch_that_the_database_does_not_know_is_a_dead_item_with_its_answers_kept(
    notes: psycopg.Connection, transport: Transport
) -> None:
    put_notes(notes, "one")
    task = judge_task()
    for batch_id in runner.plan(transport.settings, task).batch_ids:
        runner.process(transport.settings, task, batch_id)
    transport.send()
    while transport.state.list_batches("active"):
        transport.poll()
    transport.collect()
    notes.execute("DELETE FROM ops.active_batches")
    notes.commit()
    assert parse(transport, task) == []
    [(status, errors)] = notes.execute("SELECT status, silver_errors FROM ops.file_ingestions").fetchall()
    assert status == "dead"
    assert "its answers stay in gemini_batch/" in errors["message"]


def test_a_template_that_wants_what_the_subject_lacks_fails_the_task_with_a_sentence(
    notes: psycopg.Connection, transport: Transport
) -> None:
    put_notes(notes, "one")
    task = judge_task()
    profile: PromptProfile = task.profiles[0].model_copy(update={"template": "Judge {colour}"})
    runner.run(transport.settings, Task(task.spec, (profile,), "v1"))
    [(message,)] = notes.execute("SELECT error_message FROM silver.tasks_todo").fetchall()
    assert message == "Profile 'default' of note.judge wants {colour}; there is: body, file_hash, subject_key."


def test_a_batch_of_a_thousand_with_every_fault_at_once_adds_up(notes: psycopg.Connection, transport: Transport) -> None:
    kinds = [
        "missing", "duplicate", "foreign", "truncated", "bad_json", "invalid", "blocked", "safety", "recitation", "max_tokens",
        "empty", "error", "swapped",
    ]  # fmt: skip
    put_notes(notes, *(f"note {number}" for number in range(1_000)))
    transport.provider.faults = Faults(
        items=[ItemFault.model_validate({"kind": kind, "keys": [f"n{n}" for n in range(20 * place, 20 * place + 20)]})
               for place, kind in enumerate(kinds)],
        shuffle=True,
    )  # fmt: skip
    task = judge_task()
    reports = run_round(transport, task)
    assert sum(report.total for report in reports) == 1_000
    assert sum(report.success for report in reports) == 740
    assert sum(len(report.failures) for report in reports) == 260
    assert sorted(key for report in reports for key in report.foreign_keys) == sorted(f"foreign-n{n}" for n in range(40, 60))
    for report in reports:
        assert f"- **Total Requests**: {report.total:,}" in describe_report(report)
    transport.provider.faults = Faults()
    make_due(notes)
    run_round(transport, task)
    assert len(judged(notes)) == 980
    assert {state for state, _, error in states(notes, "note.judge").values() if error == "Blocked"} == {"dead"}


def test_a_line_that_nobody_asked_for_is_on_the_bill_of_its_batch(notes: psycopg.Connection, transport: Transport) -> None:
    put_notes(notes, "one")
    transport.provider.faults = Faults(items=[ItemFault(kind="foreign", keys=["n0"])])
    [report] = run_round(transport, judge_task())
    assert (report.success, report.foreign_keys) == (0, ("foreign-n0",))
    [(settled,)] = notes.execute("SELECT settled_usd FROM ops.active_batches").fetchall()
    assert settled == report.cost_usd > 0


def answer_with(transport: Transport, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Let the provider change each result line before it is given out."""
    original = transport.provider._new_job

    def new_job(*args: Any) -> Any:
        job = original(*args)
        job.lines = [change(line) for line in job.lines]
        return job

    monkeypatch.setattr(transport.provider, "_new_job", new_job)


@pytest.mark.parametrize("nasty", ["\0", "\\u0000", "\\\\u0000", "\0\0\\"])
def test_a_failure_is_logged_whatever_its_text_holds(
    notes: psycopg.Connection, transport: Transport, monkeypatch: pytest.MonkeyPatch, nasty: str
) -> None:
    put_notes(notes, "one")
    answer_with(transport, monkeypatch, lambda line: {"key": line["key"], "error": {"code": 14, "message": f"a{nasty}b", nasty: nasty}})
    [report] = run_round(transport, judge_task())
    assert [failure.error_type for failure in report.failures] == ["ProviderError"]
    [(logged,)] = notes.execute("SELECT raw_response_json->'error'->>'message' FROM ops.failure_logs").fetchall()
    assert logged == f"a{nasty}b".replace("\0", "")


def test_an_absurd_bill_and_a_price_that_is_gone_hold_back_no_answer(
    notes: psycopg.Connection, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_notes(notes, "one", "two")
    answer_with(
        transport, monkeypatch, lambda line: line | {"response": line["response"] | {"usageMetadata": {"promptTokenCount": 10**40}}}
    )
    task = judge_task()
    ask(transport, task)
    with_genai(transport, prices=[])
    [report] = parse(transport, task)
    assert report.success == 2
    [(settled, reserved)] = notes.execute("SELECT settled_usd, reserved_usd FROM ops.active_batches").fetchall()
    assert settled == pytest.approx(reserved)


def test_answers_that_cannot_be_read_are_not_taken_for_none(notes: psycopg.Connection, transport: Transport) -> None:
    put_notes(notes, "one")
    task = judge_task()
    ask(transport, task)
    bronze = transport.settings.bronze_path
    bronze.rename(bronze.with_name("away"))
    assert parse(transport, task) == []
    bronze.with_name("away").rename(bronze)
    assert (count(notes, "ops.failure_counts"), count(notes, "ops.inflight_records")) == (0, 1)
    notes.execute("UPDATE ops.file_ingestions SET retry_at = now()")
    notes.commit()
    assert [report.success for report in parse(transport, task)] == [1]


def test_answers_that_nobody_waits_for_free_their_money_and_their_records(notes: psycopg.Connection, transport: Transport) -> None:
    put_notes(notes, "one")
    task = judge_task()
    ask(transport, task)
    notes.execute("DELETE FROM silver.tasks_batches")
    notes.commit()
    assert parse(transport, task) == []
    [(status, settled)] = notes.execute("SELECT status, settled_usd FROM ops.active_batches").fetchall()
    assert (status, count(notes, "ops.inflight_records"), count(notes, "silver.tasks_results")) == ("completed", 0, 0)
    assert settled > 0


def test_a_record_that_waits_for_another_batch_is_never_dead_of_waiting(notes: psycopg.Connection, transport: Transport) -> None:
    put_notes(notes, "one")
    plant(transport, bad_json=["n0"])
    task = judge_task()
    for _ in range(3):
        run_round(transport, task)
        make_due(notes)
    with transport.connection.transaction():
        transport.state.claim_records("another", ["n0"])
    for _ in range(3):
        run_round(transport, task)
        assert states(notes, "note.judge") == {"n0": ("retrying", 3, "InFlightError")}
        make_due(notes)
    transport.state.release_records("another")
    transport.provider.faults = Faults()
    run_round(transport, task)
    assert set(judged(notes)) == {"n0"}


def with_media(task: Task, medium: Path, key: str) -> Task:
    """The task, with one file beside the prompt of one subject."""

    def build(item: Any, prompt: str) -> ModelRequest:
        return ModelRequest(prompt, (RequestMedium(medium, "image/png"),) if item.subject_key == key else ())

    return replace(task, spec=replace(task.spec, model=ModelTask(build, record_key=lambda item: item.subject_key)))


def test_a_medium_that_cannot_be_read_fails_its_record_alone(notes: psycopg.Connection, transport: Transport, tmp_path: Path) -> None:
    put_notes(notes, "one", "two")
    task = with_media(judge_task(), tmp_path / "gone.png", "n1")
    [report] = run_round(transport, task)
    assert (report.total, report.success) == (1, 1)
    assert states(notes, "note.judge")["n1"] == ("retrying", 1, "UnreadableMediumError")
    (tmp_path / "gone.png").write_bytes(b"png")
    make_due(notes)
    assert [report.success for report in run_round(transport, task)] == [1]


def test_a_batch_stays_within_its_bytes(notes: psycopg.Connection, transport: Transport) -> None:
    put_notes(notes, *(str(number) * 1000 for number in range(6)))
    with_genai(transport, max_batch_bytes=2_500)
    assert [report.total for report in run_round(transport, judge_task())] == [2, 2, 2]


@pytest.mark.parametrize("per_batch", [1, 1_000])
def test_a_cap_smaller_than_a_batch_sends_what_fits(notes: psycopg.Connection, transport: Transport, per_batch: int) -> None:
    put_notes(notes, "one", "two", "three")
    with_genai(transport, max_batch_requests=per_batch, max_usd_per_day=Decimal("0.0006"))
    task = judge_task()
    [batch_id] = runner.plan(transport.settings, task).batch_ids
    note = runner.process(transport.settings, task, batch_id).note
    [(reserved, asked)] = notes.execute("SELECT sum(reserved_usd), sum(request_count) FROM ops.active_batches").fetchall()
    assert (asked, count(notes, "ops.inflight_records")) == (2, 2)
    assert 0 < reserved <= Decimal("0.0006")
    assert f"genai.max_usd_per_day is 0.0006 USD: {reserved:.6f} USD are spent today or still reserved" in note
    assert sum(report.success for report in run_round(transport, task)) == 2
    found = states(notes, "note.judge")
    assert sorted(status for status, _, _ in found.values()) == ["retrying", "succeeded", "succeeded"]
    assert [(attempts, error) for status, attempts, error in found.values() if status == "retrying"] == [(0, "BudgetReachedError")]
    with_genai(transport, max_usd_per_day=Decimal(1))
    make_due(notes)
    assert sum(report.success for report in run_round(transport, task)) == 1


def test_a_cap_below_one_request_is_named_with_the_remedy_and_without_spending(notes: psycopg.Connection, transport: Transport) -> None:
    put_notes(notes, "one", "two")
    with_genai(transport, max_usd_per_task={"note.judge": Decimal("0.00001")})
    task = judge_task()
    [batch_id] = runner.plan(transport.settings, task).batch_ids
    note = runner.process(transport.settings, task, batch_id).note
    assert note.startswith("genai.max_usd_per_task.note.judge is 0.00001 USD, and one request may cost 0.000")
    assert "can never be asked" in note
    assert "maxOutputTokens" in note
    assert "spent" not in note
    assert list((transport.settings.data_path / "outbox").iterdir()) == []
    assert (count(notes, "ops.active_batches"), count(notes, "ops.inflight_records"), count(notes, "silver.tasks_status")) == (0, 0, 0)


def test_code_that_fails_on_one_item_fails_that_item_alone(notes: psycopg.Connection, transport: Transport) -> None:
    def build(item: Any, prompt: str) -> ModelRequest:
        if item.subject_key == "n1":
            raise ZeroDivisionError("a bug in the task")
        return ModelRequest(prompt + ("\ud800" if item.subject_key == "n2" else ""))

    put_notes(notes, "one", "two", "three")
    task = judge_task()
    broken = replace(task, spec=replace(task.spec, model=ModelTask(build, record_key=lambda item: item.subject_key)))
    assert [(report.total, report.success) for report in run_round(transport, broken)] == [(1, 1)]
    found = states(notes, "note.judge")
    assert (found["n1"][2], found["n2"][2]) == ("ZeroDivisionError", "UnicodeEncodeError")
