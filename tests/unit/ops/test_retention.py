"""What a policy lets go, and why: without a database."""

from datetime import timedelta
from uuid import UUID

import pytest

from medallion_defs.core.ids import file_id
from medallion_defs.core.sections import SourceRetention
from medallion_defs.ops.file_ingestion import Status
from medallion_defs.ops.ledger_values import Retained
from medallion_defs.ops.retention import RetentionLine, decide, summarize
from tests.integration.bronze_items import NOON


def item(name: str, days: float, revision: int = 1, status: Status = "loaded", size: int = 10) -> Retained:
    at = NOON - timedelta(days=days)
    return Retained(file_id("s", name, revision), name, revision, f"s/{name}@{revision}", size, at, status)


def gone(items: list[Retained], **policy: int) -> dict[str, str]:
    return {verdict.item.path: verdict.rule for verdict in decide(items, SourceRetention(**policy), NOON)}


HISTORY = [item("a", 40, 1), item("a", 30, 2), item("a", 20, 3), item("b", 35, 1), item("c", 5, 1)]


def test_nothing_goes_without_a_policy() -> None:
    assert gone(HISTORY) == {}


def test_by_age_goes_what_was_fetched_before_the_limit_and_not_at_it() -> None:
    assert gone(HISTORY, max_age_days=30) == {"s/a@1": "policy max_age_days 30", "s/b@1": "policy max_age_days 30"}


def test_by_revisions_go_the_oldest_of_each_id() -> None:
    assert gone(HISTORY, keep_revisions=2) == {"s/a@1": "policy keep_revisions 2"}
    assert list(gone(HISTORY, keep_revisions=1)) == ["s/a@1", "s/a@2"]


def test_by_count_the_current_revision_of_an_id_stays_however_many_there_are() -> None:
    assert list(gone(HISTORY, max_items=1)) == ["s/a@1", "s/a@2"]
    assert list(gone(HISTORY, max_items=4)) == ["s/a@1"]
    assert gone(HISTORY, max_items=5) == {}


def test_an_item_goes_once_by_the_first_rule_that_says_so() -> None:
    assert gone(HISTORY, max_age_days=38, keep_revisions=1, max_items=1) == {
        "s/a@1": "policy max_age_days 38",
        "s/a@2": "policy keep_revisions 1",
    }


@pytest.mark.parametrize("status", ["pending", "claimed", "retrying", "dead", "refused", "withdrawn", "removed"])
def test_what_is_not_done_stays_whatever_its_age(status: Status) -> None:
    assert gone([item("a", 900, 1, status), item("a", 800, 2)], max_age_days=850, keep_revisions=1, max_items=1) == {}


def test_a_revision_that_waits_counts_as_the_current_one() -> None:
    assert list(gone([item("a", 2, 1), item("a", 1, 2, "pending")], keep_revisions=1)) == ["s/a@1"]


def test_a_summary_has_one_line_a_rule_with_what_is_kept() -> None:
    verdicts = decide(HISTORY, SourceRetention(max_age_days=38, keep_revisions=1), NOON)
    assert summarize("bronze/s", verdicts[:1], kept=verdicts[1:]) == [
        RetentionLine(what="bronze/s", rule="policy max_age_days 38", number=1, bytes=10, oldest_at=NOON - timedelta(days=40)),
        RetentionLine(what="bronze/s", rule="policy keep_revisions 1", number=0, bytes=0, kept_for_traces=1),
    ]


def test_items_of_one_moment_are_told_apart_by_id() -> None:
    twins = [Retained(UUID(int=n), "a", n, f"s/a@{n}", 1, NOON, "loaded") for n in (1, 2)]
    assert list(gone(twins, keep_revisions=1)) == list(gone(twins[::-1], keep_revisions=1)) == ["s/a@1"]
