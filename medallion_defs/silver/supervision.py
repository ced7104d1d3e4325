"""The load of a microbatch in a child process, and what becomes of its items when the child dies. Knows no Dagster and no file.

The child says at which item it is. When it dies, that item alone fails, with how it died, and a new child loads the others. When it
was at no item (in the middle of the merge), the batch is loaded in halves, until the item that did it is alone.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psycopg

from medallion_defs.core import clock
from medallion_defs.core.errors import MedallionError, TransientError
from medallion_defs.core.isolation import Death, Note, run_isolated
from medallion_defs.core.sections import SourceSettings
from medallion_defs.ops.endings import Ending
from medallion_defs.ops.file_ingestion import DatasetIngestion
from medallion_defs.ops.ledger import Ledger

# A batch of 500 in halves takes nine deaths to find one item. More is not one item's fault.
MOST_DEATHS = 20
_LOG = logging.getLogger(__name__)


class WorkerDiedError(TransientError):
    """The worker died while it worked on this item."""


class ItemOverdueError(TransientError):
    """The reading of this item took longer than one may."""


class DyingWorkersError(TransientError):
    """One run lost more workers than the items of its batch can explain."""


@dataclass
class Supervised:
    """One run's work on one batch that it has started."""

    ledger: Ledger
    connection: psycopg.Connection
    batch_id: str
    options: SourceSettings
    work: Callable[[Sequence[DatasetIngestion], Note], None]
    why_stopped: Callable[[], Ending]
    deaths: int = 0

    def load(self, items: Sequence[DatasetIngestion]) -> None:
        """Bring every item to an outcome in the ledger.

        Raises:
            DyingWorkersError: worker after worker died; what has no outcome is taken back when this run has ended.
        """
        try:
            self._load(items)
        except BaseException as stop:
            if not isinstance(stop, Exception):  # a signal, or Dagster's interrupt
                self._give_back()
            raise

    def _load(self, items: Sequence[DatasetIngestion]) -> None:
        death = run_isolated(lambda note: self.work(items, note), self.options.max_item_seconds)
        if death is None:
            return
        self._count(death)
        if death.item is None and len(items) > 1:
            middle = len(items) // 2
            parts = [items[:middle], items[middle:]]
        else:
            culprit = items[death.item or 0]
            self._fail(culprit, death)
            parts = [[item for item in items if item is not culprit]]
        for part in parts:
            # What was loaded one by one may be done already.
            open_ids = {row.file_id for row in self.ledger.claimed_rows(self.batch_id)}
            if left := [item for item in part if item.file_id in open_ids]:
                self._load(left)

    def _count(self, death: Death) -> None:
        self.deaths += 1
        _LOG.warning("The worker of %s was %s; the batch goes on in another.", self.batch_id, death.how, extra={"batch_id": self.batch_id})
        if self.deaths >= MOST_DEATHS:
            raise DyingWorkersError(
                f"{self.deaths} workers of microbatch {self.batch_id} died, the last {death.how}. That is not one item's doing: look at "
                "the machine's memory and the run's log. What has no outcome is tried again in smaller batches, without a charge."
            )

    def _fail(self, item: DatasetIngestion, death: Death) -> None:
        error = explain(item, death, self.options, is_alone=death.item is None)
        with self.connection.transaction():
            self.ledger.save([item.failed(error, clock.now(), self.options)])

    def _give_back(self) -> None:
        try:
            with self.connection.transaction():
                self.ledger.release_batch(self.batch_id, self.options, clock.now(), self.why_stopped())
        except (psycopg.Error, MedallionError) as error:
            # Interrupted in the middle of a statement. The sensor takes the items back, as those of an ended run.
            _LOG.warning("Microbatch %s could not be given back: %s", self.batch_id, error, extra={"batch_id": self.batch_id})


def explain(item: DatasetIngestion, death: Death, options: SourceSettings, *, is_alone: bool) -> MedallionError:
    """Return the failure of the item that a worker died of. It says no more than is known."""
    place = f" It was in {death.place}." if death.place else ""
    if death.is_overdue:
        return ItemOverdueError(
            f"{item.bronze_path}: its reading took longer than max_item_seconds ({options.max_item_seconds:g}), so its worker was ended."
            f"{place} Raise sources.{item.source_type}.max_item_seconds if such items need longer."
        )
    when = "while it loaded this item alone" if is_alone else "while it worked on this item"
    return WorkerDiedError(f"{item.bronze_path}: the worker died {when}: {death.how}. See the run's log.")
