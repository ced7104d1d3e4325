"""A comparison of two variants in words and tables: one Markdown text for the terminal and for the asset."""

from collections.abc import Iterator

import msgspec

from medallion_defs.ops.manifest import markdown_table
from medallion_defs.silver.compare import ColumnDifference, Comparison, SideReport

_SHOWN_CHARACTERS = 60


def describe_comparison(found: Comparison) -> str:
    """Return the comparison as Markdown; of a comparison that found nothing, the numbers that say so."""
    return "\n\n".join(part for part in _parts(found) if part)


def _parts(found: Comparison) -> Iterator[str]:
    a, b = found.a, found.b
    yield f"**{found.source}: variant {a.variant} and variant {b.variant}**, of the {found.items:,} items that both have read"
    yield from (_caveat(side) for side in (a, b))
    yield from (_leftover(side) for side in (a, b))
    yield markdown_table(
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
    yield markdown_table(["variant", *names], [(s.variant, s.table, s.items, s.failed, f"{s.rows:,}", s.digest) for s in (a, b)])
    yield markdown_table(["column", "rows that differ"], [(column.column, f"{column.rows:,}") for column in found.columns])
    yield _side_by_side("quality flag", found, a.quality_flags, b.quality_flags)
    yield _side_by_side("reject code", found, a.rejects, b.rejects)
    yield from (_differences(found, column) for column in found.columns)
    yield from (_only(side) for side in (a, b))


def _caveat(side: SideReport) -> str:
    if not side.outdated:
        return ""
    return f"{side.outdated:,} of the items in {side.table} were last tried by other code than variant {side.variant} as it is now."


def _leftover(side: SideReport) -> str:
    if not side.rows_only or not side.is_silver:
        return ""
    return f"{side.rows_only:,} rows that only silver has would stay there after a promotion: a load never deletes. See docs/variants.md."


def _side_by_side(what: str, found: Comparison, a: dict[str, int], b: dict[str, int]) -> str:
    rows = [(name, f"{a.get(name, 0):,}", f"{b.get(name, 0):,}") for name in sorted(a.keys() | b.keys())]
    return markdown_table([what, f"in {found.a.variant}", f"in {found.b.variant}"], rows)


def _differences(found: Comparison, column: ColumnDifference) -> str:
    headers = ["key", f"{column.column} in {found.a.variant}", f"in {found.b.variant}", "file, record"]
    rows = []
    for example in column.examples:
        places = dict.fromkeys((f"{example.file_a}, {example.record_a}", f"{example.file_b}, {example.record_b}"))
        rows.append((example.key, _shown(example.a), _shown(example.b), " / ".join(places)))
    return markdown_table(headers, rows)


def _only(side: SideReport) -> str:
    rows = [(row.key, f"{row.file}, {row.record}") for row in side.examples_only]
    return markdown_table([f"key, only in {side.variant}", "file, record"], rows)


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
