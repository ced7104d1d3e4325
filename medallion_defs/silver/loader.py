"""Load a microbatch of items into a silver table, inside the caller's transaction.

Stage everything, then merge it in a few sorted statements under the table's advisory lock. The result depends on what
was loaded and never on the order: of the records of a key the greatest (bronze_at, file_id, source_record) wins.
The ledger is the caller's, in the same transaction. A connection lost at COMMIT may have committed: the caller looks
its ledger row up before it loads again (loading again would change nothing, but would count rows as unchanged).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Table

from medallion_defs.core.errors import ConfigurationError, MedallionError, TerminalError, TransientError
from medallion_defs.silver.contract import ItemFacts
from medallion_defs.silver.stage import RELOAD_QUERIES, Record, StagedItem, StageQueries, stage_items


@dataclass(frozen=True)
class ItemLoad:
    """What became of one item: `read = created + updated + unchanged + duplicate + rejected`; all zero when there is an `error`.

    Then `tried` counts the records that were read and those of them that were rejected, as far as the reading came.

    Attributes:
        created: keys that silver did not have.
        updated: newest of their key, and the content differs from the row that was there.
        unchanged: newest of their key with the same content; the row now names this file and record.
        duplicate: lost against a newer record of their key, in this file, in this batch or in silver.
        rejected: records that cannot be a row; they are in `silver.rejected_rows`.
        flags: rows read (whether they won or not) by quality flag.
        deleted: rows of an earlier load that the item does not make any more; their keys are another item's now, or gone.
        runners_up: items that may make these keys: they are to be read again.
        error: why nothing of the item was loaded. Then what an earlier load left stays.
    """

    file_id: UUID
    read: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    duplicate: int = 0
    rejected: int = 0
    flags: dict[str, int] = field(default_factory=dict)
    deleted: int = 0
    runners_up: frozenset[UUID] = frozenset()
    error: MedallionError | None = None
    tried: tuple[int, int] = (0, 0)


class Merged(NamedTuple):
    """Rows of one item that the merge wrote, left and deleted, and who is to be read again."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    runners_up: frozenset[UUID] = frozenset()


def load_items(
    connection: psycopg.Connection,
    table: Table,
    items: Iterable[tuple[ItemFacts, Iterator[Record]]],
    *,
    max_rejected_share: float,
) -> list[ItemLoad]:
    """Load all items into `table`; return one `ItemLoad` per item, in the order given.

    `items` yields an item's facts and its records: tuples `(source_record, *own columns in table order, quality_flags)`,
    jsonb columns as JSON text, flags joined by commas, or `RejectedRecord`s. It is read once, record by record.

    A `MedallionError` raised by an item's iterator fails that item alone, and an item with a larger share of rejected records than
    `max_rejected_share` is refused: no row of it is written, and the rows of an earlier load stay. The records that this attempt
    rejected take the place of those of the attempt before, so that a person can see why.

    The transaction must be READ COMMITTED. The table's lock is taken after staging and held to the end of the transaction;
    a caller that loads several tables in one transaction takes them in order of name.

    Raises:
        ValueError: a file comes twice in the batch.
        ConfigurationError: there is no open transaction to load in, or it is not READ COMMITTED.
        psycopg.Error: the transaction is lost; `classify_database_error` says whether the same call may succeed later.
    """
    if connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
        raise ConfigurationError("load_items needs an open transaction: the rows and the ledger must be committed together.")
    queries = StageQueries(table)
    staged = stage_items(connection, queries, items)
    for item in staged:
        _refuse_if_mostly_rejected(item, max_rejected_share, queries.rejects_name)
    outcomes = _merge(connection, queries, staged)
    return [_as_load(item, outcomes.get(item.facts.file_id, Merged())) for item in staged]


def classify_database_error(error: psycopg.Error) -> TransientError | TerminalError:
    """Return the `MedallionError` for an error of Postgres met during a load.

    Transient: a lost connection, a restart, a deadlock, a serialization failure, a lock or statement timeout, a full disk.
    Terminal: all else, such as a value that the column cannot hold, or a right that the role does not have.
    """
    state = f" ({error.sqlstate})" if error.sqlstate else ""
    message = f"Postgres{state}: {str(error).strip() or type(error).__name__}"
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return TransientError(f"{message} Nothing was loaded unless the commit got through; the ledger tells.")
    return TerminalError(f"{message} Nothing of the batch was loaded.")


def _refuse_if_mostly_rejected(item: StagedItem, max_share: float, rejects: str) -> None:
    read = item.rows + item.rejected
    if item.error is None and read and item.rejected / read > max_share:
        item.error = TerminalError(
            f"{item.facts.filename}: {item.rejected} of {read} records were rejected ({item.rejected / read:.1%}), "
            f"more than the {max_share:.1%} allowed. No row was loaded. See {rejects} for the reasons, then correct the file "
            "or the transform, or raise max_rejected_share."
        )


