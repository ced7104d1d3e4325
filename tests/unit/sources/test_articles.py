"""Articles: the text of a page, against texts that a person marked, and pages of all kinds of damage."""

import gzip
import json
import re
from collections import Counter
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from statistics import mean, median
from uuid import UUID

import pytest

from medallion_defs.silver.contract import FileFacts, InvalidRecord
from medallion_defs.sources.articles.transform import MAX_PAGE_BYTES, Row, read_file

BODY = (
    "<article><h1>Ein Titel</h1>" + "<p>Der Bär läßt die Brücke über den Fluß und geht nach Hause, müde, aber froh.</p>" * 4 + "</article>"
)


def read(path: Path) -> dict[str, object]:
    item = FileFacts(
        UUID(int=0),
        path.name,
        datetime(2026, 2, 1, tzinfo=UTC),
        path.name,
        f"articles/{path.name}",
        "page.html",
        path.stat().st_size,
        "0" * 64,
    )
    return dict(zip((*Row.__struct_fields__, "flags"), read_file(path, item), strict=True))


def read_page(tmp_path: Path, content: bytes, name: str = "page.html") -> dict[str, object]:
    path = tmp_path / name
    path.write_bytes(content)
    return read(path)


def word_f1(found: str, truth: str) -> float:
    """Return the harmonic mean of precision and recall over words, each counted as often as it stands there."""
    one, other = (Counter(re.findall(r"\w+", text)) for text in (found, truth))
    common = sum((one & other).values())
    return 2 * common / (sum(one.values()) + sum(other.values())) if common else 0.0


def test_the_text_of_real_pages_is_what_a_person_marked(shared_data: Path) -> None:
    truth = json.loads((shared_data / "pages/ground-truth.json").read_text(encoding="utf-8"))
    rows = {name: read(shared_data / f"pages/{name}.html.gz") for name in truth}
    scores = [word_f1(str(rows[name]["body_text"]), page["articleBody"]) for name, page in truth.items()]
    assert len(scores) == 61
    # Measured: mean 0.962, median 0.993, worst 0.620.
    assert mean(scores) > 0.95
    assert median(scores) > 0.99
    assert min(scores) > 0.55
    assert sum(row["url"] == truth[name]["url"] for name, row in rows.items()) > 45
    assert [name for name, row in rows.items() if row["flags"]] == []


def test_the_text_is_the_same_each_time(shared_data: Path) -> None:
    pages = sorted((shared_data / "pages").glob("*.html.gz"))[:10]
    assert [read(page) for page in pages] == [read(page) for page in pages]


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [("utf-8", "utf-8"), ("utf-8", "utf-8-sig"), ("iso-8859-1", "iso-8859-1"), ("windows-1252", "cp1252"), ("utf-16", "utf-16")],
)
def test_a_page_is_read_in_its_own_encoding(tmp_path: Path, declared: str, encoding: str) -> None:
    page = f'<!doctype html><html lang="DE-de"><head><meta charset="{declared}"><title>x</title></head><body>{BODY}</body></html>'
    row = read_page(tmp_path, page.encode(encoding))
    assert "läßt die Brücke über den Fluß" in str(row["body_text"])
    assert (row["title"], row["stated_language"]) == ("Ein Titel", "de-de")


def test_a_page_that_declares_an_encoding_there_is_not_is_read_all_the_same(tmp_path: Path) -> None:
    page = f'<html><head><meta charset="x-none"></head><body>{BODY}</body></html>'
    assert "Brücke" in str(read_page(tmp_path, page.encode("iso-8859-1"))["body_text"])


def test_a_packed_page_is_the_same_page_whatever_it_is_called(tmp_path: Path) -> None:
    page = f"<html><body>{BODY}</body></html>".encode()
    assert read_page(tmp_path, gzip.compress(page)) == read_page(tmp_path, page)


def test_the_hash_is_that_of_the_text_so_that_what_stands_around_it_does_not_count(tmp_path: Path) -> None:
    first = read_page(tmp_path, f"<html><body><nav>Monday</nav>{BODY}</body></html>".encode())
    second = read_page(tmp_path, f"<html><body><nav>Tuesday</nav>{BODY}<footer>Imprint</footer></body></html>".encode())
    assert first["body_sha256"] == second["body_sha256"] == sha256(str(first["body_text"]).encode()).hexdigest()


@pytest.mark.parametrize(
    ("page", "flags"),
    [
        ("<html><head><title>Log in</title></head><body><form><input></form></body></html>", "missing_body"),
        ("<html><head><title>Shop</title></head><body><a href='/'>Home</a> <a href='/x'>Log in</a></body></html>", "short_body"),
        ("<html><body></body></html>", "missing_body,missing_title"),
    ],
)
def test_a_page_without_an_article_is_kept_and_flagged(tmp_path: Path, page: str, flags: str) -> None:
    assert read_page(tmp_path, page.encode())["flags"] == flags


def test_postgres_can_take_what_a_page_hides_in_character_references(tmp_path: Path) -> None:
    row = read_page(tmp_path, BODY.replace("Bär", "B&#0;&#xD800;&#xDFFF;\0r").replace("Titel", "T&#0;itel").encode())
    for text in (row["title"], row["body_text"]):
        assert "\0" not in str(text)
        str(text).encode("utf-8")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b" \r\n ", "empty_file"),
        (gzip.compress(b"", mtime=0), "empty_file"),
        (b'{"error": "not found"}', "not_html"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "not_html"),
        (gzip.compress(b"<html><body>" + b"x" * MAX_PAGE_BYTES, mtime=0), "record_too_long"),
    ],
)
def test_what_is_no_page_is_refused(tmp_path: Path, content: bytes, code: str) -> None:
    with pytest.raises(InvalidRecord, match=r"page\.html") as caught:
        read_page(tmp_path, content)
    assert caught.value.error_code == code
