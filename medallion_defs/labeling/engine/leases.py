"""The lease of a batch: who may write for it, and until when. One row per batch, so a claim costs the same for one item or 1,000.

Whoever claims a batch gets a token; every write of a worker is in one transaction with a `renew` of its lease, so a worker that
was thought dead and comes back writes nothing. Time is the database's: no worker's clock can steal a lease.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

import psycopg
from psycopg.rows import class_row

from medallion_defs.core import db
from medallion_defs.core.errors import MedallionError, TransientError
from medallion_defs.core.isolation import no_fork
from medallion_defs.core.settings import Settings
from medallion_defs.core.sql import load_queries

_SQL = load_queries("medallion_defs.labeling.engine", "leases.sql")


class LostLeaseError(TransientError):
    """The batch is another worker's by now; nothing of this one was written since."""


@dataclass(frozen=True)
class Lease:
    """A worker's right to write for one batch. `claims`: how often the batch was claimed, this time included."""

    batch_id: int
    task_key: str
    prompt_id: str
    token: UUID
    worker: str
    claims: int


def claim(connection: psycopg.Connection, task_key: str, worker: str, seconds: float, batch_id: int | None = None) -> Lease | None:
    """Take a batch of the task that nobody holds: that one, or the oldest; None when there is none to take. The caller commits."""
    values = {"task_key": task_key, "worker": worker, "seconds": seconds, "batch_id": batch_id}
    with connection.cursor(row_factory=class_row(Lease)) as cursor:
        return cursor.execute(_SQL["claim"], values).fetchone()


def renew(connection: psycopg.Connection, lease: Lease, seconds: float) -> None:
    """Hold the batch for `seconds` more, and lock it until the transaction ends.

    Raises:
        LostLeaseError: another worker has taken it over.
    """
    guard(connection, _SQL["renew"], lease, seconds=seconds)


def finish(connection: psycopg.Connection, lease: Lease) -> None:
    """Give the batch on to be consolidated: each of its items has an outcome.

    Raises:
        LostLeaseError: another worker has taken it over.
    """
    guard(connection, _SQL["finish"], lease)


def give_back(connection: psycopg.Connection, lease: Lease) -> None:
    """Leave the batch as it is, for any worker to claim.

    Raises:
        LostLeaseError: another worker has taken it over.
    """
    guard(connection, _SQL["give_back"], lease)


def give_back_stopped(connection: psycopg.Connection, lease: Lease) -> None:
    """Leave the batch of a worker that was stopped as if the worker had not begun on what has no outcome: a stop costs no attempt.

    Raises:
        LostLeaseError: another worker has taken it over.
    """
    with connection.transaction():
        give_back(connection, lease)
        forget_attempts(connection, lease)


def forget_attempts(connection: psycopg.Connection, lease: Lease) -> None:
    """Forget what the holder of the lease began and did not end, in the caller's transaction."""
    connection.execute(_SQL["forget_attempts"], {"batch_id": lease.batch_id, "worker": lease.worker})


def guard(connection: psycopg.Connection, query: LiteralString, lease: Lease, **values: object) -> None:
    """Run an update of the batch that only the holder of the lease may make.

    Raises:
        LostLeaseError: another worker has taken it over.
    """
    if not connection.execute(query, {"batch_id": lease.batch_id, "token": lease.token, **values}).rowcount:
        raise LostLeaseError(
            f"Batch {lease.batch_id} of {lease.task_key} is no longer worker {lease.worker}'s: its lease ran out and another took it over. "
            "What it wrote before stays; nothing more of it is kept."
        )


def claimable(connection: psycopg.Connection, task_key: str) -> tuple[int, ...]:
    """Return the batches of the task that a worker could claim now, oldest first."""
    return tuple(batch_id for (batch_id,) in connection.execute(_SQL["claimable"], {"task_key": task_key}))


def forget_expired(connection: psycopg.Connection) -> int:
    """Clear the leases of workers that died, so that nobody is named who is not there; return how many. They were claimable before."""
    return connection.execute(_SQL["forget_expired"]).rowcount


class Keeper:
    """Renews the lease that its worker holds, from a thread, however long an item takes; ends with the process, however that ends.

    One thread for all batches of a worker: `with Keeper(settings, seconds) as keeper`, and in it `with keeper.keeping(lease)`.
    """

    def __init__(self, settings: Settings, seconds: float) -> None:
        self._settings = settings
        self._seconds = seconds
        self._lease: Lease | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def __enter__(self) -> "Keeper":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @contextmanager
    def keeping(self, lease: Lease) -> Iterator[None]:
        """Renew this lease while the block runs."""
        self._lease = lease
        try:
            yield
        finally:
            self._lease = None

    def _run(self) -> None:
        while not self._stop.wait(self._seconds / 3):
            if lease := self._lease:
                self._renew(lease)

    def _renew(self, lease: Lease) -> None:
        # When it is lost, the worker itself finds out as it next writes. When the server is away, then until it is back the lease
        # runs on, or out, and writes are guarded either way.
        with suppress(MedallionError, psycopg.Error), no_fork(), db.connect(self._settings, "medallion_gold") as connection:
            renew(connection, lease, self._seconds)
