"""History once more, chunk by chunk: which microbatches a backfill loads, and loading them. Knows no Dagster.

What was processed after `before` is not taken again, so a killed backfill that is started with the same `before` does the rest.
Its microbatches take no room from what arrives meanwhile (`Ledger.claim`), and any run may finish what a killed one left.
"""

import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime

from medallion_defs.core import clock, db
from medallion_defs.core.settings import Settings
from medallion_defs.ops.endings import Ending
from medallion_defs.ops.ledger import BatchInUseError, Ledger
from medallion_defs.ops.ledger_values import Batch, Extent, OpenBatch
from medallion_defs.ops.scope import Scope
from medallion_defs.silver.load_run import LoadReport, SilverContent, load_batch, stopped


def load_history(
    settings: Settings, content: SilverContent, scope: Scope, before: datetime, run_id: str
) -> Iterator[tuple[str, LoadReport]]:
    """Load what a killed backfill left, then the items in `scope`; yield each microbatch and what became of it.

    Raises:
        TransientError: the database went away; start again with the same `before`.
    """
    for batch_id in history_batches(settings, content, scope, before):
        report = load_unless_in_use(settings, content, batch_id, run_id)
        if report is not None:
            yield batch_id, report


def history_batches(settings: Settings, content: SilverContent, scope: Scope, before: datetime) -> Iterator[str]:
    """Yield the ids of the microbatches to load; each is claimed when the one before is done."""
    yield from take_left_behind(settings, content)
    name = content.source.name
    while True:
        with db.connect(settings, "medallion_silver") as connection:
            batch = Ledger(connection).claim_done(name, scope, before, settings.source(name), clock.now())
        if batch is None:
            break
        yield batch.batch_id
    # What was read again before `before` is done; what that has uncovered waits.
    while batches := _claim_waiting(settings, content):
        yield from (batch.batch_id for batch in batches)


def _claim_waiting(settings: Settings, content: SilverContent) -> list[Batch]:
    name, options = content.source.name, settings.source(content.source.name)
    if options.parallelism != "microbatch":
        return []  # each has a run of its own, which the sensor asks for
    with db.connect(settings, "medallion_silver") as connection:
        return Ledger(connection).claim(name, options, content.code, clock.now())


def load_unless_in_use(
    settings: Settings, content: SilverContent, batch_id: str, run_id: str, why_stopped: Callable[[], Ending] = stopped
) -> LoadReport | None:
    """Load a microbatch; None when another run has taken it over, which then answers for it."""
    try:
        return load_batch(settings, content, batch_id, run_id, why_stopped)
    except BatchInUseError:
        return None


def measure(settings: Settings, content: SilverContent, scope: Scope, before: datetime) -> Extent:
    """Return what a backfill of `scope` would do, without what a killed one left. Changes nothing."""
    with db.connect(settings, "medallion_console") as connection:
        return Ledger(connection).count_done(content.source.name, scope, before)


def left_behind(settings: Settings, content: SilverContent) -> list[OpenBatch]:
    """Return the microbatches of backfills that no living worker has. Changes nothing."""
    with db.connect(settings, "medallion_silver", autocommit=True) as connection:
        ledger = Ledger(connection)
        batches = [batch for batch in ledger.open_batches(content.source.name) if batch.is_backfill]
        return [batch for batch in batches if not ledger.is_in_use(batch.batch_id)]


def take_left_behind(settings: Settings, content: SilverContent) -> list[str]:
    """Make the microbatches of `left_behind` ready to be loaded now; return their ids. What they had begun on costs no attempt."""
    taken = []
    for batch in left_behind(settings, content):
        # In use: another run has taken it in this very moment, and so answers for it.
        with contextlib.suppress(BatchInUseError), db.connect(settings, "medallion_silver") as connection:
            Ledger(connection).take_over(batch.batch_id, clock.now())
            taken.append(batch.batch_id)
    return taken


def arrived(settings: Settings, content: SilverContent) -> list[str]:
    """Return the microbatches of increments that wait for a run.

    A Dagster run of a backfill holds the asset's pool, so the runs that the sensor requested wait until it ends: it does their
    work between two chunks, and they find it done.
    """
    with db.connect(settings, "medallion_silver") as connection:
        return [
            batch.batch_id
            for batch in Ledger(connection).open_batches(content.source.name)
            if not batch.is_backfill and batch.run_id is None
        ]
