"""Variants side by side with silver: load one into tables of its own in `silver_experiments`, list what is there, drop it.

From the same bronze, with the same loader; gold does not read it, and the ledger does not hear of it. The tables of a variant hold
what one version of its code makes: a run with newer code empties them first. They are made like
silver's by the run that fills them and not by a migration, since experiments come and go, and no release rests on one.
"""

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from psycopg import sql
from psycopg.rows import class_row
from sqlalchemy import MetaData, Table

from medallion_defs.core import db
from medallion_defs.core.errors import ConfigurationError, MedallionError, TerminalError, TransientError
from medallion_defs.core.sections import SourceSettings
from medallion_defs.core.settings import Settings
from medallion_defs.core.sql import load_queries
from medallion_defs.core.timing import Timer
from medallion_defs.ops.endings import describe_error
from medallion_defs.ops.file_ingestion import DatasetIngestion
from medallion_defs.ops.scope import Scope, like_pattern
from medallion_defs.silver.contract import RejectedRecord
from medallion_defs.silver.extract import Row
from medallion_defs.silver.load_run import classify_error, item_facts, open_item
from medallion_defs.silver.loader import ItemLoad, classify_database_error, load_items
from medallion_defs.silver.stage import rejects_table
from medallion_defs.silver.tables import REJECTED_ROWS
from medallion_defs.silver.together import load_together
from medallion_defs.silver.variants import VariantContent

SCHEMA = "silver_experiments"
QUERIES = load_queries(__package__, "experiments.sql")
_COLUMNS = sql.SQL(", ").join(map(sql.Identifier, DatasetIngestion.__struct_fields__))


class VariantFailedError(TerminalError):
    """The code of a variant raised what no transform may raise."""


class VariantInUseError(TransientError):
    """Another session loads or drops the same variant."""


@dataclass(frozen=True)
class VariantChunk:
    """What one transaction loaded: the items as the ledger has them, and what became of each, in the same order."""

    items: Sequence[DatasetIngestion]
    loads: Sequence[ItemLoad]
    seconds: float

    @property
    def failed(self) -> list[tuple[DatasetIngestion, MedallionError]]:
        return [(item, load.error) for item, load in zip(self.items, self.loads, strict=True) if load.error]

    def total(self, count: str) -> int:
        """Return the sum of one of the counts of `ItemLoad` over the items."""
        return sum(getattr(load, count) for load in self.loads)

    @classmethod
    def merge(cls, chunks: Sequence["VariantChunk"]) -> "VariantChunk":
        """Return one report for all chunks of a run."""
        items = [item for chunk in chunks for item in chunk.items]
        return cls(items, [load for chunk in chunks for load in chunk.loads], sum(chunk.seconds for chunk in chunks))


class LoadedVariant(msgspec.Struct, frozen=True):
    """What was loaded of one variant. `failed`: items that could not be; `code_version`: the code that the rows are made by."""

    source_type: str
    variant: str
    items: int
    failed: int
    rows_read: int
    code_version: str
    loaded_at: datetime


def run_variant(settings: Settings, content: VariantContent, scope: Scope, run_id: str) -> Iterator[VariantChunk]:
    """Load the items in `scope` that this version of the variant's code has not loaded yet, chunk by chunk, each in a transaction.

    A run that was stopped is resumed by running it again.

    Raises:
        ConfigurationError: the variant's table has other columns than silver's; it was made before a migration.
        VariantInUseError: another run is at it.
        TransientError: the database went away; what was yielded before is kept.
    """
    with _hold(settings, content) as connection:
        prepare_tables(connection, content)
        after = UUID(int=0)
        while items := _next_items(connection, content, scope, after, settings.source(content.source.name)):
            yield _Load(settings, content, connection, run_id).chunk(items)
            after = items[-1].file_id
        connection.execute(_query("analyze_rows", content))


def drop_variant(settings: Settings, content: VariantContent) -> bool:
    """Drop the tables of a variant, and forget what was loaded; return whether there was anything.

    Raises:
        VariantInUseError: a run is at it.
        TransientError: somebody reads the table and does not come to an end.
    """
    with _hold(settings, content) as connection, connection.transaction():
        was_there = has_table(connection, content)
        connection.execute(QUERIES["limit_wait"])
        connection.execute(_query("drop_tables", content))
        connection.execute(_query("forget_loads", content), _params(content))
        return was_there


def read_loaded(connection: psycopg.Connection) -> list[LoadedVariant]:
    """Return what was loaded of each variant that there is in the database, of whatever source."""
    with connection.cursor(row_factory=class_row(LoadedVariant)) as cursor:
        return cursor.execute(QUERIES["loaded_variants"]).fetchall()


def prepare_tables(connection: psycopg.Connection, content: VariantContent) -> None:
    """Make the tables of a variant where they are missing, and empty them where other code filled them."""
    with connection.transaction():
        connection.execute(_query("create_rows", content))
        connection.execute(_query("create_rejects", content))
        names = {"rows": _quoted(experiment_table(content)), "silver": _quoted(content.table)}
        if other := [name for (name,) in connection.execute(QUERIES["other_columns"], names)]:
            raise ConfigurationError(
                f"{SCHEMA}.{experiment_table(content).name} was made before {content.table.schema}.{content.table.name} got its present "
                f"columns (they differ in {', '.join(other)}). "
                f"Run 'medallion variants drop {content.source.name} {content.variant}', then load it again."
            )
        ((is_stale,),) = connection.execute(QUERIES["is_stale"], _params(content) | {"code_version": content.code.digest})
        if is_stale:
            connection.execute(_query("empty_rows", content))
            connection.execute(_query("empty_rejects", content))
            connection.execute(_query("forget_loads", content), _params(content))


