"""From a file to its physical lines: gzip, byte order marks, line ends, and the limits that keep memory flat.

Knows nothing of records. A file that cannot be read as what it says it is raises here; a line that is too long
is handed on as such, so that it costs only itself.
"""

import codecs
import gzip
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from medallion_defs.core.errors import TerminalError, TransientError
from medallion_defs.silver.contract import EXCERPT_BYTES

MAX_RECORD_BYTES = 16 * 1024**2
CHUNK_BYTES = 256 * 1024
GZIP_MAX_RATIO = 200
GZIP_FREE_BYTES = 64 * 1024**2
GZIP_MAX_BYTES = 64 * 1024**3

_GZIP_MAGIC = b"\x1f\x8b"
_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_LINE_ENDS = (b"\n", b"\r")

Encoding = Literal["utf-8", "latin-1"]


class UnreadableFileError(TerminalError):
    """The file is damaged, or is not what its name says."""


class UnexpectedFormatError(TerminalError):
    """The file is whole, but not in the format that its recipe expects."""


@dataclass(frozen=True)
class InputFile:
    """A file to read: `path` is where it is, `name` what it was called when it came (for messages)."""

    path: Path
    name: str


@dataclass(frozen=True)
class OverlongLine:
    """A line of more than `MAX_RECORD_BYTES`; `start` is its first KB, the rest was not kept."""

    start: bytes


def read_chunks(file: InputFile) -> Iterator[bytes]:
    """Yield the file's bytes, decompressed if they are gzip (by their first bytes, not by name), without a UTF-8 byte order mark.

    Raises:
        UnreadableFileError: broken gzip, a gzip bomb, a name in .gz on something else, or no such file.
        UnexpectedFormatError: the text is UTF-16.
        TransientError: the disk fails.
    """
    try:
        with file.path.open("rb") as raw:
            is_gzip = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            if not is_gzip and file.name.lower().endswith(".gz"):
                raise UnreadableFileError(f"{file.name}: named .gz but not gzip inside. Deliver it compressed, or without .gz in its name.")
            yield from _without_bom(file, _gunzip(file, raw) if is_gzip else _plain(raw))
    except FileNotFoundError as error:
        raise UnreadableFileError(f"{file.name}: there is no file {file.path}. Restore it, or deliver it again.") from error
    except OSError as error:
        raise TransientError(f"{file.name}: reading {file.path} failed: {error}. Check the disk; the item is tried again.") from error


def _plain(raw: IO[bytes]) -> Iterator[bytes]:
    while chunk := raw.read(CHUNK_BYTES):
        yield chunk


def _gunzip(file: InputFile, raw: IO[bytes]) -> Iterator[bytes]:
    packed_bytes = max(file.path.stat().st_size, 1)
    total = 0
    with gzip.GzipFile(fileobj=raw) as unpacked:
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


def _without_bom(file: InputFile, chunks: Iterator[bytes]) -> Iterator[bytes]:
    first = next(chunks, b"")
    if first.startswith(_UTF16_BOMS):
        raise UnexpectedFormatError(f"{file.name}: the text is UTF-16. Save it as UTF-8 and deliver it again.")
    first = first.removeprefix(_UTF8_BOM)
    if first:
        yield first
    yield from chunks


def detect_encoding(file: InputFile) -> Encoding:
    """Return `utf-8` if all of the file is valid UTF-8, else `latin-1`. Reads the file once, in flat memory."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for chunk in read_chunks(file):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


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
