"""Which items of a source are dead, refused or being retried now, and the check `no_failed_items` that says so.

A check of one run forgets: the next good file makes it green. This one is over the ledger, so an item stays in it until
somebody or its next attempt has settled it, whatever became of its run or of its partition on the page.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import dagster as dg
import msgspec
import psycopg
from psycopg.rows import class_row

from medallion_defs.core import markdown
from medallion_defs.core.markdown import Markdown, escape
from medallion_defs.core.sql import load_queries
from medallion_defs.ops.manifest import as_metadata
from medallion_defs.ops.watch import Answer

NO_FAILED_ITEMS = "no_failed_items"
DESCRIPTION = "no item of the source is dead, refused by bronze, or waits for another attempt; over the whole ledger"
_SHOWN = 50
_NAMED = 3
_SQL = load_queries("medallion_defs.ops", "failing.sql")


class FailingItem(msgspec.Struct, frozen=True):
    """An item that is not where it should be. `retry_at`: when its next attempt is due, of a retrying one."""

    file_id: UUID
    external_id: str
    bronze_path: str | None
    status: str
    attempts: int
    retry_at: datetime | None
    reason: str

    @property
    def name(self) -> str:
        return self.bronze_path or self.external_id


class Failing(msgspec.Struct, frozen=True):
    """The failing items of one source: how many of each kind, and the first of each."""

    source_type: str
    dead: int
    refused: int
    retrying: int
    items: Sequence[FailingItem]

    @property
    def needs_a_person(self) -> bool:
        return bool(self.dead or self.refused)


def read_failing(connection: psycopg.Connection, source_type: str) -> Failing:
    """Return the failing items of a source. Takes time in proportion to what is open, not to what was ever loaded."""
    params = {"source_type": source_type, "limit": _SHOWN}
    with connection.cursor(row_factory=class_row(FailingItem)) as cursor:
        items = cursor.execute(_SQL["failing_items"], params).fetchall()
    [(dead, refused, retrying)] = connection.execute(_SQL["count_failing"], params).fetchall()
    return Failing(source_type, dead, refused, retrying, items)


def answer(failing: Failing, how_again: Markdown) -> Answer:
    """Return the answer of the check. `how_again`: Markdown of what a person pastes or presses to have the items tried again."""
    counts = {"dead": failing.dead, "refused": failing.refused, "retrying": failing.retrying}
    is_fine = not any(counts.values())
    rows = [(item.name, item.status, item.attempts, _next(item), item.reason, item.file_id) for item in failing.items]
    return Answer(
        check_name=NO_FAILED_ITEMS,
        passed=is_fine,
        severity=dg.AssetCheckSeverity.ERROR if failing.needs_a_person else dg.AssetCheckSeverity.WARN,
        description=escape("every item is loaded or on its way" if is_fine else _describe(failing, counts)),
        metadata=as_metadata(
            {f"items_{status}": number for status, number in counts.items()},
            items=markdown.table(["item", "status", "attempts", "tried again", "why", "file id"], rows),
            load_again=Markdown("") if is_fine else how_again,
        ),
        state=_fingerprint(failing),
    )


def config_to_paste(node: str, file_ids: Sequence[UUID]) -> str:
    """Return the configuration of a run that loads these items again, as the launchpad takes it."""
    ids = "\n".join(f"        - {file_id}" for file_id in file_ids)
    return f"ops:\n  {node}:\n    config:\n      scope: file_ids\n      file_ids:\n{ids}"


def _describe(failing: Failing, counts: dict[str, int]) -> str:
    numbers = ", ".join(f"{number} {status}" for status, number in counts.items() if number)
    named = [f"{item.name} is {item.status}: {item.reason}" for item in failing.items[:_NAMED]]
    more = sum(counts.values()) - len(named)
    return " ".join([f"{failing.source_type}: {numbers}.", *named, *([f"And {more} more."] if more else [])])


def _next(item: FailingItem) -> str:
    if item.retry_at is not None:
        return f"{item.retry_at:%Y-%m-%d %H:%M:%S} UTC, by itself"
    return "when a corrected file is dropped" if item.status == "refused" else "with new code, or when you ask for it"


def _fingerprint(failing: Failing) -> str:
    # The numbers as well: only the first items of each kind are listed.
    parts = [f"{failing.dead} {failing.refused} {failing.retrying}", *(f"{item.file_id} {item.status}" for item in failing.items)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
