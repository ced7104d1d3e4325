"""Durations as people write them, and rates as every stage tells them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from medallion_defs.core.sections import AlertSettings, SourceSettings
from medallion_defs.core.timing import Timer, format_duration, parse_duration, per_second, stage_timing


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("6h", 21_600), ("1d", 86_400), ("1d 12h", 129_600), ("1.5h", 5_400), (" 2 m ", 120)]
)
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "6", "h", "6 hours", "1h ago", "-1h", "1w"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="90s, 15m, 6h, 1d"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10**7))
def test_a_written_duration_reads_back_with_at_most_its_second_unit_cut(seconds: int) -> None:
    back = parse_duration(format_duration(timedelta(seconds=seconds))).total_seconds()
    assert back <= seconds
    assert seconds - back < max(60, seconds / 24)


@pytest.mark.parametrize("value", ["0s", "soon", "-6h"])
def test_a_source_with_a_senseless_expectation_is_refused(value: str) -> None:
    with pytest.raises(ValidationError):
        SourceSettings(expect_every=value)


def test_a_webhook_that_is_no_web_address_is_refused_without_being_shown() -> None:
    with pytest.raises(ValidationError) as caught:
        AlertSettings(webhook_url="file:///etc/passwd")
    assert all("passwd" not in error["msg"] for error in caught.value.errors())


def test_rates_are_told_only_of_what_was_counted_and_timed() -> None:
    assert (per_second(100, 4.0), per_second(None, 4.0), per_second(100, None), per_second(100, 0.0)) == (25.0, None, None, None)
    assert stage_timing(2.0, rows=10, bytes=4) == {"seconds": 2.0, "rows_per_second": 5.0, "bytes_per_second": 2.0}
    assert stage_timing(0.0, rows=10) == {"seconds": 0.0, "rows_per_second": 0.0}


def test_a_stopped_timer_keeps_its_time() -> None:
    timer = Timer().stop()
    assert timer.seconds == timer.stop().seconds
