"""Which encoding a page is in: by its mark, by its bytes, by what it declares, or by a guess."""

import pytest

from medallion_defs.silver.contract import InvalidRecord
from medallion_defs.sources.articles.page_encoding import declared_encoding, decode_page

RUSSIAN = "Паром между двумя островами вышел в шесть часов утра"
GERMAN = "Der Bär läßt die Brücke über den Fluß"
JAPANESE = "東京の港を出た船は、北の島へ郵便と食料を運んだ"


def page(text: str, head: str = "") -> str:
    return f"<!doctype html><html><head>{head}<title>x</title></head><body><p>{text}</p></body></html>"


@pytest.mark.parametrize(
    ("head", "name"),
    [
        ('<meta charset="windows-1251">', "windows-1251"),
        ("<META\nCHARSET = 'Windows-1251' >", "windows-1251"),
        ("<meta charset=windows-1251/>", None),  # the slash is part of the value, as browsers have it
        ("<meta/charset=windows-1251>", "windows-1251"),
        ('<meta charset="x" charset="windows-1251">', None),
        ('<meta http-equiv="Content-Type" content="text/html; charset=koi8-r">', "koi8-r"),
        ("<meta content=\"text/html; charset = 'koi8-r'\" http-equiv=content-type>", "koi8-r"),
        ('<meta name="Content-Type" content="text/html; charset=koi8-r">', None),
        ('<meta name="description" content="charset=koi8-r"><meta charset=gbk>', "gbk"),
        ("<meta charset=latin1>", "windows-1252"),
        ("<meta charset=undefined>", None),
        ("<meta charset=undefined><meta charset=gbk>", "gbk"),
        ("<meta charset=utf-16>", "utf-8"),
        ("<metadata charset=gbk>", None),
        ("<!-- <meta charset=gbk> -->", None),
        ("<!-- <meta charset=gbk> --><meta charset=koi8-r>", "koi8-r"),
        ("<!--><meta charset=koi8-r>", "koi8-r"),
        ("<!-- <meta charset=gbk>", None),
        ("<script>var a = '<meta charset=gbk>';</script><meta charset=koi8-r>", "koi8-r"),
        ("<SCRIPT a='>'>'<meta charset=gbk>'</SCRIPT><meta charset=koi8-r>", "koi8-r"),
        ("<style><meta charset=gbk></style>", None),
        ("<textarea><meta charset=gbk></textarea>", None),
        ("<title><meta charset=gbk></title>", None),
        ("<link title='<meta charset=gbk>'><meta charset=koi8-r>", "koi8-r"),
        ("<?php <meta charset=gbk> ?>", None),
        (" " * 5_000 + "<meta charset=gbk>", "gbk"),
    ],
)
def test_what_a_page_declares_stands_in_a_real_meta(head: str, name: str | None) -> None:
    found = declared_encoding(page("", head).encode())
    assert (found and found.name) == name


def test_a_page_of_xml_may_declare_its_encoding_before_all_else() -> None:
    found = declared_encoding(b'<?xml version="1.0" encoding="windows-1251"?><html></html>')
    assert found is not None
    assert found.name == "windows-1251"


@pytest.mark.parametrize(
    ("text", "declared", "encoding", "flags"),
    [
        (GERMAN, "utf-8", "utf-8", ""),
        (GERMAN, "windows-1252", "utf-8", ""),
        (GERMAN, "iso-8859-1", "cp1252", ""),
        ("“so” – 5 €", "latin-1", "cp1252", ""),
        (GERMAN, "undefined", "cp1252", ",guessed_encoding"),
        (GERMAN, "", "cp1252", ",guessed_encoding"),
        (RUSSIAN, "windows-1251", "cp1251", ""),
        (RUSSIAN, "x-none", "cp1251", ",guessed_encoding"),
        (RUSSIAN, "utf-8", "cp1251", ",mislabeled_encoding"),
        (RUSSIAN, "utf-16", "utf-8", ""),
        (JAPANESE, "shift_jis", "cp932", ""),
        (JAPANESE, "", "cp932", ",guessed_encoding"),
        (JAPANESE, "iso-2022-jp", "iso2022_jp", ""),
        ("中文网页", "hz-gb-2312", "hz", ",nonstandard_encoding"),
    ],
)
def test_a_page_reads_as_it_was_meant(text: str, declared: str, encoding: str, flags: str) -> None:
    content = page(text * 20, f"<meta charset='{declared}'>" if declared else "").encode(encoding)
    read, found = decode_page(content, "a.html")
    assert text * 20 in read
    assert found == flags


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_goes_before_what_is_declared(encoding: str) -> None:
    read, flags = decode_page(page(RUSSIAN, "<meta charset=koi8-r>").encode(encoding), "a.html")
    assert (read, flags) == (page(RUSSIAN, "<meta charset=koi8-r>"), "")


def test_two_marks_are_no_part_of_the_text() -> None:
    assert decode_page(b"\xef\xbb\xbf" * 2 + b"<p>x", "a.html") == ("<p>x", "")


def test_a_page_cut_inside_a_character_keeps_the_rest() -> None:
    read, flags = decode_page(page(RUSSIAN * 3).encode()[:-40], "a.html")
    assert RUSSIAN in read
    assert flags == ""
    cut = page(RUSSIAN * 3).encode()
    cut = cut[: cut.index("утра".encode()) + 3]
    read, flags = decode_page(cut, "a.html")
    assert "Паром между двумя островами" in read
    assert (read[-1], flags) == ("\ufffd", ",invalid_characters")


def test_utf_16_without_a_mark_is_refused_with_a_sentence() -> None:
    with pytest.raises(InvalidRecord, match=r"a\.html is UTF-16 without a byte order mark") as caught:
        decode_page(page(GERMAN).encode("utf-16-le"), "a.html")
    assert caught.value.error_code == "invalid_encoding"
