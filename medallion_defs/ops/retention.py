"""Which items a policy lets go, and why: pure, from items, policy and the time to rules.

What it does not know: whether live rows need an item (`references.py`), how bytes go (`storage/local/removal.py`), and the clock.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from operator import attrgetter

import msgspec

from medallion_defs.core.sections import SourceRetention
from medallion_defs.ops.ledger_values import Retained


class Verdict(msgspec.Struct, frozen=True):
    """An item that may go, by which rule (`policy max_age_days 90`)."""

    item: Retained
    rule: str


class RetentionLine(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule removes, or has removed: how many, their bytes where they have any, and the oldest.

    `kept_for_traces`: items that the rule would let go, were it not for rows that are made of them.
    """

    what: str
    rule: str
    number: int
    bytes: int | None = None
    oldest_at: datetime | None = None
    kept_for_traces: int = 0


def decide(items: Iterable[Retained], policy: SourceRetention, now: datetime) -> list[Verdict]:
    """Return what may go, oldest first, each once, by the first rule that says so: age, then revisions, then items.

    Only what is done and in silver goes: never an item that is dead, waits, is under way or was withdrawn. They do count
    for `max_items`. The current revision of an id goes by age alone. Two items fetched at one moment are told apart by id.
    """
    newest_first = sorted(items, key=attrgetter("fetched_at", "file_id"), reverse=True)
    revisions: dict[str, int] = {}
    verdicts = []
    for place, item in enumerate(newest_first):
        newer_revisions = revisions.get(item.external_id, 0)
        revisions[item.external_id] = newer_revisions + 1
        rule = _rule(item, place, newer_revisions, policy, now)
        if rule and item.status == "loaded":
            verdicts.append(Verdict(item, f"policy {rule}"))
    return verdicts[::-1]


def _rule(item: Retained, newer_items: int, newer_revisions: int, policy: SourceRetention, now: datetime) -> str | None:
    if policy.max_age_days is not None and item.fetched_at < now - timedelta(days=policy.max_age_days):
        return f"max_age_days {policy.max_age_days}"
    if policy.keep_revisions is not None and newer_revisions >= policy.keep_revisions:
        return f"keep_revisions {policy.keep_revisions}"
    if policy.max_items is not None and newer_revisions and newer_items >= policy.max_items:
        return f"max_items {policy.max_items}"
    return None


def summarize(what: str, verdicts: Sequence[Verdict], kept: Sequence[Verdict] = ()) -> list[RetentionLine]:
    """Return one line per rule."""
    return [
        RetentionLine(
            what=what,
            rule=rule,
            number=len(gone),
            bytes=sum(verdict.item.bytes for verdict in gone),
            oldest_at=min((verdict.item.fetched_at for verdict in gone), default=None),
            kept_for_traces=sum(verdict.rule == rule for verdict in kept),
        )
        for rule, gone in _by_rule(verdicts, kept)
    ]


def _by_rule(verdicts: Sequence[Verdict], kept: Sequence[Verdict]) -> Iterator[tuple[str, list[Verdict]]]:
    for rule in dict.fromkeys(verdict.rule for verdict in (*verdicts, *kept)):
        yield rule, [verdict for verdict in verdicts if verdict.rule == rule]
