"""The Batch Summary Report: what became of each record of a batch, in numbers that add up and in Markdown for a person. Pure."""

import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

import msgspec

from medallion_defs.core.markdown import Markdown, code, fill, join

_SHOWN = 200
_LABELS = {"JSONDecodeError": "JSON Decode Error", "Safety": "Content Filtered", "Blocked": "Content Filtered"}
_WORD_START = re.compile(r"(?<=[a-z])(?=[A-Z])")


class RecordFailure(msgspec.Struct, frozen=True):
    """One record without an answer. `retry`: how often it has failed by now; `is_dead`: it is not asked for again by itself."""

    record_key: str
    error_type: str
    message: str
    retry: int
    is_dead: bool


class BatchReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a batch. `total = success + len(failures)`.

    Attributes:
        unstated, unpriced: lines whose cost is assumed as reserved: they do not say what they used, or there is no price for them.
        unanswered: records without a line although the job ended well; the same is assumed of them.
        remarked_keys: records whose answer was read out of a code fence, or out of words around it.
    """

    batch_id: str
    task_key: str
    model: str
    mode: str
    total: int
    success: int
    failures: tuple[RecordFailure, ...]
    max_retries: int
    cost_usd: Decimal
    unstated: int = 0
    unpriced: int = 0
    unanswered: int = 0
    remarked_keys: tuple[str, ...] = ()
    provider_state: str | None = None
    error: str | None = None
    foreign_keys: tuple[str, ...] = ()
    unreadable_lines: tuple[int, ...] = ()


def describe_report(report: BatchReport) -> Markdown:
    """Return the report as Markdown."""
    parts = [fill("- **Failed IDs**: {kinds}", kinds=_kinds(report)), *_failures(report)]
    return join([join([Markdown("### Batch Summary Report"), _summary(report)], "\n\n"), *parts])


def _summary(report: BatchReport) -> Markdown:
    share = fill(" ({share:.1%})", share=report.success / (report.total or 1))
    names = {"task": code(report.task_key), "model": report.model, "mode": report.mode}
    return join([
        fill("- **Batch ID**: {batch_id}", batch_id=code(report.batch_id)),
        fill("- **Task**: {task} by {model}, {mode}", **names),
        fill("- **Cost**: {cost:.6f} USD", cost=report.cost_usd),
        *_troubles(report),
        fill("- **Total Requests**: {total:,}", total=report.total),
        fill("- **Success**: {success:,}{share}", success=report.success, share=share if report.total else ""),
        fill("- **Failures**: {failures:,}", failures=len(report.failures)),
    ])  # fmt: skip


def _troubles(report: BatchReport) -> Iterator[Markdown]:
    if report.unstated:
        yield fill("- **Assumed as reserved**: {lines:,} lines, which do not say what tokens they used", lines=report.unstated)
    if report.unpriced:
        where = code("genai.prices")
        yield fill("- **Assumed as reserved**: {lines:,} lines, for whose day {where} has no price", lines=report.unpriced, where=where)
    if report.unanswered:
        yield fill("- **Assumed as reserved**: {records:,} records without a line; what they used is not known", records=report.unanswered)
    if report.remarked_keys:
        yield fill("- **Read out of a code fence or of words around the JSON**: {keys}", keys=_cut(report.remarked_keys))
    if report.error:
        said = {"state": report.provider_state, "error": report.error}
        yield fill("- **The provider**: {state}: {error}", **said)
    if report.foreign_keys:
        yield fill("- **Lines of records that were not asked for**: {keys}", keys=_cut(report.foreign_keys))
    if report.unreadable_lines:
        numbers = _cut([str(number) for number in report.unreadable_lines])
        command = code(f"medallion genai failures --batch {report.batch_id} --error-type UnreadableLine")
        yield fill("- **Unreadable lines**, billed as reserved: {numbers}; {command}", numbers=numbers, command=command)


def _kinds(report: BatchReport) -> str:
    counts = Counter(_label(failure.error_type) for failure in report.failures)
    return ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common()) or "none"


def _failures(report: BatchReport) -> Iterator[Markdown]:
    for each in report.failures[:_SHOWN]:
        said = {"key": code(each.record_key), "kind": _label(each.error_type), "retry": _retry(each, report.max_retries)}
        yield fill("    - {key} ({kind}) - *{retry}*", **said)
    if len(report.failures) > _SHOWN:
        command = code(f"medallion genai failures --batch {report.batch_id}")
        yield fill("    - … and {more:,} more: {command}", more=len(report.failures) - _SHOWN, command=command)


def _label(error_type: str) -> str:
    """Return an error type in words."""
    return _LABELS.get(error_type) or _WORD_START.sub(" ", error_type)


def _retry(failure: RecordFailure, max_retries: int) -> str:
    """Return the retry that comes next, or that was the last."""
    if failure.retry > max_retries:
        return f"Retry #{max_retries} (Maxed)"
    return "Not retried: the answer would be the same" if failure.is_dead else f"Retry #{failure.retry}"


def _cut(values: tuple[str, ...] | list[str]) -> str:
    return ", ".join(values[:20]) + (f" … ({len(values):,} in all)" if len(values) > 20 else "")
