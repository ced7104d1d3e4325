"""Batches keep the order, lose nothing, and are within their limits unless one item alone is larger."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from medallion_defs.core.batching import cut


@given(st.lists(st.integers(0, 20)), st.integers(1, 5), st.integers(1, 30))
def test_batches_are_the_items_in_order_within_the_limits(sizes: list[int], most_items: int, most_bytes: int) -> None:
    batches = list(cut(sizes, int, most_items=most_items, most_bytes=most_bytes))
    assert [size for batch in batches for size in batch] == sizes
    for batch in batches:
        assert 1 <= len(batch) <= most_items
        assert sum(batch) <= most_bytes or len(batch) == 1
    for batch, following in pairwise(batches):
        assert len(batch) == most_items or sum(batch) + following[0] > most_bytes, "no batch is cut before it is full"


def test_nothing_gives_no_batch() -> None:
    assert list(cut([], int, most_items=1, most_bytes=1)) == []
