"""From a file to its physical lines: gzip, byte order marks, encoding, line ends, and the limits that keep memory flat.

Knows nothing of records. A file that cannot be read as what it says it is raises here; a line that is too long
is handed on as such, so that it costs only itself.
"""

import codecs
import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, cast

from medallion_defs.core.errors import TerminalError, TransientError
from medallion_defs.silver.contract import EXCERPT_BYTES
from medallion_defs.silver.text_encoding import MAX_BYTES_TO_GUESS, UTF_8, TextEncoding, guess_encoding
from medallion_defs.storage.hashed import HashedFile

MAX_RECORD_BYTES = 16 * 1024**2
CHUNK_BYTES = 256 * 1024
GZIP_MAX_RATIO = 200
GZIP_FREE_BYTES = 64 * 1024**2
GZIP_MAX_BYTES = 64 * 1024**3

_GZIP_MAGIC = b"\x1f\x8b"
_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_UTF16_SEARCH_BYTES = 256
_LINE_ENDS = (b"\n", b"\r")


class UnreadableFileError(TerminalError):
    """The file is damaged, or is not what its name says."""


class UnexpectedFormatError(TerminalError):
    """The file is whole, but not in the format that its recipe expects."""


Opener = Callable[[], AbstractContextManager[HashedFile]]


@dataclass(frozen=True)
class InputFile:
    """A file to read: `open` opens it from its start, `name` is what it was called when it came (for messages)."""

    open: Opener
    name: str


@dataclass(frozen=True)
class FileEncoding:
    """What the text of a file is in; `is_guess` when neither the file nor its recipe says so."""

    encoding: TextEncoding
    is_guess: bool = False


@dataclass(frozen=True)
class OverlongLine:
    """A line of more than `MAX_RECORD_BYTES`; `start` is its first KB, the rest was not kept."""

    start: bytes


def read_chunks(file: InputFile) -> Iterator[bytes]:
    """Yield the file's bytes, decompressed if they are gzip (by their first bytes, not by name), without a UTF-8 byte order mark.

    Raises:
        UnreadableFileError: an empty file, broken gzip, gzip within gzip, a gzip bomb, a name in .gz on something else, or no such file.
        UnexpectedFormatError: the text is UTF-16, or begins with two byte order marks.
        ChangedBytesError: the bytes are not those that were published; nothing that was yielded may be kept.
        TransientError: the disk fails.
    """
    chunks = _unpacked_chunks(file)
    first = next(chunks, b"")
    _check_start(file, first)
    first = first.removeprefix(_UTF8_BOM)
    if first:
        yield first
    yield from chunks


def _unpacked_chunks(file: InputFile) -> Iterator[bytes]:
    try:
        with file.open() as raw:
            is_gzip = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            if not is_gzip and file.name.lower().endswith(".gz"):
                raise UnreadableFileError(f"{file.name}: named .gz but not gzip inside. Deliver it compressed, or without .gz in its name.")
            yield from _gunzip(file, raw) if is_gzip else _plain(raw)
    except FileNotFoundError as error:
        raise UnreadableFileError(f"{file.name}: there is no file {error.filename}. Restore it, or deliver it again.") from error
    except OSError as error:
        raise TransientError(f"{file.name}: reading it failed: {error}. Check the storage; the item is tried again.") from error


def _check_start(file: InputFile, first: bytes) -> None:
    """Refuse a file whose first bytes tell that it is not what it should be, each kind with its own sentence."""
    if not first:
        raise UnreadableFileError(f"{file.name}: the file is empty. Deliver it again, with its content.")
    if first.startswith(_GZIP_MAGIC):
        raise UnreadableFileError(f"{file.name}: compressed twice: there is gzip within the gzip. Deliver it compressed once.")
    if first.startswith(_UTF16_BOMS):
        raise UnexpectedFormatError(f"{file.name}: the text is UTF-16. Save it as UTF-8 and deliver it again.")
    if _is_utf16_without_mark(first[:_UTF16_SEARCH_BYTES]):
        raise UnexpectedFormatError(f"{file.name}: the text is UTF-16 without a byte order mark. Save it as UTF-8 and deliver it again.")
    if first.startswith(_UTF8_BOM * 2):
        raise UnexpectedFormatError(f"{file.name}: the file begins with two byte order marks. Remove one and deliver it again.")


def _is_utf16_without_mark(start: bytes) -> bool:
    """True when every other byte is NUL, but for a few, and none of those between."""
    even, odd = start[::2], start[1::2]
    return any(len(low) >= 2 and 0 not in low and high.count(0) * 2 > len(high) for high, low in ((even, odd), (odd, even)))