def has_table(connection: psycopg.Connection, content: VariantContent) -> bool:
    """Tell whether a variant was ever loaded beside silver and not dropped since."""
    ((found,),) = connection.execute(QUERIES["find_table"], {"rows": _quoted(experiment_table(content))})
    return bool(found)


def experiment_table(content: VariantContent) -> Table:
    """Return `silver_experiments.{source}__{variant}`: the columns of silver's table."""
    table = content.table.to_metadata(MetaData(), schema=SCHEMA, name=f"{content.table.name}__{content.variant}")
    table.info["rejects"] = (SCHEMA, f"{table.name}__rejected")
    return table


def rejects_name(content: VariantContent) -> sql.Identifier:
    """Return the table of the records that the variant rejects: `silver_experiments.{source}__{variant}__rejected`."""
    return sql.Identifier(*rejects_table(experiment_table(content)))


@dataclass(frozen=True)
class _Load:
    """One run's work on one chunk of items."""

    settings: Settings
    content: VariantContent
    connection: psycopg.Connection
    run_id: str

    def chunk(self, items: Sequence[DatasetIngestion]) -> VariantChunk:
        timer = Timer()
        # A bug in the variant's own code stops the run: it is being tried out.
        passed_on = (psycopg.OperationalError, psycopg.InterfaceError, VariantFailedError)
        loads = load_together(items, self._in_transaction, self._save_failure, passed_on)
        return VariantChunk(items, loads, timer.seconds)

    def _in_transaction(self, items: Sequence[DatasetIngestion]) -> list[ItemLoad]:
        with self.connection.transaction():
            return self._save(self._load(items))

    def _save_failure(self, item: DatasetIngestion, error: Exception) -> list[ItemLoad]:
        with self.connection.transaction():
            return self._save([ItemLoad(item.file_id, error=classify_error(error))])

    def _load(self, items: Sequence[DatasetIngestion]) -> list[ItemLoad]:
        opened = ((item_facts(item), self._read(item)) for item in items)
        share = self.settings.source(self.content.source.name).max_rejected_share
        return load_items(self.connection, experiment_table(self.content), opened, max_rejected_share=share)

    def _read(self, item: DatasetIngestion) -> Iterator[Row | RejectedRecord]:
        try:
            yield from open_item(self.settings, self.content, item).records
        except MedallionError:
            raise
        except Exception as error:
            raise VariantFailedError(_describe_bug(self.content, item, error)) from error

    def _save(self, loads: list[ItemLoad]) -> list[ItemLoad]:
        known = _params(self.content) | {"run_id": self.run_id, "code_version": self.content.code.digest}
        rows = [known | asdict(load) | {"error": describe_error(load.error)["message"] if load.error else None} for load in loads]
        with self.connection.cursor() as cursor:
            cursor.executemany(QUERIES["save_load"], rows)
        return loads


def _describe_bug(content: VariantContent, item: DatasetIngestion, error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"Variant {content.variant} of {content.source.name} raised {type(error).__name__}: {error} "
        f"({Path(place.filename).name}, line {place.lineno}) at a record of {item.bronze_path}. "
        f"Nothing of the item was loaded. Correct the variant: a record that cannot be a row is an InvalidRecord."
    )


def _next_items(
    connection: psycopg.Connection, content: VariantContent, scope: Scope, after: UUID, options: SourceSettings
) -> list[DatasetIngestion]:
    params = _params(content) | {
        "after": after,
        "since": scope.since,
        "file_ids": None if scope.file_ids is None else list(scope.file_ids),
        "dataset_like": None if scope.dataset is None else like_pattern(scope.dataset),
        "limit": options.max_items,
    }
    with connection.cursor(row_factory=class_row(DatasetIngestion)) as cursor:
        found = cursor.execute(sql.SQL(QUERIES["next_items"]).format(columns=_COLUMNS), params).fetchall()
    sizes = accumulate(item.bronze_bytes or 0 for item in found)
    return [item for place, (item, size) in enumerate(zip(found, sizes, strict=True)) if place == 0 or size <= options.max_bytes]


@contextmanager
def _hold(settings: Settings, content: VariantContent) -> Iterator[psycopg.Connection]:
    """Yield a connection that has the variant to itself, and on which the loader's rejects go to the variant's table."""
    name = experiment_table(content).name
    with db.connect(settings, "medallion_silver", autocommit=True) as connection:
        ((is_ours,),) = connection.execute(QUERIES["try_lock"], {"name": name})
        if not is_ours:
            raise VariantInUseError(f"Another run is loading or dropping {SCHEMA}.{name}. Wait for its end, then try again.")
        try:
            yield connection
        except psycopg.OperationalError as error:
            raise classify_database_error(error) from error


def _query(name: str, content: VariantContent) -> sql.Composed:
    table = experiment_table(content)
    return sql.SQL(QUERIES[name]).format(
        rows=sql.Identifier(str(table.schema), table.name),
        rejects=rejects_name(content),
        silver=sql.Identifier(str(content.table.schema), content.table.name),
        silver_rejects=sql.Identifier(str(REJECTED_ROWS.schema), REJECTED_ROWS.name),
    )


def _params(content: VariantContent) -> dict[str, Any]:
    return {"source_type": content.source.name, "variant": content.variant}


def _quoted(table: Table) -> str:
    return sql.Identifier(str(table.schema), table.name).as_string()
