"""What becomes of results: outputs, waits, slices."""

from datetime import date
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, field_validator

from medallion_defs.core.errors import TerminalError, TransientError
from medallion_defs.core.sections import TaskSettings
from medallion_defs.labeling.engine.outcomes import InvalidOutputError, cut_slices, retry_seconds, validate_output


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    text: str
    on: date | None = None


class Item(NamedTuple):
    number: int
    attempts: int = 0
    has_died: bool = False


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)


def test_an_output_is_checked_as_json_so_a_date_is_a_string() -> None:
    assert validate_output(Answer, {"text": "a", "on": "2026-01-02"}) == '{"text":"a","on":"2026-01-02"}'


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ({}, "text: Field required"),
        ({"text": 1}, "text: Input should be a valid string"),
        ({"text": "a", "more": 1}, "more: Extra inputs"),
        ({"text": "a\0b"}, "NUL"),
        ({"text": object()}, "not JSON"),
        ({"text": ENDLESS}, "not JSON"),
        ({"text": "\ud800"}, "not JSON"),
    ],
)
def test_what_does_not_fit_is_said_field_by_field(output: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidOutputError, match=words):
        validate_output(Answer, output)


def test_invariant_15_whatever_a_tasks_own_validator_raises_is_of_that_output() -> None:
    class Checked(BaseModel):
        text: str

        @field_validator("text")
        @classmethod
        def _look_up(cls, text: str) -> str:
            known: dict[str, str] = {}
            return known[text]

    with pytest.raises(InvalidOutputError, match=r"raised KeyError: 'a' \(labeling/test_outcomes.py, line \d+, in _look_up\)"):
        validate_output(Checked, {"text": "a"})


def test_a_backslash_before_u0000_is_no_nul() -> None:
    assert validate_output(Answer, {"text": "\\u0000"}) == '{"text":"\\\\u0000","on":null}'


def test_waits_double_up_to_an_hour_and_end_with_the_attempts() -> None:
    limits = TaskSettings(max_attempts=40, retry_seconds=30, retry_seconds_by_error={"ValueError": 1})
    assert [retry_seconds(TransientError(), attempt, limits) for attempt in (1, 2, 3, 9, 39, 40)] == [30, 60, 120, 3600, 3600, None]
    assert retry_seconds(ValueError(), 2, limits) == 2
    assert retry_seconds(TerminalError(), 1, limits) is None


def test_what_was_never_begun_goes_in_one_slice() -> None:
    items = [Item(number, attempts=2) for number in range(100)]
    assert cut_slices(items, 3) == ([], [items])


def test_items_whose_worker_died_go_in_ever_smaller_slices_and_last_alone() -> None:
    items = [Item(number, attempts=number % 4, has_died=True) for number in range(100)]
    spent, slices = cut_slices(items, 3)
    assert {item.attempts for item in spent} == {3}
    assert {part[0].attempts: len(part) for part in slices} == {0: 25, 1: 5, 2: 1}


@given(st.lists(st.builds(Item, st.integers(), st.integers(0, 5), st.booleans())), st.integers(1, 5))
def test_every_item_is_in_one_slice_or_spent(items: list[Item], max_attempts: int) -> None:
    spent, slices = cut_slices(items, max_attempts)
    assert sorted([*spent, *(item for part in slices for item in part)]) == sorted(items)
    assert all(item.has_died and item.attempts >= max_attempts for item in spent)
