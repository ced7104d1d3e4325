"""Retention of bronze: from the policy of each source to bytes that are gone, and rows of the ledger that say so.

The order of the steps is what survives a kill: the ledger notes that an item is about to go (from then on nobody loads it), the
store leaves its tombstone, the bytes go, the ledger notes that they are gone. The next call finishes what was begun.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import TypeVar

import msgspec

from medallion_defs.core import db
from medallion_defs.core.sections import SourceRetention
from medallion_defs.core.settings import Settings
from medallion_defs.ops.file_ingestion import DatasetIngestion
from medallion_defs.ops.ledger import Ledger
from medallion_defs.ops.ledger_values import Retained
from medallion_defs.ops.references import find_references, find_traced
from medallion_defs.ops.removal_ledger import RemovalLedger
from medallion_defs.ops.retention import RetentionLine, Verdict, decide, summarize
from medallion_defs.storage.publishing import BronzeStore
from medallion_defs.storage.tombstone import FORGET

CHUNK_ITEMS = 1_000
T = TypeVar("T")


class Plan(msgspec.Struct, frozen=True):
    """What goes from one source, what stays because live rows are made of it, and what an earlier call began."""

    source: str
    removable: list[Verdict]
    kept: list[Verdict]
    begun: list[Verdict]

    @property
    def lines(self) -> list[RetentionLine]:
        return summarize(f"bronze/{self.source}", self.begun + self.removable, self.kept)


class Removed(msgspec.Struct, frozen=True):
    """What was removed, as lines, and what could not be, each with the reason."""

    lines: list[RetentionLine]
    problems: list[str]


def plan_bronze(settings: Settings, now: datetime) -> list[Plan]:
    """Return what the policies of all sources would remove now. Reads only.

    Raises:
        ConfigurationError: the settings of a source do not validate.
    """
    with db.connect(settings, "medallion_console") as connection:
        begun = _begun(RemovalLedger(connection).begun_removals())
    names = {name for name in settings.sources if has_rule(settings.source(name).retention)}
    return [_plan_source(settings, name, begun.get(name, []), now) for name in sorted(names | begun.keys())]


def apply_bronze(settings: Settings, store: BronzeStore, plans: Iterable[Plan], now: datetime) -> Removed:
    """Remove what was planned. What was loaded again since it was planned stays.

    Raises:
        TransientError: the storage or the database failed; the next call goes on.
    """
    lines: list[RetentionLine] = []
    problems: list[str] = []
    for plan in plans:
        gone: list[Verdict] = []
        for rule, chunk in _chunks_by_rule(plan.begun):
            gone += _remove(settings, store, plan.source, chunk, rule, now, problems)
        for rule, chunk in _chunks_by_rule(plan.removable):
            with db.connect(settings, "medallion_bronze") as connection:
                rows = RemovalLedger(connection).begin_removal([verdict.item for verdict in chunk], rule, now)
            begun = {row.file_id for row in rows}
            gone += _remove(settings, store, plan.source, [v for v in chunk if v.item.file_id in begun], rule, now, problems)
        lines += summarize(f"bronze/{plan.source}", gone, plan.kept)
    return Removed(lines, problems)


def has_rule(policy: SourceRetention) -> bool:
    """Whether anything is set."""
    return (policy.max_age_days, policy.max_items, policy.keep_revisions) != (None, None, None)


def _plan_source(settings: Settings, source: str, begun: list[Verdict], now: datetime) -> Plan:
    policy = settings.source(source).retention
    if not has_rule(policy):
        return Plan(source, [], [], begun)
    with db.connect(settings, "medallion_console") as connection:
        # The items first: one that is loaded while we look for its rows has moved when its removal begins, and stays.
        verdicts = decide(Ledger(connection).retained(source), policy, now)
        if policy.even_if_traced:
            return Plan(source, [Verdict(found.item, f"{found.rule} even_if_traced") for found in verdicts], [], begun)
        references = find_references(connection)
        traced = set().union(*(find_traced(connection, references, [v.item.file_id for v in chunk]) for chunk in _chunks(verdicts)))
    removable = [verdict for verdict in verdicts if verdict.item.file_id not in traced]
    return Plan(source, removable, [verdict for verdict in verdicts if verdict.item.file_id in traced], begun)


def _remove(
    settings: Settings, store: BronzeStore, source: str, verdicts: Sequence[Verdict], rule: str, now: datetime, problems: list[str]
) -> list[Verdict]:
    directories = {verdict.item.directory: verdict for verdict in verdicts}
    removal = store.remove(source, list(directories), now, rule)
    problems += removal.damaged
    with db.connect(settings, "medallion_bronze") as connection:
        RemovalLedger(connection).finish_removal([tombstone.file_id for tombstone in removal.tombstones], now)
    return [directories[tombstone.item.directory] for tombstone in removal.tombstones]


def _begun(rows: Iterable[DatasetIngestion]) -> dict[str, list[Verdict]]:
    # What was to be forgotten, 'medallion forget' finishes: more than bytes has to go there.
    found = [row for row in rows if row.bronze_removed_by != FORGET]
    return {source: list(map(_as_verdict, group)) for source, group in groupby(found, key=lambda row: row.source_type)}


def _as_verdict(row: DatasetIngestion) -> Verdict:
    fetched_at = row.bronze_ingest_end_time or row.created_at
    item = Retained(row.file_id, row.external_id, row.revision, str(row.bronze_path), row.bronze_bytes or 0, fetched_at, row.status)
    return Verdict(item, str(row.bronze_removed_by))


def _chunks_by_rule(verdicts: Sequence[Verdict]) -> Iterator[tuple[str, Sequence[Verdict]]]:
    for rule in dict.fromkeys(verdict.rule for verdict in verdicts):
        for chunk in _chunks([verdict for verdict in verdicts if verdict.rule == rule]):
            yield rule, chunk


def _chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    return (values[start : start + CHUNK_ITEMS] for start in range(0, len(values), CHUNK_ITEMS))
