"""What the supervision of a load asks the ledger: what is left of a microbatch, whom to charge, and the end by a signal."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import psycopg

from medallion_defs.core import clock
from medallion_defs.core.errors import MedallionError
from medallion_defs.core.sections import SourceSettings
from medallion_defs.ops.endings import Ending
from medallion_defs.ops.ledger import Ledger

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class StartedBatch:
    """A microbatch that this run has started, over the run's own connection."""

    ledger: Ledger
    connection: psycopg.Connection
    batch_id: str
    options: SourceSettings

    def left(self) -> Mapping[UUID, str]:
        """Return the items without an outcome, with their paths."""
        return {item.file_id: str(item.bronze_path) for item in self.ledger.claimed_rows(self.batch_id)}

    def fail(self, file_id: UUID, error: MedallionError) -> None:
        """Save the failure of one of these items."""
        with self.connection.transaction():
            [item] = [item for item in self.ledger.claimed_rows(self.batch_id) if item.file_id == file_id]
            self.ledger.save([item.failed(error, clock.now(), self.options)])

    @contextmanager
    def given_back_when_stopped(self, why_stopped: Callable[[], Ending]) -> Iterator[None]:
        """Give what has no outcome back to the ledger when a signal, or Dagster's interrupt, ends the block."""
        try:
            yield
        except BaseException as stop:
            if not isinstance(stop, Exception):
                self._give_back(why_stopped())
            raise

    def _give_back(self, ending: Ending) -> None:
        try:
            with self.connection.transaction():
                self.ledger.release_batch(self.batch_id, self.options, clock.now(), ending)
        except (psycopg.Error, MedallionError) as error:
            # Interrupted in the middle of a statement. The sensor takes the items back, as those of an ended run.
            _LOG.warning("Microbatch %s could not be given back: %s", self.batch_id, error, extra={"batch_id": self.batch_id})
