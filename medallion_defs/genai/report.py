"""The Batch Summary Report: what became of each record of a batch, in numbers that add up and in Markdown for a person. Pure."""

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

import msgspec

from medallion_defs.core.markdown import Markdown, code, fill, join, table

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


def describe_report(report: BatchReport) -> Markdown:
    """Return the report as Markdown."""
    parts = [Markdown("### Batch Summary Report"), _summary(report), *_failures(report)]
    return join(parts, "\n\n")


def _summary(report: BatchReport) -> Markdown:
    share = fill(" ({share:.1%})", share=report.success / (report.total or 1))
    names = {"task": code(report.task_key), "model": report.model, "mode": report.mode}
    return join([
        fill("- **Batch ID**: {batch_id}", batch_id=code(report.batch_id)),
        fill("- **Task**: {task} by {model}, {mode}", **names),
        fill("- **Total records**: {total:,}", total=report.total),
        fill("- **Success**: {success:,}{share}", success=report.success, share=share if report.total else ""),
        fill("- **Failures**: {failures:,}", failures=len(report.failures)),
        fill("- **Cost**: {cost:.6f} USD", cost=report.cost_usd),
        *_troubles(report),
    ])  # fmt: skip


def _troubles(report: BatchReport) -> Iterator[Markdown]:
    if report.error:
        said = {"state": report.provider_state, "error": report.error}
        yield fill("- **The provider**: {state}: {error}", **said)
    if report.foreign_keys:
        yield fill("- **Lines of records nobody asked for**: {keys}", keys=_cut(report.foreign_keys))
    if report.unreadable_lines:
        numbers = _cut([str(number) for number in report.unreadable_lines])
        yield fill("- **Unreadable lines**: {numbers}", numbers=numbers)


def _failures(report: BatchReport) -> Iterator[Markdown]:
    if not report.failures:
        return
    kinds = ", ".join(f"{count} {kind}" for kind, count in report.failures_by_type.items())
    yield fill("**Failed records** ({kinds})", kinds=kinds)
    yield table(
        ["record", "reason", "retry"],
        [
            (code(each.record_key), f"{each.error_type}: {each.message[:300]}", _retry(each, report.max_retries))
            for each in report.failures[:_SHOWN]
        ],
    )
    if len(report.failures) > _SHOWN:
        command = code(f"medallion genai failures --batch {report.batch_id}")
        yield fill("… and {more:,} more: {command}", more=len(report.failures) - _SHOWN, command=command)


def _retry(failure: RecordFailure, max_retries: int) -> str:
    if failure.retry > max_retries:
        return f"{failure.retry}/{max_retries} (Maxed)"
    return f"{failure.retry}/{max_retries}" + (" (not asked again: the answer would be the same)" if failure.is_dead else "")


def _cut(values: tuple[str, ...] | list[str]) -> str:
    return ", ".join(values[:20]) + (f" … ({len(values):,} in all)" if len(values) > 20 else "")
