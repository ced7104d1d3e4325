"""Cursors of sensors: what cannot be read is none, for every sensor, and one counts only in the database that it speaks of."""

from collections.abc import Iterator

import dagster as dg
import psycopg
import pytest

from medallion_defs.core.settings import Settings
from medallion_defs.locations import bronze, gold, silver
from medallion_defs.ops.cursors import Position, decode_cursor, note_cursor, read_cursor
from tests.integration.test_sensors import tick

GARBAGE = (
    *("rubbish", "{}x", "-1", '"\\ud800"', "[" * 100_000),
    *('{"mode": "tape"}', '{"mode":"index","inode":1,"offset":-5,"tail_sha256":""}'),
)


def sensor_names() -> Iterator[tuple[dg.Definitions, str]]:
    for location in (bronze, silver, gold):
        for sensor in location.defs.sensors or ():
            yield location.defs, sensor.name


@pytest.mark.parametrize(("defs", "name"), [pytest.param(*pair, id=pair[1]) for pair in sensor_names()])
def test_a_cursor_that_cannot_be_read_is_none_for_every_sensor(
    defs: dg.Definitions, name: str, settings: Settings, instance: dg.DagsterInstance
) -> None:
    for cursor in GARBAGE:
        tick(defs, name, settings, instance, cursor=cursor)


def test_a_cursor_counts_only_where_the_database_has_the_same(db: psycopg.Connection) -> None:
    first = note_cursor(db, "a", 5)
    assert read_cursor(db, "a", first, Position) == 5
    second = note_cursor(db, "a", 7)
    assert read_cursor(db, "a", first, Position) is None
    assert read_cursor(db, "a", second, Position) == 7
    assert read_cursor(db, "b", second, Position) is None
    assert read_cursor(db, "a", None, Position) is None


def test_a_cursor_that_stands_still_writes_nothing(db: psycopg.Connection) -> None:
    note_cursor(db, "a", 5)
    before = db.execute("SELECT ctid, xmin FROM ops.cursors").fetchall()
    db.commit()
    note_cursor(db, "a", 5)
    assert db.execute("SELECT ctid, xmin FROM ops.cursors").fetchall() == before


@pytest.mark.parametrize("text", [None, "", *GARBAGE])
def test_a_text_that_is_not_the_cursor_is_none(text: str | None) -> None:
    assert decode_cursor(text, Position) is None
