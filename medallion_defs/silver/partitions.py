"""Parallelism `item`: each bronze item is a partition of the silver asset, loaded by a run of its own.

In the ledger an item is a microbatch of one, so attempts, retries, release and dead items are those of all microbatches.
Dagster's page slows down with partitions, so those of items that are long in silver are pruned; what was materialized
stays in Dagster's event log, and an item that is handed out again gets its partition back.
"""

import re
from collections.abc import Sequence
from uuid import UUID

import dagster as dg
import psycopg

from medallion_defs.core import clock, db
from medallion_defs.core.errors import TerminalError
from medallion_defs.core.settings import Settings
from medallion_defs.core.sql import load_queries
from medallion_defs.ops.hand_out import HandOut, Tick, request_for, waiting_batches
from medallion_defs.ops.ledger import Ledger
from medallion_defs.ops.run_requests import LIVE_STATUSES
from medallion_defs.silver.load_run import SilverContent

# What Dagster advises for one asset; its page and its backfills load all keys at once.
MOST_ITEMS = 100_000
# Dagster deletes partitions one by one, a connection each: a tick does part of a large pruning, the next ones the rest.
_PRUNED_PER_TICK = 100
_PARTITION_TAG = "dagster/partition"
_UNFINISHED_BACKFILL = frozenset({"REQUESTED", "CANCELING", "FAILING"})
_BACKFILLS_LOOKED_AT = 20
# Dagster reads `...` as a range and refuses control characters; a comma separates keys in its page; Postgres indexes the key.
_PLAIN_KEY = re.compile(r"(?!.*\.\.\.)[A-Za-z0-9@~%._-]{1,255}")
_QUERIES = load_queries(__package__, "partitions.sql")


class ItemPartitions:
    """One run and one partition an item, as many at a time as `max_in_flight`, held back by no pool."""

    def __init__(self, name: str) -> None:
        self.partitions = dg.DynamicPartitionsDefinition(name=f"silver_{name}_items")
        self.pool = None
        self.on_materialize = "Each item is a partition: Materialize loads the items of the chosen ones, also those that are loaded."

    def hand_out(self, tick: Tick) -> HandOut:
        """Claim items singly and request a run with a partition for each. Past `MOST_ITEMS` only finish what is claimed."""
        too_many = too_many_items(tick.connection, tick.name)
        alone = tick.options.model_copy(update={"max_items": 1})
        batches = list(waiting_batches(tick, None if too_many else alone))
        # A microbatch from before the setting was changed may have more than one item: a run, but no partition.
        keys = _keys_of_batches(tick.connection, [batch.batch_id for batch in batches])
        requests = [request_for(tick, batch, keys.get(batch.batch_id)) for batch in batches]
        changes: list[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest] = []
        if keys:
            changes.append(self.partitions.build_add_request(list(keys.values())))
        if old := self._prunable(tick):
            changes.append(self.partitions.build_delete_request(old))
        return HandOut(requests, changes, " ".join(too_many) if too_many else None)

    def _prunable(self, tick: Tick) -> list[str]:
        """Return partitions beyond the newest `keep_partitions` that nobody needs; none while a backfill may be about to use them."""
        instance = tick.context.instance
        excess = instance.get_dynamic_partitions(str(self.partitions.name))[: -tick.options.keep_partitions]
        if not excess or _has_open_backfill(instance):
            return []
        needed = _keys_in_need(tick.connection, tick.name, excess)
        old = [key for key in excess if key not in needed][:_PRUNED_PER_TICK]
        # The partition of a run that waits or works must stay: Dagster fails a run whose partition is gone.
        live = dg.RunsFilter(statuses=list(LIVE_STATUSES), tags={_PARTITION_TAG: old})
        used = {run.tags.get(_PARTITION_TAG) for run in instance.get_runs(filters=live)} if old else set()
        return [key for key in old if key not in used]


def partition_key(directory: str, file_id: UUID) -> str:
    """Return the partition key of an item: its bronze directory, or its file id where Dagster would not take that."""
    return directory if _PLAIN_KEY.fullmatch(directory) else str(file_id)


def claim_partition(settings: Settings, content: SilverContent, key: str) -> str:
    """Claim the item of a partition, whatever its state, and return the id of its microbatch.

    Raises:
        BatchInUseError: a living worker has the item.
        TerminalError: the key stands for no item that silver may load.
    """
    with db.connect(settings, "medallion_silver") as connection:
        ledger = Ledger(connection)
        return ledger.claim_item(_find_item(ledger, content.source.name, key), clock.now()).batch_id


def too_many_items(connection: psycopg.Connection, name: str) -> tuple[str, str] | None:
    """Return what is wrong and what to do when the source has too many items for parallelism `item`, None when it has not."""
    [(count,)] = connection.execute(_QUERIES["count_items"], {"source_type": name, "limit": MOST_ITEMS + 1})
    if count <= MOST_ITEMS:
        return None
    return (
        f"silver/{name} has more than {MOST_ITEMS:,} items, too many for 'parallelism: item', so nothing new is handed out.",
        f"Set sources.{name}.parallelism to microbatch in medallion.yaml and restart Medallion; nothing is lost by the change.",
    )


def _find_item(ledger: Ledger, name: str, key: str) -> UUID:
    row = ledger.find_row(f"{name}/{key}")
    if row is None and (file_id := _as_id(key)):
        row = ledger.find_row(file_id)
    if row is None or row.source_type != name:
        raise TerminalError(f"The partition '{key}' stands for no item of {name}: neither a directory in bronze/{name} nor a file id.")
    return row.file_id


def _keys_of_batches(connection: psycopg.Connection, batch_ids: Sequence[str]) -> dict[str, str]:
    """Return the partition keys of the microbatches that have one item, by batch id."""
    rows = connection.execute(_QUERIES["items_of_batches"], {"batch_ids": batch_ids})
    return {batch_id: partition_key(_directory(path), file_id) for batch_id, path, file_id in rows}


def _keys_in_need(connection: psycopg.Connection, name: str, keys: Sequence[str]) -> set[str]:
    ids = [file_id for key in keys if (file_id := _as_id(key))]
    rows = connection.execute(_QUERIES["items_in_need"], {"paths": [f"{name}/{key}" for key in keys], "file_ids": ids})
    return {key for path, file_id in rows for key in (_directory(path), str(file_id))}


def _directory(bronze_path: str) -> str:
    return bronze_path.partition("/")[2]


def _as_id(key: str) -> UUID | None:
    try:
        return UUID(key)
    except ValueError:
        return None


def _has_open_backfill(instance: dg.DagsterInstance) -> bool:
    # The newest first. A filter by state would need a class that is private to Dagster.
    return any(backfill.status.value in _UNFINISHED_BACKFILL for backfill in instance.get_backfills(limit=_BACKFILLS_LOOKED_AT))