def _merge(connection: psycopg.Connection, queries: StageQueries, staged: list[StagedItem]) -> dict[UUID, Merged]:
    """Write the staged records; return what became of them by file."""
    run = connection.execute
    facts = [item.facts for item in sorted(staged, key=lambda item: item.number)]
    origins: dict[str, Any] = {"file_ids": [each.file_id for each in facts], "bronze_ats": [each.fetched_at for each in facts]}
    _settle_stage(connection, queries, staged)
    _lock(connection, queries)
    run(queries["forget_rejects"], {"file_ids": origins["file_ids"]})
    if any(item.rejected and not item.is_damaged for item in staged):
        run(queries["keep_rejects"], origins)
    ((position,),) = run(queries["draw_position"])
    contributors = [item.facts.file_id for item in staged if item.error is None and item.rows]
    unmade = _delete_unmade(connection, queries, staged, origins)
    known_keys = run(queries["compare_known"], origins).rowcount
    inserted = run(queries["insert_new"], origins).rowcount
    # One large file is the common case, and needs no look at a million rows.
    new = [(contributors[0], inserted)] if len(contributors) == 1 else run(queries["count_created"], {"position": position})
    created = {file_id: rows for file_id, rows in new}
    run(queries["update_known"])
    known = {file_id: (updated, unchanged) for file_id, updated, unchanged in run(queries["count_known"])}
    if queries.has_runners_up:
        _note_runners_up(connection, queries, staged, origins, known_keys, inserted + known_keys)
    run(queries["drop_stage"])
    return {
        file_id: Merged(created.get(file_id, 0), *known.get(file_id, (0, 0)), *unmade.get(file_id, (0, frozenset())))
        for file_id in {*created, *known, *unmade}
    }


def _delete_unmade(
    connection: psycopg.Connection, queries: StageQueries, staged: list[StagedItem], origins: dict[str, Any]
) -> dict[UUID, tuple[int, frozenset[UUID]]]:
    """Delete the rows that items of the batch gave when they were read before, and do not give now; return how many, by file."""
    complete = {"complete": [item.facts.file_id for item in staged if item.error is None]}
    reloaded = [file_id for (file_id,) in connection.execute(queries["find_reloaded"], complete)] if queries.has_runners_up else []
    if not reloaded:
        return {}
    rows = connection.execute(queries["delete_unmade"], origins | complete | {"reloaded": reloaded}).fetchall()
    return {file_id: (deleted, frozenset(runners_up)) for file_id, deleted, runners_up in rows}


def _note_runners_up(
    connection: psycopg.Connection, queries: StageQueries, staged: list[StagedItem], origins: dict[str, Any], known: int, keys: int
) -> None:
    """Note which items have keys whose rows are others', of `known` keys that silver had and `keys` that the batch has."""
    contributors = [item for item in staged if item.error is None and item.rows]
    if known:
        connection.execute(queries["note_known"])
    if len(contributors) > 1 and sum(item.rows for item in contributors) > keys:
        connection.execute(queries["note_staged"], origins)
    connection.execute(queries["forget_any_key"], {"complete": [item.facts.file_id for item in staged if item.error is None]})


def delete_items(connection: psycopg.Connection, table: Table, file_ids: Sequence[UUID]) -> tuple[int, frozenset[UUID]]:
    """Delete all rows of items that are taken away, in the caller's transaction; return how many, and who is to be read again."""
    queries = StageQueries(table)
    [(deleted, runners_up)] = connection.execute(queries["delete_rows_of"], {"file_ids": list(file_ids)}).fetchall()
    return deleted, frozenset(runners_up)


def _settle_stage(connection: psycopg.Connection, queries: StageQueries, staged: list[StagedItem]) -> None:
    """Drop from the stage what must not be merged, and tell the planner what is left."""
    failed = [item.number for item in staged if item.is_damaged]
    refused = [item.number for item in staged if item.error and not item.is_damaged]
    if failed or refused:
        connection.execute(queries["discard_records"], {"failed": failed, "refused": refused})
    connection.execute(queries["set_memory"])
    connection.execute(queries["analyze_stage"])


def _lock(connection: psycopg.Connection, queries: StageQueries) -> None:
    ((_, isolation),) = connection.execute(queries["lock_table"], {"table": queries.table_name})
    if isolation != "read committed":
        raise ConfigurationError(
            f"load_items runs in a transaction that is {isolation}: what others load while it waits, it would not see. Use READ COMMITTED."
        )


def prune_vanished(connection: psycopg.Connection, followers: Iterable[tuple[str, str]]) -> int:
    """Forget the keys of deleted rows that all `followers` of their table have followed; return how many.

    Args:
        followers: `(name in ops.cursors, silver table)`.
    """
    names = list(followers)
    values = {"consumers": [name for name, _ in names], "tables": [table for _, table in names]}
    return connection.execute(RELOAD_QUERIES["prune_vanished"], values).rowcount


def _as_load(item: StagedItem, merged: Merged) -> ItemLoad:
    if item.error:
        tried = (0, 0) if item.is_damaged else (item.rows + item.rejected, item.rejected)
        return ItemLoad(item.facts.file_id, error=item.error, tried=tried, flags={} if item.is_damaged else item.flags)
    created, updated, unchanged, deleted, runners_up = merged
    duplicate = item.rows - created - updated - unchanged
    return ItemLoad(
        item.facts.file_id, item.rows + item.rejected, created, updated, unchanged, duplicate, item.rejected, item.flags,
        deleted, runners_up,
    )  # fmt: skip
