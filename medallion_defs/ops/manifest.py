"""What a run says of itself in the Dagster UI: Markdown tables and the metadata that every materialization carries."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg


def markdown_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; the empty string when there are no rows."""
    body = ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    if not body:
        return ""
    return "\n".join(["| " + " | ".join(headers) + " |", "|" + "---|" * len(headers), *body])


def rates(rows: int, size_bytes: int, seconds: float) -> dict[str, float]:
    """Return `seconds`, `rows_per_second` and `bytes_per_second`; rates are 0 when nothing was timed."""
    per = 1 / seconds if seconds > 0 else 0.0
    return {"seconds": round(seconds, 3), "rows_per_second": round(rows * per), "bytes_per_second": round(size_bytes * per)}


def as_metadata(values: Mapping[str, int | float | str], **markdown: str) -> dict[str, dg.MetadataValue[Any]]:
    """Return Dagster metadata of plain values; numbers are plotted over time by the UI, keywords are shown as Markdown."""
    plain = {name: _plain(value) for name, value in values.items()}
    shown = {name: dg.MetadataValue.md(text) for name, text in markdown.items() if text}
    return {**plain, **shown}


def _plain(value: float | str) -> dg.MetadataValue[Any]:
    if isinstance(value, str):
        return dg.MetadataValue.text(value)
    return dg.MetadataValue.int(value) if isinstance(value, int) else dg.MetadataValue.float(value)


def _cell(value: object) -> str:
    # A pipe or a line break in a file name or an error would break the table.
    return str(value).replace("|", "\\|").replace("\n", " ")
