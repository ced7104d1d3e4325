"""What a run says of itself in the Dagster UI: Markdown tables and the metadata that every materialization carries."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from medallion_defs.core import markdown
from medallion_defs.core.markdown import Markdown
from medallion_defs.ops.run_manifest import ROW_COUNTS, Manifest


def as_metadata(values: Mapping[str, int | float | str], **shown: Markdown) -> dict[str, dg.MetadataValue[Any]]:
    """Return Dagster metadata of plain values; numbers are plotted over time by the UI, keywords are shown as Markdown."""
    plain = {name: _plain(value) for name, value in values.items()}
    return {**plain, **{name: dg.MetadataValue.md(text) for name, text in shown.items() if text}}


def manifest_metadata(manifest: Manifest | None) -> dict[str, dg.MetadataValue[Any]]:
    """Return a run's manifest as one JSON entry and as Markdown tables; nothing of a run that worked on no item."""
    if manifest is None:
        return {}
    counted = [name for name in ROW_COUNTS if getattr(manifest.rows, name) is not None]
    done = [
        (
            file.bronze_path,
            file.dataset or "",
            *(getattr(file.rows, name) for name in counted),
            (file.content_sha256 or "")[:12],
            file.file_id,
        )
        for file in manifest.files
        if file.error is None
    ]
    failures = [
        (file.bronze_path, file.status, file.attempts, file.error, file.file_id) for file in manifest.files if file.error is not None
    ]
    return {
        "manifest_json": dg.MetadataValue.json(manifest.model_dump(mode="json")),
        **as_metadata(
            {},
            manifest=markdown.table(["item", "dataset", *counted, "sha256", "file id"], done),
            flags=markdown.table(["quality flag", "rows"], manifest.quality_flags.items()),
            rejects=markdown.table(["reject code", "records"], manifest.rejects_by_code.items()),
            failures=markdown.table(["item", "status", "attempt", "why", "file id"], failures),
        ),
    }


def _plain(value: float | str) -> dg.MetadataValue[Any]:
    if isinstance(value, str):
        return dg.MetadataValue.text(value)
    return dg.MetadataValue.int(value) if isinstance(value, int) else dg.MetadataValue.float(value)
