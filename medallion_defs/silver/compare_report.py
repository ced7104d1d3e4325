"""A comparison of two variants in words and tables: one Markdown text for the terminal and for the asset."""

from collections.abc import Iterator

import msgspec

from medallion_defs.core import markdown
from medallion_defs.core.markdown import Markdown, fill
from medallion_defs.silver.compare import ColumnDifference, Comparison, SideReport

_SHOWN_CHARACTERS = 60


def describe_comparison(found: Comparison) -> Markdown:
    """Return the comparison as Markdown; of a comparison that found nothing, the numbers that say so."""
    return markdown.join(_parts(found), "\n\n")


def _parts(found: Comparison) -> Iterator[Markdown]:
    a, b = found.a, found.b
    yield fill(
        "**{source}: variant {a} and variant {b}**, of the {items:,} items that both have read",
        source=found.source, a=a.variant, b=b.variant, items=found.items,
    )  # fmt: skip
    yield from (_caveat(side) for side in (a, b))
    yield from (_leftover(side) for side in (a, b))
    yield markdown.table(
        ["rows", "count"],
        [
            ("in both", f"{found.rows_both:,}"),
            ("of these, different", f"{found.rows_different:,}"),
            (f"only in {a.variant}", f"{a.rows_only:,}"),
            (f"only in {b.variant}", f"{b.rows_only:,}"),
            (f"in {a.variant}, not compared", f"{a.rows_apart:,}"),
            (f"in {b.variant}, not compared", f"{b.rows_apart:,}"),
        ],
    )
    names = ["table", "items", "failed", "rows", "digest"]
    yield markdown.table(["variant", *names], [(s.variant, s.table, s.items, s.failed, f"{s.rows:,}", s.digest) for s in (a, b)])
    yield markdown.table(["column", "rows that differ"], [(column.column, f"{column.rows:,}") for column in found.columns])
    yield _side_by_side("quality flag", found, a.quality_flags, b.quality_flags)
    yield _side_by_side("reject code", found, a.rejects, b.rejects)
    yield from (_differences(found, column) for column in found.columns)
    yield from (_only(side) for side in (a, b))


def _caveat(side: SideReport) -> Markdown:
    if not side.outdated:
        return Markdown("")
    return fill(
        "{outdated:,} of the items in {table} were last tried by other code than variant {variant} as it is now.",
        outdated=side.outdated, table=side.table, variant=side.variant,
    )  # fmt: skip


def _leftover(side: SideReport) -> Markdown:
    if not side.rows_only or not side.is_silver:
        return Markdown("")
    return fill(
        "{rows:,} rows that only silver has go after a promotion, when their items are read again.",
        rows=side.rows_only,
    )


def _side_by_side(what: str, found: Comparison, a: dict[str, int], b: dict[str, int]) -> Markdown:
    rows = [(name, f"{a.get(name, 0):,}", f"{b.get(name, 0):,}") for name in sorted(a.keys() | b.keys())]
    return markdown.table([what, f"in {found.a.variant}", f"in {found.b.variant}"], rows)


def _differences(found: Comparison, column: ColumnDifference) -> Markdown:
    headers = ["key", f"{column.column} in {found.a.variant}", f"in {found.b.variant}", "file, record"]
    rows = []
    for example in column.examples:
        places = dict.fromkeys((f"{example.file_a}, {example.record_a}", f"{example.file_b}, {example.record_b}"))
        rows.append((example.key, _shown(example.a), _shown(example.b), " / ".join(places)))
    return markdown.table(headers, rows)


def _only(side: SideReport) -> Markdown:
    rows = [(row.key, f"{row.file}, {row.record}") for row in side.examples_only]
    return markdown.table([f"key, only in {side.variant}", "file, record"], rows)


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
