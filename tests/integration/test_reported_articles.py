"""Pages that others reported as read wrong, from the landing folder to silver, in one batch with a good one and a bad one."""

from pathlib import Path

import dagster as dg
import psycopg
import pytest

from medallion_defs.core.settings import Settings
from medallion_defs.locations import bronze, silver
from tests.integration.dagster_assets import drop, materialize

EXPECTED = {
    "charset_undefined.html": ("Ferry news", "Der Bär läßt die Brücke über den Fluß und geht nach Hause, müde, aber froh"),
    "latin1_is_cp1252.html": ("Ferry news", "It’s “the ferry” – said the captain… for 5 € a head"),
    "iso2022jp.html": ("船の話", "東京の港を出た船は、北の島へ郵便と食料を運んだ。"),
    "meta_in_comment.html": ("Ferry news", "Паром между двумя островами вышел в шесть часов утра"),
    "nested_replies_300.html": ("Ferry news", "Reply number 299 says the ferry left at noon with timber"),
}
GOOD = "<html><head><title>Good</title></head><body><p>A page like any other, with a sentence in it.</p></body></html>"


@pytest.fixture
def loaded(settings: Settings, instance: dg.DagsterInstance, shared_data: Path) -> Settings:
    for name in EXPECTED:
        drop(settings, "articles", name, (shared_data / "failing" / name).read_bytes())
    drop(settings, "articles", "good.html", GOOD.encode())
    drop(settings, "articles", "unmarked.html", GOOD.encode("utf-16-le"))
    assert materialize(bronze.defs, ["bronze", "articles"], settings, instance).success
    assert materialize(silver.defs, ["silver", "articles"], settings, instance).success
    return settings


def test_what_others_reported_reads_as_it_was_meant(loaded: Settings, db: psycopg.Connection) -> None:
    rows = {name: (title, body) for name, title, body in db.execute("SELECT article_id, title, body_text FROM silver.articles").fetchall()}
    assert set(rows) == {*EXPECTED, "good.html"}
    for name, (title, text) in EXPECTED.items():
        assert rows[name][0] == title, name
        assert text in rows[name][1], name
        assert "\ufffd" not in rows[name][1], name
    assert rows["nested_replies_300.html"][1].count("Reply number") == 300
    guessed = db.execute("SELECT article_id FROM silver.articles WHERE 'guessed_encoding' = ANY (quality_flags) ORDER BY 1").fetchall()
    assert guessed == [("charset_undefined.html",)], "the others declare their encoding"
    attempts = dict(db.execute("SELECT external_id, attempts FROM ops.file_ingestions WHERE status = 'loaded'").fetchall())
    assert attempts == dict.fromkeys(rows, 1)
    [refused] = db.execute("SELECT error_code, message FROM silver.rejected_rows").fetchall()
    assert refused == ("invalid_encoding", "unmarked.html is UTF-16 without a byte order mark. Deliver it with one, or as UTF-8.")
