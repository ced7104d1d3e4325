"""From a JSON array to the bytes of its elements, streamed: the array may be larger than memory, an element may not.

Elements are found by their brackets and not decoded here. After a broken element reading goes on at the next
object that begins with the key that the first record began with; JSON Lines need none of this, for there a line is a record.

Work is linear in bytes. What a broken element swallowed is looked at again, in search of the next record; but where damage is
so dense that all of a file would be looked at again and again, reading goes on where the damage was seen.
"""

import re
from collections.abc import Iterator

from medallion_defs.silver.contract import EXCERPT_BYTES, RejectCode, RejectedRecord, reject
from medallion_defs.silver.reader import MAX_RECORD_BYTES, InputFile, UnexpectedFormatError, UnreadableFileError, read_chunks

# Possessive quantifiers: a string of megabytes is matched in flat memory. A raw control character ends no string: it breaks it.
_STRING = re.compile(rb'"[^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+', re.DOTALL)
_TOKEN = re.compile(_STRING.pattern + rb'"|,\s*\{|\{\s*\{|["\[\]{},]', re.DOTALL)
# An object with at most one level of lists and objects within, in one step; the tokens tell what is wrong with any other.
_FLAT = rb'[^"{}\[\]]*+(?:' + _STRING.pattern + rb'"[^"{}\[\]]*+)*+'
_INNER = rb"\{" + _FLAT + rb"\}|\[" + _FLAT + rb"\]"
_PLAIN_OBJECT = re.compile(rb'\{(?:[^"{}\[\],]++|,(?!\s*\{)|' + _STRING.pattern + rb'"|' + _INNER + rb")*+\}", re.DOTALL)
_FIRST_KEY = re.compile(rb'\{\s*("[^"\\\x00-\x1f]*")')
_NEXT_OBJECT = re.compile(rb",\s*\{")
_PAIRS = {b"]": b"[", b"}": b"{"}
_SPACE = re.compile(rb"\s*")
_OVERLAP_BYTES = 4096
_MAX_RESCANS = 2  # times that all of the file may be looked at again, on the average
_FREE_RESCAN_BYTES = 64 * 1024


