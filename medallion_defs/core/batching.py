"""Cutting a sequence into batches by count and bytes: the one rule for groups, microbatches, task batches and requests to a model."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def cut(items: Iterable[T], size: Callable[[T], int], *, most_items: int, most_bytes: int) -> Iterator[list[T]]:
    """Cut `items`, in their order, into batches of at most so many items and bytes. One that is larger by itself goes alone."""
    batch: list[T] = []
    total = 0
    for item in items:
        item_bytes = size(item)
        if batch and (len(batch) == most_items or total + item_bytes > most_bytes):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += item_bytes
    if batch:
        yield batch
