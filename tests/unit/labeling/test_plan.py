"""How open tasks become batches, and where a plan may stop reading."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from medallion_defs.core.ids import task_id
from medallion_defs.labeling.contract import BatchStrategy, Candidate
from medallion_defs.labeling.engine.plan import OpenItem, cut_batches, whole_positions

ID = UUID(int=0)


def item(size: int, group: str | None = None, prompt_id: str = "p") -> OpenItem:
    return OpenItem(ID, prompt_id, size, group)


OPEN_ITEMS = st.builds(item, st.integers(0, 20), st.sampled_from([None, "a", "b"]), st.sampled_from("pq"))


def sizes(items: list[OpenItem], strategy: BatchStrategy) -> list[list[int]]:
    return [[each.bytes for each in batch] for batch in cut_batches(items, strategy)]


def candidates(*positions: int) -> list[Candidate]:
    return [Candidate("t", "k", ID, "h", 1, position) for position in positions]


def test_batches_end_at_items_and_at_bytes_and_a_larger_item_goes_alone() -> None:
    items = [item(size) for size in (1, 1, 1, 5, 5, 99, 1)]
    assert sizes(items, BatchStrategy(max_items=2, max_bytes=9)) == [[1, 1], [1, 5], [5], [99], [1]]


def test_a_batch_is_of_one_prompt_and_of_one_group_if_asked() -> None:
    items = [item(1, "b"), item(2, "a"), item(3, "b"), item(4, None), item(5, "a", "q")]
    assert sizes(items, BatchStrategy(by_group=True)) == [[4], [2], [1, 3], [5]]
    assert sizes(items, BatchStrategy()) == [[1, 2, 3, 4], [5]]


@given(st.lists(OPEN_ITEMS), st.integers(1, 5), st.booleans())
def test_nothing_is_lost_between_batches(items: list[OpenItem], max_items: int, by_group: bool) -> None:
    batches = list(cut_batches(items, BatchStrategy(max_items, 20, by_group)))
    assert sorted(map(repr, items)) == sorted(repr(each) for batch in batches for each in batch)
    assert all(len(batch) <= max_items and len({each.prompt_id for each in batch}) == 1 for batch in batches)


def test_a_position_that_the_limit_may_have_cut_is_read_again() -> None:
    assert [c.change_seq for c in whole_positions(candidates(1, 2, 3, 3), limit=4)] == [1, 2]
    assert whole_positions(candidates(3, 3, 3), limit=3) == []
    assert len(whole_positions(candidates(1, 2, 2), limit=4)) == 3


def test_the_same_question_has_the_same_id_for_ever() -> None:
    assert str(task_id("text.summarize", "text", "ab" * 32, "p1")) == "6d9c3e92-2c8d-80d0-ad79-a55723a9ab59"
    assert task_id("text.summarize", "text", "ab" * 32, "p2") != task_id("text.summarize", "text", "ab" * 32, "p1")