class ArrayReader:
    """Iterates over one file: per element `(position, bytes)`, or the rejected element. Positions count from 1.

    Raises:
        UnexpectedFormatError: the file does not begin with `[`.
        UnreadableFileError: the array is not closed (the file is cut off), or see `read_chunks`.
    """

    def __init__(self, file: InputFile) -> None:
        self._file = file
        self._chunks = read_chunks(file)
        self._buffer = b""
        self._at = 0
        self._dropped = 0  # bytes of the file before the buffer
        self._is_whole = False  # the rest of the file is in the buffer
        self._next_record: re.Pattern[bytes] | None = None  # known when the first element is whole
        self._failed_at = 0  # where in the buffer the last search for an end saw the damage
        self._rescanned = 0
        self._no_list_before = 0  # a bracket before this place in the file was looked at, and nothing closes it

    def __iter__(self) -> Iterator[tuple[int, bytes] | RejectedRecord]:
        if self._skip_space() != b"[":
            raise UnexpectedFormatError(
                f"{self._file.name}: expected a JSON array, which begins with '['. If it has one object per line, name it .jsonl."
            )
        self._at += 1
        position = 0
        while True:
            position += 1
            first = self._skip_space()
            if first == b"]":
                self._at += 1
                if not self._skip_space():
                    return
                yield self._reject_sign(position, first)  # in the middle: the damage of one record, not the end
            elif first == b"," or (first == b"[" and not self._is_list()):
                self._at += 1
                yield self._reject_sign(position, first)
            else:
                yield self._read_element(position)
            if self._skip_space() == b",":
                self._at += 1

    def _reject_sign(self, position: int, sign: bytes) -> RejectedRecord:
        around = sign + self._buffer[self._at : self._at + 100]
        return reject(position, "malformed_json", "Where an object should begin, there is a comma or a bracket.", around)

    def _is_list(self) -> bool:
        """True when a list begins here that ends before the file does. A stray bracket is closed by the file's own, or not at all."""
        if self._dropped + self._at < self._no_list_before:
            return False
        while (end := self._find_end()) is None or (end and not self._is_whole and self._is_blank_from(end)):
            if self._is_whole or len(self._buffer) - self._at > MAX_RECORD_BYTES:
                end = 0
                break
            self._fill(len(self._buffer) - self._at)
        if end and not self._is_blank_from(end):
            return True
        self._no_list_before = self._dropped + len(self._buffer)
        return False

    def _is_blank_from(self, place: int) -> bool:
        space = _SPACE.match(self._buffer, place)
        return space is not None and space.end() == len(self._buffer)

    def _read_element(self, position: int) -> tuple[int, bytes] | RejectedRecord:
        if self._at == len(self._buffer):
            raise UnreadableFileError(f"{self._file.name}: the JSON array is not closed; the file is cut off. Deliver it again.")
        while (end := self._find_end()) is None and not self._is_whole and len(self._buffer) - self._at <= MAX_RECORD_BYTES:
            self._fill(len(self._buffer) - self._at)
        if not end or end - self._at > MAX_RECORD_BYTES:
            return self._skip_broken(position, is_long=end != 0)
        element = self._buffer[self._at : end]
        self._at = end
        if position == 1 and (first := _FIRST_KEY.match(element)):
            self._next_record = re.compile(rb"\{(?<!:\{)\s*" + re.escape(first[1]))
        return position, element

    def _find_end(self) -> int | None:
        """Return where the element at `_at` ends; 0 when it is broken; None when the buffer ends first."""
        plain = _PLAIN_OBJECT.match(self._buffer, self._at)
        return plain.end() if plain else self._find_end_by_tokens()

    def _find_end_by_tokens(self) -> int | None:
        opened: list[bytes] = []
        for token in _TOKEN.finditer(self._buffer, self._at):
            text = token[0]
            self._failed_at = token.start()
            if text in _PAIRS:
                if not opened or opened.pop() != _PAIRS[text]:
                    return 0
                if not opened:
                    return token.end()
            elif text[:1] in b",[{":
                if not opened and token.start() > self._at:
                    return token.start()
                if len(text) > 1 and (text[:1] == b"{" or opened[-1] == b"{"):
                    # No object follows a brace, or a comma inside an object: a bracket is missing. It is the element's own at depth 1.
                    return token.start() if len(opened) == 1 else 0
                if text[-1:] in b"[{":
                    opened.append(text[-1:])
            elif len(text) == 1:
                return self._find_end_of_cut_string(token.start())
        self._failed_at = len(self._buffer)
        return 0 if self._is_whole else None

    def _find_end_of_cut_string(self, quote: int) -> int | None:
        """Tell a string that the buffer cuts (None: read on) from one that a control character or the file's end breaks (0)."""
        string = _STRING.match(self._buffer, quote)
        self._failed_at = string.end() if string else quote
        is_cut = string is not None and self._buffer[string.end() :] in (b"", b"\\")
        return None if is_cut and not self._is_whole else 0

    def _skip_broken(self, position: int, *, is_long: bool) -> RejectedRecord:
        start = self._buffer[self._at : self._at + EXCERPT_BYTES]
        seen = self._dropped + min(self._failed_at, self._at + MAX_RECORD_BYTES)
        self._at += 1
        self._find_next_record()
        again = max(0, seen - self._dropped - self._at)
        if self._rescanned + again > _MAX_RESCANS * seen + _FREE_RESCAN_BYTES:
            self._at += again
            self._find_next_record()
        else:
            self._rescanned += again
        code: RejectCode = "record_too_long" if is_long else "malformed_json"
        message = f"The element is longer than {MAX_RECORD_BYTES} bytes." if is_long else "The element's quotes or brackets do not match."
        return reject(position, code, message, start)

    def _find_next_record(self) -> None:
        """Move to where the next record seems to begin; to the file's last bracket if none does."""
        pattern = self._next_record or _NEXT_OBJECT
        while (found := pattern.search(self._buffer, self._at)) is None and not self._is_whole:
            self._at = max(self._at, len(self._buffer) - _OVERLAP_BYTES)
            self._fill(0)
        self._at = self._buffer.index(b"{", found.start()) if found else max(self._at, self._buffer.rfind(b"]"))

    def _skip_space(self) -> bytes:
        """Move to the next character that is not blank and return it; empty at the end of the file."""
        while True:
            space = _SPACE.match(self._buffer, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._buffer) or self._is_whole:
                return self._buffer[self._at : self._at + 1]
            self._fill(0)

    def _fill(self, at_least: int) -> None:
        """Drop what was read and append one chunk, or as many bytes as asked, so that growing is not quadratic."""
        pieces = [self._buffer[self._at :]]
        self._dropped += self._at
        self._failed_at -= self._at
        self._at = 0
        added = 0
        while added <= at_least:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._is_whole = True
                break
            pieces.append(chunk)
            added += len(chunk)
        self._buffer = b"".join(pieces)
