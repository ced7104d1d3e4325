"""The lines of a CSV file as text: decoded one by one, so that bytes which are not of the encoding cost their line alone.

Also what the whole file says about its numbers. Knows nothing of cells and records.
"""

import re
from collections.abc import Iterator

import msgspec

from medallion_defs.silver.contract import RejectCode, RejectedRecord, reject
from medallion_defs.silver.reader import MAX_RECORD_BYTES, FileEncoding, InputFile, OverlongLine, read_chunks, read_lines

_COMMA_NUMBER = re.compile(rb'(?:^|[;\r\n])[ "]*[+-]?\d*,\d+(?:[eE][+-]?\d+)?[ "]*(?=[;\r\n]|$)')


class Line(msgspec.Struct, frozen=True):
    """A physical line: its number, its text, or, when it has none, why; and quality flags of what is on it (`,word`)."""

    number: int
    text: str
    broken: RejectedRecord | None = None
    flags: str = ""


def decode_lines(file: InputFile, found: FileEncoding) -> Iterator[Line]:
    """Yield every physical line of the file, numbered from 1."""
    number = 0
    for batch in read_lines(read_chunks(file)):
        if isinstance(batch, OverlongLine):
            number += 1
            yield _broken(number, "record_too_long", f"The line is longer than {MAX_RECORD_BYTES} bytes.", batch.start)
            continue
        for raw in batch:
            number += 1
            yield _guessed(number, raw, found) if found.is_guess and not raw.isascii() else _declared(number, raw, found)


def has_comma_numbers(file: InputFile) -> bool:
    """True when a cell between semicolons is a number with one comma, such as `0,5`. Reads up to the first."""
    return any(
        _COMMA_NUMBER.search(b"".join(batch)) for batch in read_lines(read_chunks(file)) if not isinstance(batch, OverlongLine)
    )  # fmt: skip


def _declared(number: int, raw: bytes, found: FileEncoding, flags: str = "") -> Line:
    try:
        return Line(number, raw.decode(found.encoding.codec), None, flags)
    except UnicodeDecodeError as error:
        message = f"The line is not {found.encoding.name}: {error.reason} at byte {error.start + 1}."
        return _broken(number, "invalid_encoding", message, raw)


def _guessed(number: int, raw: bytes, found: FileEncoding) -> Line:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return _declared(number, raw, found, ",guessed_encoding")
    message = (
        f"The line may be UTF-8, and other lines of the file are not; they are taken for {found.encoding.name}. "
        "Say in the recipe which encoding the file has (csv.encoding), or deliver it in one."
    )
    return _broken(number, "invalid_encoding", message, raw)


def _broken(number: int, code: RejectCode, message: str, raw: bytes) -> Line:
    return Line(number, "", reject(number, code, message, raw))
