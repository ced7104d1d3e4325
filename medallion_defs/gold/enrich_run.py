"""One gold run: apply work to gold and note it in the ledger, each range in a transaction of its own. Knows no Dagster."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import psycopg

from medallion_defs.core import clock, db
from medallion_defs.core.settings import Settings
from medallion_defs.core.timing import Timer
from medallion_defs.gold.contract import Enrichment
from medallion_defs.gold.enrich import Unmatched, enrich, read_unmatched
from medallion_defs.gold.feed import Work, plan
from medallion_defs.gold.reconcile import reconcile_chunk
from medallion_defs.gold.written import FileRows
from medallion_defs.ops.file_ingestion import GoldResult
from medallion_defs.ops.ledger import Ledger
from medallion_defs.ops.scope import Scope


@dataclass(frozen=True)
class Step:
    """What one transaction wrote. `checked`: silver rows looked at; `orphans`: gold rows deleted because their silver row is gone;
    `remade`: of the updated, those that were made again without a lookup row that is gone."""

    created: int
    updated: int
    checked: int
    orphans: int
    files: int
    seconds: float
    remade: int = 0


@dataclass(frozen=True)
class EnrichReport:
    """What one run did, and how much of gold waits for a lookup row now."""

    steps: tuple[Step, ...]
    unmatched: Unmatched

    def total(self, name: str) -> int:
        """Return the sum of one count over the steps."""
        return sum(getattr(step, name) for step in self.steps)

    @property
    def has_changed_rows(self) -> bool:
        """Whether gold holds other rows than before."""
        return bool(self.total("created") or self.total("updated") or self.total("orphans"))

    @property
    def seconds(self) -> float:
        return sum(step.seconds for step in self.steps)


def run_work(settings: Settings, enrichment: Enrichment, run_id: str, work: Work | None) -> EnrichReport:
    """Apply `work`, or, when it is None, everything that the change feed has.

    Raises:
        psycopg.Error: the database went away or refused; what was committed stays, and the rest is found again.
    """
    with db.connect(settings, "medallion_gold") as connection:
        steps = tuple(_apply(connection, enrichment, run_id, settings.gold.max_rows, work))
        return EnrichReport(steps, read_unmatched(connection, enrichment))


def run_scope(settings: Settings, enrichment: Enrichment, run_id: str, scope: Scope) -> EnrichReport:
    """Do all of `follow_scope`."""
    steps = tuple(follow_scope(settings, enrichment, run_id, scope))
    with db.connect(settings, "medallion_gold") as connection:
        return EnrichReport(steps, read_unmatched(connection, enrichment))


def follow_scope(settings: Settings, enrichment: Enrichment, run_id: str, scope: Scope) -> Iterator[Step]:
    """Bring gold up to date, then compare the rows in `scope` with silver and repair them; yield each chunk once it is committed.

    Started again after a kill it compares what is right already, and writes only what is not.
    """
    with db.connect(settings, "medallion_gold") as connection:
        yield from _apply(connection, enrichment, run_id, settings.gold.max_rows, None)
        yield from _repair(connection, enrichment, run_id, settings.gold.max_rows, scope)


def _apply(connection: psycopg.Connection, enrichment: Enrichment, run_id: str, max_rows: int, work: Work | None) -> Iterator[Step]:
    next_work = work or plan(connection, enrichment, 0, max_rows).work
    while next_work:
        timer, started_at = Timer(), clock.now()
        with connection.transaction():
            result = enrich(connection, enrichment, next_work)
            _note(connection, enrichment, run_id, started_at, result.per_file)
        checked = result.created + result.updated + result.unchanged
        yield Step(result.created, result.updated, checked, result.deleted, len(result.per_file), timer.seconds, result.remade)
        next_work = None if work else plan(connection, enrichment, result.positions.lookup, max_rows).work


def _repair(connection: psycopg.Connection, enrichment: Enrichment, run_id: str, max_rows: int, scope: Scope) -> Iterator[Step]:
    after: str | None = None
    while True:
        timer, started_at = Timer(), clock.now()
        with connection.transaction():
            repair = reconcile_chunk(connection, enrichment, scope, max_rows=max_rows, after=after)
            _note(connection, enrichment, run_id, started_at, repair.per_file)
        yield Step(repair.missing, repair.stale, repair.checked, repair.orphan, len(repair.per_file), timer.seconds)
        after = repair.last_key
        if after is None:
            return


def _note(
    connection: psycopg.Connection, enrichment: Enrichment, run_id: str, started_at: datetime, per_file: Mapping[UUID, FileRows]
) -> None:
    ended_at = clock.now()
    Ledger(connection).save_gold(
        GoldResult(
            file_id=file_id, run_id=run_id, object_type="enrichment", tablename=enrichment.qualified_name,
            started_at=started_at, ended_at=ended_at, created=rows.created, updated=rows.updated,
        )
        for file_id, rows in per_file.items()
    )  # fmt: skip
