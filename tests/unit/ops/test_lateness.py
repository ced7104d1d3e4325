"""When a source or a gold table is late, and what is said of it."""

from datetime import UTC, datetime, timedelta

import pytest

from medallion_defs.core.sections import SourceSettings
from medallion_defs.ops.lateness import Finding, SourceFacts, Verdict, judge_feed, judge_source, judge_watch
from medallion_defs.ops.watch import Look, is_due, now_reported

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
DAILY = SourceSettings(expect_every=DAY)


def facts(
    arrived: timedelta | None = HOUR, waits: timedelta | None = None, waiting: int = 0, dead: int = 0, refused: int = 0
) -> SourceFacts:
    since = NOW - waits if waits is not None else None
    return SourceFacts("weather", NOW - arrived if arrived is not None else None, waiting, since, dead, refused)


def kinds(known: SourceFacts, options: SourceSettings = DAILY) -> list[str]:
    return [finding.kind for finding in judge_source(known, options, NOW)]


@pytest.mark.parametrize(("arrived", "is_late"), [(DAY, False), (DAY + timedelta(seconds=1), True), (None, True)])
def test_a_source_is_silent_when_nothing_came_for_longer_than_expected(arrived: timedelta | None, is_late: bool) -> None:
    assert kinds(facts(arrived)) == (["silent"] if is_late else [])
    assert kinds(facts(arrived), SourceSettings()) == []  # without an expectation silence says nothing


@pytest.mark.parametrize(("waits", "is_late"), [(None, False), (HOUR, False), (2 * HOUR, True)])
def test_a_source_is_behind_when_an_item_waits_longer_than_allowed(waits: timedelta | None, is_late: bool) -> None:
    assert kinds(facts(waits=waits, waiting=3)) == (["behind"] if is_late else [])


def test_the_sentences_say_how_long_what_is_allowed_and_where_to_look() -> None:
    silent, behind, failed = judge_source(facts(2 * DAY, waits=3 * HOUR, waiting=12, dead=2, refused=1), DAILY, NOW)
    assert silent.sentence.startswith("weather: no new item for 2d; one is expected every 1d. Ask who delivers it")
    assert behind.sentence.startswith("weather: 12 items on the way to silver, the first waits for 3h; 1h is allowed.")
    assert failed == Finding("failed", "weather: items 2 dead and 1 refused; 'medallion status' says which and why.")


def test_failed_items_are_told_and_make_nobody_late() -> None:
    verdict = Verdict("silver/weather", judge_source(facts(dead=1), DAILY, NOW), NOW)
    assert verdict.kinds == ("failed",)
    [on_time] = Look(verdict, {}).answers
    assert (on_time.passed, on_time.description) == (True, "on time")  # of the dead item another check tells


def test_gold_is_behind_when_silver_rows_wait_longer_than_allowed() -> None:
    assert judge_feed("gold/weather_enriched", None, HOUR, NOW) == ()
    assert judge_feed("gold/weather_enriched", NOW - HOUR, HOUR, NOW) == ()
    [behind] = judge_feed("gold/weather_enriched", NOW - 26 * HOUR, HOUR, NOW)
    assert "the first for 1d 2h; 1h is allowed. Look at the runs of gold_weather_enriched" in behind.sentence


def test_nobody_looking_is_a_finding_of_its_own() -> None:
    seen = [Verdict("silver/weather", (), NOW - timedelta(minutes=4)), Verdict("gold/weather_enriched", (), NOW - 3 * HOUR)]
    [gold] = judge_watch(("silver", "gold"), seen, NOW)
    assert gold.kind == "unwatched"
    assert "watch_gold ticks every minute and has not for 3h" in gold.sentence
    assert ["never has" in finding.sentence for finding in judge_watch(("silver", "gold"), [], NOW)] == [True, True]


def look(at: datetime, *found: Finding, position: int = 7) -> Look:
    return Look(Verdict("silver/weather", found, at), {}, position)


def test_a_check_is_evaluated_when_the_verdict_changes_after_a_materialization_and_once_an_hour() -> None:
    first = look(NOW)
    reported = now_reported([first], [first], {})
    assert reported["silver/weather"].position == 7
    late = Finding("silent", "no new item for 2d")
    assert not is_due(look(NOW + 59 * timedelta(minutes=1)), reported["silver/weather"])
    assert is_due(look(NOW + HOUR), reported["silver/weather"])
    assert is_due(look(NOW + timedelta(minutes=1), late), reported["silver/weather"])
    soon = look(NOW + timedelta(minutes=2))
    assert is_due(soon, reported["silver/weather"], materialized_at=NOW + timedelta(minutes=1))
    assert not is_due(soon, reported["silver/weather"], materialized_at=NOW - timedelta(minutes=1))
    # Quiet looks do not move the hour: it counts from the last evaluation.
    quiet = now_reported([look(NOW + timedelta(minutes=30), position=9)], [], reported)
    assert (quiet["silver/weather"].at, quiet["silver/weather"].position) == (NOW, 9)
