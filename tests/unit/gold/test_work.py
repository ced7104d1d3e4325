"""The work of a gold run survives its way through run configuration, and nothing else passes for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medallion_defs.core.errors import ConfigurationError
from medallion_defs.gold.feed import Work

RANGES = st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1)).map(sorted)
VALID = {"subject_after": 1, "subject_until": 5, "lookup_after": 2, "lookup_until": 2}


@given(subject=RANGES, lookup=RANGES)
def test_work_comes_back_from_its_configuration(subject: list[int], lookup: list[int]) -> None:
    work = Work(*subject, *lookup)
    assert Work.from_config(work.to_config()) == work


@pytest.mark.parametrize(
    "changed",
    [
        {"subject_after": 6},
        {"lookup_after": -1},
        {"subject_until": 2**63},
        {"lookup_until": "7"},
        {"lookup_until": None},
        {"subject_after": True},
        {"subject_after": 1.0},
        {"max_rows": 3},
    ],
)
def test_work_that_no_sensor_planned_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        Work.from_config(VALID | changed)


def test_work_with_a_missing_number_is_refused_and_the_message_names_all_four() -> None:
    with pytest.raises(ConfigurationError, match="subject_after, subject_until, lookup_after, lookup_until"):
        Work.from_config({"subject_after": 1})
