"""Which encoding text is in: by the label that declares it, or by what its bytes look like.

Labels mean what the WHATWG encoding standard says (`latin-1` and `ascii` are windows-1252; an unknown label is none).
Bytes come in, text goes out: no files here, and nothing of CSV, JSON or HTML. What HTML adds (a `meta` that says
UTF-16 means UTF-8) is its reader's.
"""

import codecs
import re
from dataclasses import dataclass
from functools import cache

import webencodings

# Below this many bytes beyond ASCII a guess by statistics says nothing: Russian of five letters looks like Japanese.
MIN_BYTES_TO_GUESS = 12
MAX_BYTES_TO_GUESS = 65_536

# Declared encodings that the standard refuses, for scripts hidden in them; here text is never run.
_OUTSIDE_THE_STANDARD = {"hz-gb-2312": "hz", "hz": "hz", "iso-2022-kr": "iso2022_kr", "csiso2022kr": "iso2022_kr"}
_ALIASES = {"latin-1": "latin1"}  # people write both
_PYTHON_NAMES = {"gbk": "gb18030"}  # the standard decodes both alike
_NO_TEXT = frozenset({"replacement", "x-user-defined"})
# What undeclared text may be other than windows-1252. Among Latin scripts a guess is worth less than the default.
_GUESSES = ("cp932", "euc_jp", "cp949", "gb18030", "big5", "cp1251", "koi8_r", "cp866", "cp1253", "cp1255", "cp1256", "cp874")
_ASCII = bytes(range(128))
_WORD_OF_ANOTHER_SCRIPT = re.compile(rb"[\x80-\xff]{3,}")  # western words have one or two such letters at a time
_WESTERN = ("cp1252", "cp1250", "cp1254", "cp1257")  # rivals, so that another script has to be the better reading


@dataclass(frozen=True)
class TextEncoding:
    """One encoding.

    Attributes:
        name: as the standard calls it, such as `windows-1252`.
        codec: Python's name for it.
        is_standard: False for HZ and ISO-2022-KR, which no browser decodes.
    """

    name: str
    codec: str
    is_standard: bool = True

    def decode(self, content: bytes) -> str:
        """Decode as a browser does: what is not valid becomes U+FFFD, a C1 byte without a character its control character."""
        return content.decode(self.codec, _C1_OR_REPLACEMENT)

    def decode_strictly(self, content: bytes) -> str:
        """Decode, or say where the bytes are not of this encoding.

        Raises:
            UnicodeDecodeError: at the first byte that is not.
        """
        return content.decode(self.codec)


def encoding_of_label(label: str) -> TextEncoding | None:
    """Return the encoding that a label declares; None for a label that the standard does not know (`undefined`, `x-none`).

    Blanks around the label and its case do not count.
    """
    bare = label.strip(" \t\n\f\r").lower()
    bare = _ALIASES.get(bare, bare)
    if codec := _OUTSIDE_THE_STANDARD.get(bare):
        return TextEncoding(bare, codec, is_standard=False)
    found = webencodings.lookup(bare) if bare.isascii() else None
    if found is None or found.name in _NO_TEXT:
        return None
    return TextEncoding(found.name, _PYTHON_NAMES.get(found.name, found.codec_info.name))


UTF_8 = TextEncoding("utf-8", "utf-8")
WINDOWS_1252 = TextEncoding("windows-1252", "cp1252")


def guess_encoding(content: bytes) -> TextEncoding:
    """Guess what undeclared text that is not UTF-8 is in: another script where the statistics say so, else windows-1252.

    Args:
        content: the text, or a part of it with as much beyond ASCII as possible; the first 64 KB are looked at.
    """
    beyond_ascii = len(content[:MAX_BYTES_TO_GUESS].translate(None, _ASCII))
    in_words = sum(map(len, _WORD_OF_ANOTHER_SCRIPT.findall(content, 0, MAX_BYTES_TO_GUESS)))
    if beyond_ascii < MIN_BYTES_TO_GUESS or in_words * 2 < beyond_ascii:
        return WINDOWS_1252
    from charset_normalizer import from_bytes  # only text that needs it pays for loading it

    best = from_bytes(content[:MAX_BYTES_TO_GUESS], cp_isolation=[*_GUESSES, *_WESTERN], enable_fallback=False).best()
    if best is None or best.encoding not in _GUESSES:
        return WINDOWS_1252
    return _by_codec()[best.encoding]


@cache
def _by_codec() -> dict[str, TextEncoding]:
    names = (
        "shift_jis", "euc-jp", "euc-kr", "gbk", "big5", "windows-1251", "koi8-r", "ibm866",
        "windows-1253", "windows-1255", "windows-1256", "windows-874",
    )  # fmt: skip
    return {codec: made for codec, name in zip(_GUESSES, names, strict=True) if (made := encoding_of_label(name))}


def _c1_or_replacement(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    bad = error.object[error.start : error.end]
    if error.encoding == "charmap":  # one byte a character
        return "".join(chr(byte) if 0x80 <= byte < 0xA0 else "\ufffd" for byte in bad), error.end
    return "\ufffd", error.end


_C1_OR_REPLACEMENT = "medallion.c1-or-replacement"
codecs.register_error(_C1_OR_REPLACEMENT, _c1_or_replacement)
