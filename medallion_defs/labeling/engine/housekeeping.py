"""Housekeeping of the labeling tables: what a crash or a person's hand left behind, and events that nobody needs one by one any more.

Nothing here is needed for the engine to be right; it is safe to run at any time, beside workers, and again.
"""

from dataclasses import dataclass
from datetime import datetime

from medallion_defs.core import db
from medallion_defs.core.settings import Settings
from medallion_defs.core.sql import load_queries
from medallion_defs.labeling.engine import leases
from medallion_defs.labeling.engine.plan import reread_subjects

_SQL = load_queries("medallion_defs.labeling.engine", "housekeeping.sql")
_MAX_BATCHES = 200


@dataclass(frozen=True)
class Compacted:
    """Batches and events that were folded into `tasks_history`."""

    batches: int = 0
    events: int = 0


@dataclass(frozen=True)
class Repaired:
    """What was found and put right.

    Attributes:
        orphans: tasks in a batch that is gone or over; they are pending again.
        lost_results: succeeded tasks without a result; they are pending again.
        stray_events: events of batches that are gone; deleted.
        expired_leases: of workers that died; cleared. Their batches could be claimed before, too.
    """

    orphans: int
    lost_results: int
    stray_events: int
    expired_leases: int


def repair(settings: Settings) -> Repaired:
    """Put orphans, lost results, stray events and leases of dead workers right."""
    with db.connect(settings, "medallion_gold") as connection:
        orphans, lost, stray = (connection.execute(_SQL[name]).rowcount for name in ("free_orphans", "reopen_lost", "delete_stray_events"))
        return Repaired(orphans, lost, stray, leases.forget_expired(connection))


def compact(settings: Settings, before: datetime) -> Compacted:
    """Fold the events of batches that were consolidated before `before` into one row per task; commits part by part.

    Totals and the last event of each task stay (`silver.tasks_latest`), single attempts go. Does nothing while another
    compaction is under way.
    """
    total = Compacted()
    with db.connect(settings, "medallion_gold") as connection:
        while True:
            with connection.transaction():
                if connection.execute(_SQL["lock_compaction"]).fetchone() != (True,):
                    return total
                [(batches, events)] = connection.execute(_SQL["compact"], {"before": before, "limit": _MAX_BATCHES}).fetchall()
            if not batches:
                return total
            total = Compacted(total.batches + batches, total.events + events)


def reconcile(settings: Settings, task_key: str) -> None:
    """Let the next plan read all subjects of the task from the start: it writes only what is missing, and brings withdrawn ones back."""
    with db.connect(settings, "medallion_gold") as connection:
        reread_subjects(connection, task_key)
