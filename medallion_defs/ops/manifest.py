"""What a run says of itself in the Dagster UI: Markdown tables and the metadata that every materialization carries."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from medallion_defs.ops.run_manifest import ROW_COUNTS, Manifest


def markdown_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; the empty string when there are no rows."""
    body = ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    if not body:
        return ""
    return "\n".join(["| " + " | ".join(headers) + " |", "|" + "---|" * len(headers), *body])


def as_metadata(values: Mapping[str, int | float | str], **markdown: str) -> dict[str, dg.MetadataValue[Any]]:
    """Return Dagster metadata of plain values; numbers are plotted over time by the UI, keywords are shown as Markdown."""
    plain = {name: _plain(value) for name, value in values.items()}
    shown = {name: dg.MetadataValue.md(text) for name, text in markdown.items() if text}
    return {**plain, **shown}


def manifest_metadata(manifest: Manifest | None) -> dict[str, dg.MetadataValue[Any]]:
    """Return a run's manifest as one JSON entry and as Markdown tables; nothing of a run that worked on no item."""
    if manifest is None:
        return {}
    counted = [name for name in ROW_COUNTS if getattr(manifest.rows, name) is not None]
    done = [
        (file.bronze_path, file.dataset or "", *(getattr(file.rows, name) for name in counted), (file.content_sha256 or "")[:12])
        for file in manifest.files
        if file.error is None
    ]
    failures = [(file.bronze_path, file.status, file.attempts, file.error) for file in manifest.files if file.error is not None]
    return {
        "manifest_json": dg.MetadataValue.json(manifest.model_dump(mode="json")),
        **as_metadata(
            {},
            manifest=markdown_table(["item", "dataset", *counted, "sha256"], done),
            flags=markdown_table(["quality flag", "rows"], manifest.quality_flags.items()),
            rejects=markdown_table(["reject code", "records"], manifest.rejects_by_code.items()),
            failures=markdown_table(["item", "status", "attempt", "why"], failures),
        ),
    }


def _plain(value: float | str) -> dg.MetadataValue[Any]:
    if isinstance(value, str):
        return dg.MetadataValue.text(value)
    return dg.MetadataValue.int(value) if isinstance(value, int) else dg.MetadataValue.float(value)


def _cell(value: object) -> str:
    # A pipe or a line break in a file name or an error would break the table.
    return str(value).replace("|", "\\|").replace("\n", " ")
