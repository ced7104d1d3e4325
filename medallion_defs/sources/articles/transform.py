"""Articles: from one web page to one row of `silver.articles`. Pure, but for reading that page.

The text is trafilatura's, without comments: on the 61 pages of the benchmark it is taken from, that gave the best word F1
(docs/articles-and-media.md). What a page states of itself is taken as it stands, not checked.
"""

import gzip
import hashlib
import re
from pathlib import Path
from typing import Any

import msgspec

from medallion_defs.silver.contract import FileFacts, InvalidRecord
from medallion_defs.sources.articles.page_encoding import decode_page
from medallion_defs.sources.articles.page_tree import parse_page

# Another version may find another text.
LIBRARIES = ("trafilatura", "lxml", "charset-normalizer", "webencodings")

MAX_ID_BYTES = 2_048  # a key's entry in a btree holds 2,704 bytes
MAX_PAGE_BYTES = 8 * 1024**2  # unpacked: a quarter of a minute of one CPU; the largest of the benchmark's pages has 1.5 MB
MAX_TITLE_LENGTH = 1_024
MIN_BODY_LENGTH = 150  # the shortest article of the benchmark has 355 characters

_GZIP_MAGIC = b"\x1f\x8b"
_HEAD_LENGTH = 65_536
_HTML = re.compile(r"<(?:!doctype html|html|head|body|title|article|section|main|div|p|h[1-6])\b", re.IGNORECASE)
# Nobody reads the date; searching all the text for one takes half of the time.
_NO_DATE: dict[str, Any] = {"original_date": False, "extensive_search": False, "max_date": "2100-01-01"}
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z0-9]{2,8})*")
_WORD = re.compile(r"\w+")


class Row(msgspec.Struct):
    """One row of `silver.articles`: the source's own columns, in table order."""

    article_id: str
    url: str | None
    title: str | None
    stated_language: str | None
    body_text: str
    body_words: int
    body_sha256: str
    filename: str


def read_file(path: Path, item: FileFacts) -> tuple[object, ...]:
    """Return the values of `Row`, then the quality flags joined by commas.

    Raises:
        InvalidRecord: the file is empty, too large or no HTML, or its id is too long for a key.
        OSError, EOFError, zlib.error: the file cannot be read or unpacked.
    """
    if len(item.external_id.encode()) > MAX_ID_BYTES:
        raise InvalidRecord("invalid_value", f"The page's path is longer than {MAX_ID_BYTES} bytes. Deliver it under a shorter one.")
    page, flags = decode_page(_read_page(path, item), item.filename)
    if not _HTML.search(page[:_HEAD_LENGTH]):
        raise InvalidRecord("not_html", f"{item.filename} has no HTML element in its first {_HEAD_LENGTH} characters. Remove it.")
    tree = parse_page(page)
    title, url, language, body = _extract(tree.root) if tree else (None, None, None, "")
    if tree and tree.has_lost_text(body):
        flags += ",text_lost"
    flags += _judge_body(body) + ("" if title else ",missing_title")
    digest = hashlib.sha256(body.encode()).hexdigest()
    return item.external_id, url, title, language, body, len(_WORD.findall(body)), digest, item.filename, flags[1:]


def _judge_body(body: str) -> str:
    """Where there is not an article, the extraction makes do with what there is: a menu, a notice. Its length tells."""
    if not body:
        return ",missing_body"
    return ",short_body" if len(body) < MIN_BODY_LENGTH else ""


def _read_page(path: Path, item: FileFacts) -> bytes:
    with path.open("rb") as raw:
        is_gzip = raw.read(2) == _GZIP_MAGIC
        raw.seek(0)
        content = (gzip.GzipFile(fileobj=raw) if is_gzip else raw).read(MAX_PAGE_BYTES + 1)
    if not content.strip():
        raise InvalidRecord("empty_file", f"{item.filename} has nothing in it. Deliver it again.")
    if len(content) > MAX_PAGE_BYTES:
        raise InvalidRecord("record_too_long", f"{item.filename} has more than {MAX_PAGE_BYTES:,} bytes unpacked. Deliver it in parts.")
    if content.startswith(_GZIP_MAGIC):
        raise InvalidRecord("not_html", f"{item.filename} is packed twice: there is gzip in its gzip. Deliver it packed once.")
    return content


def _extract(tree: Any) -> tuple[str | None, str | None, str | None, str]:
    """Return title, URL, stated language and the article's text."""
    from trafilatura import bare_extraction  # only loads pay for it
    from trafilatura.metadata import extract_metadata

    language = (tree.get("lang") or tree.get("{http://www.w3.org/XML/1998/namespace}lang") or tree.get("xml:lang") or "").strip().lower()
    found: Any = bare_extraction(tree, include_comments=False, with_metadata=True, date_extraction_params=_NO_DATE)
    facts = found or extract_metadata(tree, date_config=_NO_DATE)
    body = _clean(found.text) if found else ""
    return (
        _clean(facts.title)[:MAX_TITLE_LENGTH] or None, _clean(facts.url) or None,
        language if _LANGUAGE.fullmatch(language) else None, body,
    )  # fmt: skip


def _clean(text: str | None) -> str:
    # Postgres takes neither NUL nor half a surrogate pair, and a page may hold both as character references.
    return (text or "").replace("\0", "").encode("utf-8", "replace").decode().strip()
