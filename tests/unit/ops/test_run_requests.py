"""At most one run at a time for a piece of work, another after a failure, and an end to failing."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from medallion_defs.ops.run_requests import WORK_TAG, PastRun, decide_attempt, request_run

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
RULE = 30.0


def past(*, live: bool = False, success: bool = False, seconds_ago: float = 7200, attempt: int = 1) -> PastRun:
    return PastRun(run_id="r", attempt=attempt, is_live=live, is_success=success, ended_at=NOW - timedelta(seconds=seconds_ago))


def test_work_without_a_run_is_requested() -> None:
    assert decide_attempt([], RULE, NOW, again_after_success=False) == 1


def test_a_live_run_is_waited_for_even_when_earlier_ones_failed() -> None:
    assert "is at it" in str(decide_attempt([past(live=True), past()], RULE, NOW, again_after_success=True))


def test_a_failure_is_tried_again_only_after_its_back_off() -> None:
    assert "tried again at 12:00:20" in str(decide_attempt([past(seconds_ago=10)], RULE, NOW, again_after_success=False))
    assert decide_attempt([past(seconds_ago=31)], RULE, NOW, again_after_success=False) == 2


def test_the_back_off_doubles() -> None:
    assert "tried again" in str(decide_attempt([past(seconds_ago=45), past()], RULE, NOW, again_after_success=False))
    assert decide_attempt([past(seconds_ago=61, attempt=2), past()], RULE, NOW, again_after_success=False) == 3


def test_after_many_failures_it_is_tried_once_an_hour_and_the_run_to_look_at_is_named() -> None:
    failures = [past(seconds_ago=3500, attempt=40), *[past()] * 11]
    assert "failed 12 times in a row, last in run r" in str(decide_attempt(failures, RULE, NOW, again_after_success=True))
    assert decide_attempt([past(seconds_ago=3601, attempt=40), *[past()] * 11], RULE, NOW, again_after_success=True) == 41


@pytest.mark.parametrize(("again", "expected"), [(False, "run r did it"), (True, 2)])
def test_success_ends_the_work_unless_the_data_still_show_it_open(again: bool, expected: str | int) -> None:
    assert decide_attempt([past(success=True)], RULE, NOW, again_after_success=again) == expected


def test_failures_before_a_success_are_forgotten() -> None:
    runs = [past(seconds_ago=40, attempt=5), past(success=True), past(), past(), past()]
    assert decide_attempt(runs, RULE, NOW, again_after_success=True) == 6


def test_each_attempt_has_a_run_key_of_its_own_and_carries_the_work() -> None:
    @dg.op
    def fails() -> None:
        raise ValueError("no")

    @dg.job
    def work_job() -> None:
        fails()

    later = datetime(2100, 1, 1, tzinfo=UTC)
    with dg.DagsterInstance.ephemeral() as instance:
        first = request_run(instance, "silver/x/1", RULE, later)
        assert isinstance(first, dg.RunRequest)
        assert (first.run_key, first.tags[WORK_TAG]) == ("silver/x/1:1", "silver/x/1")
        work_job.execute_in_process(instance=instance, tags=dict(first.tags), raise_on_error=False)
        second = request_run(instance, "silver/x/1", RULE, later)
        assert isinstance(second, dg.RunRequest)
        assert second.run_key == "silver/x/1:2"
