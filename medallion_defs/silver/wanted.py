"""What one silver run is to load: a sensor's microbatch, a partition's item, what is pending, or a part of history again.

From a run's configuration and tags to batch ids. Knows no asset; loading is `load_run.py`, history `backfill.py`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import dagster as dg
from pydantic import Field

from medallion_defs.core import clock, db
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.settings import Settings
from medallion_defs.ops.failing import config_to_paste
from medallion_defs.ops.ledger import Ledger
from medallion_defs.ops.ledger_values import Batch, LedgerFilter
from medallion_defs.ops.run_requests import first_requested_at, is_repeated_by_hand, requested_work
from medallion_defs.ops.scope import (
    BEFORE_HELP,
    SCOPE_HELP,
    RunScope,
    Scope,
    parse_before,
    parse_scope,
    require_match,
)
from medallion_defs.ops.scope_config import DatasetScopeConfig
from medallion_defs.silver.backfill import arrived, history_batches, left_behind, measure
from medallion_defs.silver.discovery import discover
from medallion_defs.silver.load_run import SilverContent
from medallion_defs.silver.partitions import claim_partition
from medallion_defs.storage.readers import open_reader

_DISCOVERY_SECONDS = 30.0
_SHOWN = 20


class LoadConfig(DatasetScopeConfig):
    """What a silver run loads. A sensor sets nothing: what it hands out is in the run's tags."""

    scope: RunScope = Field(
        RunScope.pending,
        description=f"{SCOPE_HELP}; dataset, with the field dataset; outdated: what other code than the present tried last.",
    )
    before: str | None = Field(None, description=BEFORE_HELP)


@dataclass(frozen=True)
class Wanted:
    """What a run is to load.

    Attributes:
        batch_id: a microbatch that a sensor has claimed.
        partition_key: an item of parallelism `item`, to be loaded whatever has become of it.
        scope: a part of history, last processed before `before`; None: what is pending.
        matched: items in that part.
    """

    batch_id: str | None = None
    partition_key: str | None = None
    scope: Scope | None = None
    before: datetime | None = None
    matched: int | None = None

    @property
    def is_one_batch(self) -> bool:
        """Whether the run is there for one batch: it must not end green when another worker has that."""
        return self.batch_id is not None or self.partition_key is not None

    def describe(self) -> Mapping[str, int | str]:
        """Return the metadata that say what was asked for."""
        if self.scope is None or self.before is None or self.matched is None:
            return {}
        return {"scope": str(self.scope), "before": self.before.isoformat(), "items_matched": self.matched}


def decide(
    context: dg.AssetExecutionContext, settings: Settings, content: SilverContent, config: LoadConfig, partition_key: str | None
) -> Wanted:
    """Return what the run is to load.

    Raises:
        ConfigurationError: the scope lacks its value, a value is none, or there is a partition as well.
        NothingMatchesError: a part of history was named, and there is nothing in it.
    """
    # Read in any case, so that a value without its scope is refused.
    scope = parse_scope(config.scope, config.since, config.file_ids, config.dataset, current_code=content.code)
    if config.scope is RunScope.pending:
        batch_id = requested_work(context.run, f"silver/{content.source.name}")
        # The batch of a partition that a person runs again is done; what they want is its item.
        if batch_id is not None and not (partition_key and is_repeated_by_hand(context.run)):
            return Wanted(batch_id=batch_id)
        return Wanted(partition_key=partition_key)
    if partition_key is not None:
        raise ConfigurationError(
            f"A partition is one item, and scope {config.scope.name} is a part of history. Leave the scope out, "
            "choose partitions on the page for a backfill, or run 'medallion backfill'."
        )
    requested_at = first_requested_at(context.instance, context.run)
    before = parse_before(config.before, requested_at)
    matched = measure(settings, content, scope, before).items
    # A re-execution does what the first run left, and that may be nothing.
    if context.run.parent_run_id is None and not left_behind(settings, content):
        what = f"item of {content.source.name} that was loaded or has failed; 'medallion ops files' shows what there is"
        require_match(matched, scope, what, before if config.before else None)
    return Wanted(scope=scope, before=before, matched=matched)


def which_batches(settings: Settings, content: SilverContent, wanted: Wanted) -> Iterator[str]:
    """Yield the ids of the batches to load, one at a time: the next is claimed when the one before is done.

    Pending: what discovery finds, until nothing is left. History: chunk by chunk, and after each chunk what waits meanwhile
    for the asset's pool.
    """
    if wanted.batch_id is not None:
        yield wanted.batch_id
    elif wanted.partition_key is not None:
        yield claim_partition(settings, content, wanted.partition_key)
    elif wanted.scope is None or wanted.before is None:
        yield from _claim_pending(settings, content)
    else:
        for batch_id in history_batches(settings, content, wanted.scope, wanted.before):
            yield batch_id
            # Runs for one item are held back by no pool: what waits is about to start by itself.
            if settings.source(content.source.name).parallelism == "microbatch":
                yield from arrived(settings, content)


def explain_nothing(settings: Settings, content: SilverContent, wanted: Wanted) -> str:
    """Return why a run loaded no item, and what to do to have something loaded again."""
    name = content.source.name
    if wanted.scope is not None:
        return f"Nothing of {name} was left to do: scope {wanted.scope}, before {wanted.before}."
    if wanted.batch_id is None:
        return f"Nothing of {name} is pending. To load items again, choose a scope in the launchpad."
    with db.connect(settings, "medallion_silver") as connection:
        rows = Ledger(connection).list_rows(LedgerFilter(batch_id=wanted.batch_id), limit=_SHOWN).rows
    if not rows:
        return f"Microbatch {wanted.batch_id} is done: its items went on to other microbatches. Nothing was loaded by this run."
    counts = ", ".join(f"{number} {status}" for status, number in Counter(row.status for row in rows).items())
    return (
        f"Microbatch {wanted.batch_id} is done (items: {counts}); nothing was loaded by this run. To load them again, "
        f"Materialize silver/{name} with this configuration:\n{config_to_paste(f'silver__{name}', [row.file_id for row in rows])}"
    )


def _claim_pending(settings: Settings, content: SilverContent) -> Iterator[str]:
    name, options = content.source.name, settings.source(content.source.name)
    with db.connect(settings, "medallion_silver") as connection:
        discover(connection, open_reader(settings), name, None, options.discovery, _DISCOVERY_SECONDS)
    while batches := _claim(settings, content):
        yield from (batch.batch_id for batch in batches)


def _claim(settings: Settings, content: SilverContent) -> list[Batch]:
    name = content.source.name
    with db.connect(settings, "medallion_silver") as connection:
        return Ledger(connection).claim(name, settings.source(name), content.code, clock.now())
