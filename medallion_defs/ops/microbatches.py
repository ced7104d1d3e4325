"""Which items go together: open items of the ledger, cut into microbatches. Pure; claiming is `ledger.py`'s."""

import secrets
from collections.abc import Iterable
from datetime import datetime
from operator import attrgetter

from medallion_defs.core.batching import cut
from medallion_defs.core.sections import SourceSettings
from medallion_defs.ops.endings import TOGETHER
from medallion_defs.ops.file_ingestion import DatasetIngestion


def plan_batches(items: Iterable[DatasetIngestion], settings: SourceSettings, room: int) -> list[list[DatasetIngestion]]:
    """Group `items`, oldest first, into at most `room` microbatches within `max_items` and `max_bytes`.

    One item above `max_bytes` goes alone. Items that a dead run left are together with half as many others at most.
    """
    streams: dict[int, list[DatasetIngestion]] = {}
    for item in sorted(items, key=attrgetter("created_at", "file_id")):
        streams.setdefault(_most_items(item, settings), []).append(item)
    batches = [batch for most, stream in streams.items() for batch in cut(stream, _bytes, most_items=most, most_bytes=settings.max_bytes)]
    return sorted(batches, key=lambda batch: (batch[0].created_at, batch[0].file_id))[:room]


def new_batch_id(source_type: str, at: datetime) -> str:
    """Return a new id for a microbatch: sorts by time, unique, short enough for a run key and a tag."""
    return f"{at:%Y%m%dT%H%M%S.%f}-{source_type}-{secrets.token_hex(4)}"


def _most_items(item: DatasetIngestion, settings: SourceSettings) -> int:
    return min(settings.max_items, int((item.silver_errors or {}).get(TOGETHER, settings.max_items)))


def _bytes(item: DatasetIngestion) -> int:
    return item.bronze_bytes or 0
