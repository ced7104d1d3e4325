"""Load together what can be loaded together: one transaction for all items of a batch, and one for each where that fails."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from medallion_defs.ops.file_ingestion import DatasetIngestion

_LOG = logging.getLogger(__name__)
R = TypeVar("R")


def load_together(
    items: Sequence[DatasetIngestion],
    load: Callable[[Sequence[DatasetIngestion]], list[R]],
    fail: Callable[[DatasetIngestion, Exception], list[R]],
    passed_on: tuple[type[Exception], ...],
) -> list[R]:
    """Load all items; where that fails because of one of them, each alone, so that only the culprit fails.

    Args:
        load: loads items in one transaction, all or none.
        fail: saves that an item failed, which was loaded alone.
        passed_on: errors that are of no item, such as a database that is away.

    Raises:
        Exception: one of `passed_on`.
    """
    try:
        return load(items)
    except passed_on:
        raise
    except Exception as error:  # noqa: BLE001 - one item's value may make a library raise anything; the item fails with its text
        if len(items) == 1:
            return fail(items[0], error)
        _LOG.warning(
            "These %d items cannot be loaded together, so they are loaded one by one: %s", len(items), error,
            extra={"run_id": items[0].silver_run_id, "batch_id": items[0].batch_id, "source": items[0].source_type},
        )  # fmt: skip
        return [outcome for item in items for outcome in load_together([item], load, fail, passed_on)]
