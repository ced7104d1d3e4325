"""Labels mean what the WHATWG encoding standard says; undeclared text is windows-1252 unless it is plainly another script."""

import pytest

from medallion_defs.silver.text_encoding import WINDOWS_1252, encoding_of_label, guess_encoding


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("utf-8", "utf-8"), (" UTF8\n", "utf-8"),
        ("x-sjis", "shift_jis"), ("latin-1", "windows-1252"), ("latin1", "windows-1252"), ("ISO-8859-1", "windows-1252"),
        ("us-ascii", "windows-1252"), ("cp1252", "windows-1252"), ("gb2312", "gbk"), ("iso-8859-9", "windows-1254"),
        ("ISO-2022-JP", "iso-2022-jp"), ("utf-16", "utf-16le"), ("hz-gb-2312", "hz-gb-2312"), ("iso-2022-kr", "iso-2022-kr"),
    ],
)  # fmt: skip
def test_a_label_means_what_the_standard_says(label: str, name: str) -> None:
    encoding = encoding_of_label(label)
    assert encoding is not None
    assert encoding.name == name
    assert encoding.is_standard == (name not in ("hz-gb-2312", "iso-2022-kr"))


@pytest.mark.parametrize("label", ["", "undefined", "x-none", "utf-7", "idna", "base64", "rot13", "zlib", "replacement", "ütf-8", "a\0b"])
def test_a_label_that_the_standard_does_not_know_declares_nothing(label: str) -> None:
    assert encoding_of_label(label) is None


def decode(label: str, content: bytes) -> str:
    encoding = encoding_of_label(label)
    assert encoding is not None
    return encoding.decode(content)


@pytest.mark.parametrize(
    ("label", "content", "text"),
    [
        ("latin1", b"Mike\x92s \x93Fast\x94 Freight \x96 \x80uro \x81", "Mike’s “Fast” Freight – €uro \x81"),
        ("shift_jis", b"\x87\x40", "①"),
        ("gb2312", b"\x80\xe9", "\ufffd\ufffd"),
        ("iso-2022-jp", b"\x1b$BA%$NOC\x1b(B.", "船の話."),
        ("hz-gb-2312", b"~{VPND~}.", "中文."),
        ("windows-1253", b"\x81\xaa\xe1", "\x81\ufffdα"),
        ("utf-8", b"\xc3\xbc\xc3", "ü\ufffd"),
        ("euc-kr", b"\xb0\xa1\xff", "가\ufffd"),
    ],
)
def test_decoding_never_fails_and_keeps_what_is_valid(label: str, content: bytes, text: str) -> None:
    assert decode(label, content) == text


def test_strict_decoding_says_where_the_bytes_are_not_of_the_encoding() -> None:
    with pytest.raises(UnicodeDecodeError) as caught:
        WINDOWS_1252.decode_strictly(b"ab\x81")
    assert caught.value.start == 2


RUSSIAN = "Транспортная компания, Москва, Грузовые перевозки, Санкт-Петербург, Быстрая доставка, Казань"
HEBREW = "חברת הובלות בע''מ, תל אביב, שירותי משלוחים, ירושלים"
WESTERN = [
    "Mike’s “Fast” Freight – €uro, Köln", "Société Générale, Élysée Café, Créteil, Pêche à l'été, Nîmes, Hôtel de la Forêt, Noël",
    "Größe & Söhne, Straßenbau, München, Döner König, Düsseldorf, Lübeck", "Åkerman, Malmö, Östergren, Göteborg, Ångström, Växjö, Tromsø",
    "São João, Florianópolis, Expressão, Brasília, Ação, Maceió, Irmãos Araújo", "MÜLLER, ZÜRICH, GRÖSSE, ÉLYSÉE, ÅÄÖ, ÇÃÕ, ÉÈÊ",
    "Muñoz, Peñíscola, Compañía, Málaga, Ñandú, Cádiz, Güell", "°C ±5, §12, ¶, ©, ®, «x», ½, ¼, ×, ÷",
]  # fmt: skip


@pytest.mark.parametrize("text", WESTERN)
@pytest.mark.parametrize("times", [1, 50])
def test_western_text_is_windows_1252(text: str, times: int) -> None:
    assert guess_encoding(f"id,name\n1,{text}\n".encode("cp1252") * times) == WINDOWS_1252


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        (RUSSIAN, "cp1251"), (RUSSIAN, "koi8-r"), (RUSSIAN, "cp866"),
        ("東京運輸株式会社, 東京, 大阪配送センター", "cp932"), ("東京運輸株式会社, 東京, 大阪配送センター", "euc_jp"),
        ("中国远洋海运集团, 上海, 顺丰速运有限公司", "gb18030"), ("현대글로비스 주식회사, 서울, 대한통운 물류센터", "cp949"),
        ("Ελληνικές Μεταφορές, Αθήνα, Ναυτιλιακή Εταιρεία", "cp1253"), (HEBREW, "cp1255"),
        ("شركة النقل السريع, القاهرة, خدمات الشحن", "cp1256"), ("บริษัทขนส่งไทย, กรุงเทพ, โลจิสติกส์", "cp874"),
    ],
)  # fmt: skip
def test_another_script_is_known_by_its_bytes(text: str, codec: str) -> None:
    assert guess_encoding(f"id,name\n1,{text}\n".encode(codec)).codec == codec


def test_a_handful_of_bytes_is_not_guessed_from() -> None:
    assert guess_encoding("C1,Паром\n".encode("cp1251")) == WINDOWS_1252
