"""The Batch Summary Report: what became of each record of a batch, in numbers that add up and in Markdown for a person. Pure."""

from collections import Counter
from decimal import Decimal

import msgspec

_SHOWN = 200


class RecordFailure(msgspec.Struct, frozen=True):
    """One record without an answer. `retry`: how often it has failed by now; `is_dead`: it is not asked for again by itself."""

    record_key: str
    error_type: str
    message: str
    retry: int
    is_dead: bool


class BatchReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a batch. `total = success + len(failures)`."""

    batch_id: str
    task_key: str
    model: str
    mode: str
    total: int
    success: int
    failures: tuple[RecordFailure, ...]
    max_retries: int
    cost_usd: Decimal
    provider_state: str | None = None
    error: str | None = None
    foreign_keys: tuple[str, ...] = ()
    unreadable_lines: tuple[int, ...] = ()

    @property
    def failures_by_type(self) -> dict[str, int]:
        """Failed records by error type, most first."""
        return dict(Counter(failure.error_type for failure in self.failures).most_common())


def markdown(report: BatchReport) -> str:
    """Return the report as Markdown."""
    share = f" ({report.success / report.total:.1%})" if report.total else ""
    lines = [
        "### Batch Summary Report",
        "",
        f"- **Batch ID**: `{report.batch_id}`",
        f"- **Task**: `{report.task_key}` by {report.model}, {report.mode}",
        f"- **Total records**: {report.total:,}",
        f"- **Success**: {report.success:,}{share}",
        f"- **Failures**: {len(report.failures):,}",
        f"- **Cost**: {report.cost_usd:.6f} USD",
        *_troubles(report),
    ]
    return "\n".join([*lines, *_failures(report)])


def _troubles(report: BatchReport) -> list[str]:
    lines = []
    if report.error:
        lines.append(f"- **The provider**: {report.provider_state}: {report.error}")
    if report.foreign_keys:
        lines.append(f"- **Lines of records nobody asked for**: {_cut(report.foreign_keys)}")
    if report.unreadable_lines:
        lines.append(f"- **Unreadable lines**: {_cut([str(number) for number in report.unreadable_lines])}")
    return lines


def _failures(report: BatchReport) -> list[str]:
    if not report.failures:
        return []
    kinds = ", ".join(f"{count} {kind}" for kind, count in report.failures_by_type.items())
    rows = [
        f"| `{failure.record_key}` | {failure.error_type}: {_cell(failure.message)} | {_retry(failure, report.max_retries)} |"
        for failure in report.failures[:_SHOWN]
    ]
    more = [f"\n… and {len(report.failures) - _SHOWN:,} more: `medallion genai failures --batch {report.batch_id}`"]
    return ["", f"**Failed records** ({kinds})", "", "| record | reason | retry |", "|---|---|---|", *rows,
            *(more if len(report.failures) > _SHOWN else [])]  # fmt: skip


def _retry(failure: RecordFailure, max_retries: int) -> str:
    if failure.retry > max_retries:
        return f"{failure.retry}/{max_retries} (Maxed)"
    return f"{failure.retry}/{max_retries}" + (" (not asked again: the answer would be the same)" if failure.is_dead else "")


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "\\|")[:300]


def _cut(values: tuple[str, ...] | list[str]) -> str:
    return ", ".join(values[:20]) + (f" … ({len(values):,} in all)" if len(values) > 20 else "")
