"""The manifest of a silver run (ingestion) and of a gold run (enrichment): one schema, read from the ledger when somebody asks.

It goes onto the materialization, where it stays as it was at the end of the run; asked for later it tells what the ledger still
knows of the run (see `summary.py`: the last silver and the last gold run of each item). Unmatched rows are told by the caller,
who knows the tables of gold. How it looks in the UI is `manifest.py`'s.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, LiteralString
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from pydantic import BaseModel, ConfigDict, Field

from medallion_defs.core.errors import TerminalError
from medallion_defs.core.timing import per_second
from medallion_defs.ops.summary import compose, rows_done, unknown_run

Kind = Literal["ingestion", "enrichment"]
SHOWN_FILES = 200

_Row = dict[str, Any]
ROW_COUNTS = ("read", "created", "updated", "unchanged", "duplicate", "rejected")


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Timings(_Model):
    """When the run worked. Rates are null while it does, and when nothing was timed."""

    started_at: datetime = Field(description="first start of an item")
    ended_at: datetime | None = Field(description="last end of an item; null while one is open")
    seconds: float | None = Field(description="from the first start to the last end")
    rows_per_second: float | None = Field(description="records read (ingestion) or rows written (enrichment) a second")
    bytes_per_second: float | None = Field(description="bytes of the items in bronze a second")


class ItemCounts(_Model):
    """Bronze items that the run worked on."""

    total: int
    failed: int
    open: int = Field(description="begun and not ended")


class RowCounts(_Model):
    """Rows by what became of them; read = created + updated + unchanged + duplicate + rejected.

    An enrichment counts created and updated rows only, and adds them up over all gold runs of the item up to this one.
    """

    read: int | None = None
    created: int | None = None
    updated: int | None = None
    unchanged: int | None = None
    duplicate: int | None = None
    rejected: int | None = None


class Unmatched(_Model):
    """Rows of the gold table that wait for a lookup row, over the whole table at the time of asking."""

    rows: int = Field(description="rows that name a lookup row which is not known")
    share: float = Field(description="among the rows that name one")
    by_key: dict[str, int] = Field(description="the lookup keys (companies) that most of them wait for, most first")


class SourceFile(_Model):
    """One bronze item of the run."""

    file_id: UUID
    source_type: str
    dataset: str | None
    external_id: str
    revision: int
    bronze_path: str | None = Field(description="directory below data/bronze")
    content_sha256: str | None = Field(description="over the hashes of the item's artifacts, as in its _item.json")
    bytes: int | None
    code_version: str | None = Field(description="of the transform that made its silver rows")
    status: str = Field(description="of the item in the ledger, now")
    attempts: int
    rows: RowCounts
    error: str | None = Field(description="why the item failed in this run")


class Manifest(_Model):
    """What one silver or gold run made of which files."""

    schema_version: Literal[1] = 1
    kind: Kind
    run_id: str
    tables: list[str] = Field(description="written by the run")
    code_versions: list[str] = Field(description="of the transforms that made the silver rows of the files")
    timings: Timings
    items: ItemCounts
    rows: RowCounts
    bytes: int = Field(description="of the items in bronze")
    quality_flags: dict[str, int] = Field(description="silver rows by flag, most first; ingestion only")
    rejects_by_code: dict[str, int] = Field(description="records in silver.rejected_rows by error code, most first; ingestion only")
    unmatched: dict[str, Unmatched] = Field(description="by gold table; enrichment only")
    files: list[SourceFile] = Field(description="failed ones first, then in order of registration")
    files_omitted: int = Field(description="files of the run that are not listed in `files`")


def read_manifest(
    connection: psycopg.Connection[Any], run_id: str, *, unmatched: Mapping[str, Unmatched] | None = None, max_files: int | None = None
) -> Manifest:
    """Return the manifest of a silver or gold run.

    Raises:
        TerminalError: the ledger names no such run, or it is one of bronze, which has none.
    """
    manifest = find_manifest(connection, run_id, unmatched=unmatched, max_files=max_files)
    if manifest is None:
        known = connection.execute(compose("lines_of_run"), {"run_id": run_id}).fetchone()
        if known is None:
            raise unknown_run(run_id)
        raise TerminalError(f"Run {run_id} fetched files; manifests are of silver and gold runs. See 'medallion ops run {run_id}'.")
    return manifest


def find_manifest(
    connection: psycopg.Connection[Any],
    run_id: str,
    table: str | None = None,
    *,
    unmatched: Mapping[str, Unmatched] | None = None,
    max_files: int | None = None,
) -> Manifest | None:
    """Return the manifest of a run, or of its work on one `table` (`silver.companies`); None when the ledger knows of no work."""
    params: dict[str, object] = {"run_id": run_id, "table": table, "limit": max_files}
    found = _rows(connection, "manifest_runs", params)
    if not found:
        return None
    head = found[0]
    params["layer"] = head["layer"]
    is_silver = head["layer"] == "silver"
    files = [_build_file(row) for row in _rows(connection, "manifest_files", params)]
    return Manifest(
        kind="ingestion" if is_silver else "enrichment",
        run_id=run_id,
        tables=head["tables"],
        code_versions=[row["code_version"] for row in _rows(connection, "manifest_code_versions", params)],
        timings=_time(head),
        items=ItemCounts(total=head["items"], failed=head["items_failed"], open=head["items_open"]),
        rows=_count(head),
        bytes=head["bytes"],
        quality_flags=_tally(connection, "manifest_flags", params) if is_silver else {},
        rejects_by_code=_tally(connection, "manifest_rejects", params) if is_silver else {},
        unmatched=dict(unmatched or {}),
        files=files,
        files_omitted=head["items"] - len(files),
    )


def _build_file(row: _Row) -> SourceFile:
    facts = {name: row[name] for name in SourceFile.model_fields.keys() & row.keys() - {"error"}}
    return SourceFile(**facts, rows=_count(row), error=(row["error"] or {}).get("message"))


def _count(row: _Row) -> RowCounts:
    return RowCounts(**{name: row[f"rows_{name}"] for name in ROW_COUNTS})


def _time(head: _Row) -> Timings:
    seconds = head["seconds"]
    rows = rows_done(head["rows_read"], head["rows_created"], head["rows_updated"])
    return Timings(
        started_at=head["started_at"],
        ended_at=head["ended_at"],
        seconds=seconds,
        rows_per_second=per_second(rows, seconds),
        bytes_per_second=per_second(head["bytes"], seconds),
    )


def _rows(connection: psycopg.Connection[Any], name: LiteralString, params: dict[str, object]) -> list[_Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(compose(name), params).fetchall()


def _tally(connection: psycopg.Connection[Any], name: LiteralString, params: dict[str, object]) -> dict[str, int]:
    return dict(connection.execute(compose(name), params).fetchall())
