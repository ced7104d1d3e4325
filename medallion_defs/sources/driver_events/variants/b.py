"""The hour of a truck event from its key, where the file's hour column contradicts it.

The third part of a truck's key is 2**63 - 1 minus the event's milliseconds since 1970: the system that made the file counted
down, so that a scan meets the newest event first. In the real file the minutes and seconds of the column `eventTime` agree with it in
every row, and the hour in `eventDate` in three rows of four. Everything else is as in variant a.
"""

from datetime import UTC, datetime, timedelta

import msgspec

from medallion_defs.silver.contract import ItemFacts
from medallion_defs.sources.driver_events.transform import Input
from medallion_defs.sources.driver_events.transform import transform as transform_a

__all__ = ["Input", "transform"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR = timedelta(hours=1)
_COUNTDOWN_FROM = 2**63 - 1
_COUNTER_DIGITS = 19
# What the two clocks of a row may differ by below the hour: the column has tenths of a second, the key milliseconds.
_AGREEMENT = timedelta(seconds=1)


def transform(record: Input, item: ItemFacts) -> tuple[object, ...]:
    """Return what variant a does, with the instant moved by whole hours to where the key has it, and a flag where it was moved.

    Raises:
        InvalidRecord: as in variant a.
    """
    moved = _hours_off(record)
    if not moved or record.event_at is None:
        return transform_a(record, item)
    row = transform_a(msgspec.structs.replace(record, event_at=record.event_at + moved * _HOUR), item)
    return (*row[:-1], (str(row[-1]) + ",event_at_from_key").lstrip(","))


def _hours_off(record: Input) -> int:
    """Return how many hours the record's instant is behind the one in its key; 0 where there is none, or it means something else."""
    if not record.event_id or not record.event_id.startswith("truck:") or record.event_at is None or record.event_at.tzinfo is None:
        return 0
    counter = record.event_id.rpartition("|")[2]
    if len(counter) != _COUNTER_DIGITS or not counter.isdecimal():
        return 0
    try:
        behind = _EPOCH + timedelta(milliseconds=_COUNTDOWN_FROM - int(counter)) - record.event_at
    except OverflowError:
        return 0
    hours = round(behind / _HOUR)
    return hours if abs(behind - hours * _HOUR) < _AGREEMENT else 0
