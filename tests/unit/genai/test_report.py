"""The Batch Summary Report, as a person reads it."""

from decimal import Decimal
from typing import Any

from medallion_defs.genai.report import BatchReport, RecordFailure, describe_report

FAILURES = (
    RecordFailure("Alabama:Lincoln:1987:4", "JSONDecodeError", "no", 2, is_dead=False),
    RecordFailure("California:Adams:1990:10", "Safety", "no", 4, is_dead=True),
    RecordFailure("Ohio:Mann:1990:1", "Blocked", "no", 1, is_dead=True),
    RecordFailure("Ohio:Mann:1990:2", "MissingResponse", "no", 1, is_dead=False),
)


def report(*failures: RecordFailure, **more: Any) -> str:
    numbers = {"total": 1_000, "success": 1_000 - len(failures), "max_retries": 3, "cost_usd": Decimal("0.5")}
    return describe_report(BatchReport(batch_id="b-1", task_key="t", model="m", mode="batch", failures=failures, **(numbers | more)))


def test_the_report_reads_as_agreed() -> None:
    assert report(*FAILURES).splitlines() == [
        "### Batch Summary Report",
        "",
        "- **Batch ID**: `b-1`",
        "- **Task**: `t` by m, batch",
        "- **Cost**: 0.500000 USD",
        "- **Total Requests**: 1,000",
        "- **Success**: 996 (99.6%)",
        "- **Failures**: 4",
        "- **Failed IDs**: 2 Content Filtered, 1 JSON Decode Error, 1 Missing Response",
        "    - `Alabama:Lincoln:1987:4` (JSON Decode Error) - *Retry #2*",
        "    - `California:Adams:1990:10` (Content Filtered) - *Retry #3 (Maxed)*",
        "    - `Ohio:Mann:1990:1` (Content Filtered) - *Not retried: the answer would be the same*",
        "    - `Ohio:Mann:1990:2` (Missing Response) - *Retry #1*",
    ]


def test_a_report_without_failures_says_none() -> None:
    assert "- **Failed IDs**: none" in report()


def test_what_is_assumed_and_what_was_odd_is_said() -> None:
    said = report(unstated=3, unpriced=2, remarked_keys=("k1",), unreadable_lines=(7,), foreign_keys=("k9",))
    assert "3 lines, which do not say what tokens they used" in said
    assert "2 lines, for whose day `genai.prices` has no price" in said
    assert "code fence or of words around the JSON**: k1" in said
    assert "`medallion genai failures --batch b-1 --error-type UnreadableLine`" in said


def test_text_of_the_provider_and_keys_do_not_render() -> None:
    said = report(
        RecordFailure("![x](http://evil.example/p.png)", "Odd<b>", "no", 1, is_dead=False),
        error="<img src=//evil.example/q>",
        provider_state="FAILED",
    )
    assert "![x](" not in said.replace("`![x](http://evil.example/p.png)`", "")
    assert "<b>" not in said
    assert "<img" not in said


def test_many_failures_are_cut_with_a_command_that_lists_them() -> None:
    said = report(*(RecordFailure(f"k{number}", "MaxTokens", "no", 1, is_dead=False) for number in range(250)))
    assert said.count(" (Max Tokens) - *Retry #1*") == 200
    assert said.splitlines()[-1] == "    - … and 50 more: `medallion genai failures --batch b-1`"
