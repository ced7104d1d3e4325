"""From a page's bytes to its text, as the WHATWG encoding standard has it, and what was odd about them.

A byte order mark goes first. A page that is valid UTF-8 is UTF-8 whatever it declares, unless it
declares an encoding of seven bits, which looks like UTF-8. Then counts what a `meta` declares, and the
rest is guessed. What a label means is in `silver/text_encoding.py`. Everything here is linear.
"""

import re

from medallion_defs.silver.contract import InvalidRecord
from medallion_defs.silver.text_encoding import UTF_8, TextEncoding, encoding_of_label, guess_encoding

# The standard looks at 1,024 bytes before it parses, and heeds a later meta while it does.
_HEAD_BYTES = 65_536
_BOMS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16le", b"\xfe\xff": "utf-16be"}
_SEVEN_BITS = frozenset({"iso-2022-jp", "hz-gb-2312", "hz", "iso-2022-kr", "csiso2022kr"})
_MAX_DAMAGED_SHARE = 0.1  # of the characters beyond ASCII, for text that is still UTF-8

_TAG = re.compile(rb"<(?:(?P<comment>!--)|(?P<name>/?[a-z][^\s/>]*)|[!/?][^>]*)", re.IGNORECASE)
_ATTRIBUTE = re.compile(
    rb"[\s/]*(?:(?P<end>>)|(?P<name>[^\s/>][^\s/>=]*)"
    rb"(?:\s*=\s*(?:\"(?P<double>[^\"]*)(?:\"|\Z)|'(?P<single>[^']*)(?:'|\Z)|(?P<bare>[^\s>]*)))?)"
)
# What stands in them is text, not markup.
_TEXT_ELEMENTS = (b"script", b"style", b"textarea", b"title", b"xmp", b"iframe", b"noembed", b"noframes", b"plaintext")
_TEXT_ENDS = {name: re.compile(rb"</" + name + rb"[\s/>]", re.IGNORECASE) for name in _TEXT_ELEMENTS}
_CHARSET = re.compile(rb"charset\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s;\"']+))", re.IGNORECASE)
_XML_ENCODING = re.compile(rb"<\?xml[^>]*?\sencoding\s*=\s*[\"']([^\"'>]*)[\"']")
_BEYOND_ASCII = re.compile(rb"[\x80-\xff][^<>]{0,1000}")


def decode_page(content: bytes, name: str) -> tuple[str, str]:
    """Return the text of a page and its quality flags, a comma before each; bytes that are not valid become U+FFFD.

    Raises:
        InvalidRecord: the bytes are UTF-16 without a byte order mark.
    """
    for mark, label in _BOMS.items():
        if content.startswith(mark):
            return _decode(content[len(mark) :], encoding_of_label(label) or UTF_8)
    if _looks_like_utf_16(content[:1_024]):
        raise InvalidRecord("invalid_encoding", f"{name} is UTF-16 without a byte order mark. Deliver it with one, or as UTF-8.")
    declared = declared_encoding(content[:_HEAD_BYTES])
    if declared and declared.name in _SEVEN_BITS:
        return _decode(content, declared)
    if _is_utf_8(content, declared):
        return _decode(content, UTF_8)
    if declared and declared != UTF_8:
        return _decode(content, declared)
    text, flags = _decode(content, guess_encoding(b"\n".join(_BEYOND_ASCII.findall(content))))
    return text, flags + (",mislabeled_encoding" if declared else ",guessed_encoding")


def declared_encoding(head: bytes) -> TextEncoding | None:
    """Return what the page's markup declares; UTF-16 means UTF-8, for the declaration could be read."""
    match = _XML_ENCODING.match(head)
    declared = _prescan(head) or (encoding_of_label(match[1].decode("latin-1")) if match else None)
    return UTF_8 if declared and declared.name.startswith("utf-16") else declared


def _decode(content: bytes, encoding: TextEncoding) -> tuple[str, str]:
    text = encoding.decode(content).removeprefix("\ufeff")  # a second mark
    flags = "" if encoding.is_standard else ",nonstandard_encoding"
    return text, flags + (",invalid_characters" if "\ufffd" in text and not _is_valid(content, encoding) else "")


def _is_valid(content: bytes, encoding: TextEncoding) -> bool:
    try:
        encoding.decode_strictly(content)
    except UnicodeDecodeError:
        return False
    return True


def _looks_like_utf_16(head: bytes) -> bool:
    return max(head[0::2].count(0), head[1::2].count(0)) * 4 > len(head)


def _is_utf_8(content: bytes, declared: TextEncoding | None) -> bool:
    """Valid, or, where nothing else is declared, with little damage: a file cut inside a character."""
    if _is_valid(content, UTF_8):
        return True
    if declared and declared != UTF_8:
        return False
    text = content.decode("utf-8", "replace")
    beyond_ascii = len(text) - sum(map(text.count, map(chr, range(128))))
    return text.count("\ufffd") < _MAX_DAMAGED_SHARE * beyond_ascii


def _prescan(head: bytes) -> TextEncoding | None:
    """Return what the first meta with a known label declares."""
    place = 0
    while tag := _TAG.search(head, place):
        if tag["comment"]:
            place = head.find(b"-->", tag.start() + 2) + 3
            if place < 3:
                return None
            continue
        attributes, place = _read_attributes(head, tag.end()) if tag["name"] else ({}, tag.end())
        name = (tag["name"] or b"").lower()
        if name == b"meta" and (encoding := _of_meta(attributes)):
            return encoding
        if name in _TEXT_ENDS:
            end = _TEXT_ENDS[name].search(head, place)
            if end is None:
                return None
            place = end.start()
    return None


def _read_attributes(head: bytes, place: int) -> tuple[dict[bytes, bytes], int]:
    """Return the attributes of a tag, the first of each name, and where the tag ends."""
    attributes: dict[bytes, bytes] = {}
    while match := _ATTRIBUTE.match(head, place):
        place = match.end()
        if match["end"]:
            break
        value = match["double"] or match["single"] or match["bare"] or b""
        attributes.setdefault(match["name"].lower(), value)
    return attributes, place


def _of_meta(attributes: dict[bytes, bytes]) -> TextEncoding | None:
    if (label := attributes.get(b"charset")) is not None:
        return encoding_of_label(label.decode("latin-1"))
    if attributes.get(b"http-equiv", b"").strip().lower() != b"content-type":
        return None
    match = _CHARSET.search(attributes.get(b"content", b""))
    return encoding_of_label((match[1] or match[2] or match[3] or b"").decode("latin-1")) if match else None