def _plain(raw: HashedFile) -> Iterator[bytes]:
    while chunk := raw.read(CHUNK_BYTES):
        yield chunk


def _gunzip(file: InputFile, raw: HashedFile) -> Iterator[bytes]:
    packed_bytes = max(raw.size, 1)
    total = 0
    # gzip asks its file for bytes and for nothing else.
    with gzip.GzipFile(fileobj=cast(BinaryIO, raw)) as unpacked:
        while True:
            try:
                chunk = unpacked.read(CHUNK_BYTES)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise UnreadableFileError(f"{file.name}: the gzip is cut off or damaged ({error}). Deliver the file again.") from error
            if not chunk:
                return
            total += len(chunk)
            if total > GZIP_MAX_BYTES or (total > GZIP_FREE_BYTES and total > GZIP_MAX_RATIO * packed_bytes):
                raise UnreadableFileError(
                    f"{file.name}: {packed_bytes} bytes unpack to {total} and more; beyond {GZIP_MAX_RATIO} times, or {GZIP_MAX_BYTES} "
                    "bytes, it is taken for a gzip bomb. Deliver it unpacked if it is meant."
                )
            yield chunk


def detect_encoding(file: InputFile) -> FileEncoding:
    """Judge what the text of the file is in. Reads all of it once, in flat memory; a second time if it is not all UTF-8.

    It is UTF-8 if it begins with the mark of UTF-8; if all of it is valid; if a cut character at its end is all that is
    not; or if no more lines are invalid than hold valid characters beyond ASCII (those lines alone are damaged then).
    Any other text is guessed (see `guess_encoding`).
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for number, chunk in enumerate(_unpacked_chunks(file)):
            if number == 0 and chunk.startswith(_UTF8_BOM):
                return FileEncoding(UTF_8)
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return _judge_lines(file)
    return FileEncoding(UTF_8)


def _judge_lines(file: InputFile) -> FileEncoding:
    good = bad = 0
    sample: list[bytes] = []
    wanted = MAX_BYTES_TO_GUESS
    for line in _lines_beyond_ascii(file):
        try:
            line.decode("utf-8")
            good += 1
        except UnicodeDecodeError as error:
            is_cut = error.reason == "unexpected end of data" and error.end == len(line)  # a line that is followed by another has its end
            bad += not is_cut
            if wanted > 0 and not is_cut:
                sample.append(line[:wanted])
                wanted -= len(line)
    return FileEncoding(UTF_8) if good >= bad else FileEncoding(guess_encoding(b"".join(sample)), is_guess=True)


def _lines_beyond_ascii(file: InputFile) -> Iterator[bytes]:
    for batch in read_lines(read_chunks(file)):
        if not isinstance(batch, OverlongLine):
            yield from (line for line in batch if not line.isascii())


def read_lines(chunks: Iterable[bytes]) -> Iterator[list[bytes] | OverlongLine]:
    r"""Yield the physical lines in batches, line ends kept; `\n`, `\r` and `\r\n` all end a line.

    Batches, because one generator step per line costs as much as decoding the line.
    """
    pieces: list[bytes] = []  # the unfinished line: joined only when it is whole, for joining per chunk would be quadratic
    size = 0
    for chunk in _whole_line_ends(chunks):
        lines = chunk.splitlines(keepends=True)
        size += len(lines[0])
        if size <= MAX_RECORD_BYTES:
            pieces.append(lines[0])
        if len(lines) == 1 and not chunk.endswith(_LINE_ENDS):
            continue
        if size > MAX_RECORD_BYTES:
            yield OverlongLine(b"".join(pieces)[:EXCERPT_BYTES])
            del lines[0]
        else:
            lines[0] = b"".join(pieces)
        pieces = [lines.pop()] if lines and not chunk.endswith(_LINE_ENDS) else []
        size = sum(map(len, pieces))
        if lines:
            yield lines
    if size > MAX_RECORD_BYTES:
        yield OverlongLine(b"".join(pieces)[:EXCERPT_BYTES])
    elif pieces:
        yield [b"".join(pieces)]


def _whole_line_ends(chunks: Iterable[bytes]) -> Iterator[bytes]:
    r"""Keep a `\r` at the end of a chunk for the next one: it may be half of `\r\n`."""
    held = b""
    for chunk in chunks:
        whole = held + chunk
        held = b"\r" if whole.endswith(b"\r") else b""
        whole = whole.removesuffix(b"\r")
        if whole:
            yield whole
    if held:
        yield held
