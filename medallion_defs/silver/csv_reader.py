"""From physical lines to CSV records: the header below a preamble, quoted cells with line ends in them, and resynchronising.

A stray quote may swallow the rest of a file. Here it costs its own line: a quoted record that does not end well
is rejected by its first line, and reading goes on at the second.
"""

import csv
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from medallion_defs.silver.contract import RejectCode, RejectedRecord, reject
from medallion_defs.silver.reader import (
    MAX_RECORD_BYTES,
    Encoding,
    InputFile,
    OverlongLine,
    UnexpectedFormatError,
    read_chunks,
    read_lines,
)

MAX_RECORD_LINES = 1000
HEADER_SEARCH_LINES = 1000
DELIMITERS = (",", ";", "\t", "|")


class CsvRecord(NamedTuple):
    """One record: the line it starts on, its cells (as many as the header), its raw text."""

    source_record: int
    cells: list[str]
    raw: str


class _Line(NamedTuple):
    """A physical line: its number, its text, or, when it has none, why."""

    number: int
    text: str
    broken: RejectedRecord | None = None


class CsvReader:
    """Reads one CSV file. `header` is known once the reader is made; iterating gives the records below it.

    Args:
        file: the file.
        header_cell: a cell that the header row contains and no row above it.
        delimiter: one character, or None to take the first of `, ; tab |` that finds the header row.
        encoding: of the text; a line that does not decode is rejected.

    Raises:
        UnexpectedFormatError: no row with `header_cell` in the first 1,000 lines, or a column named twice.
        UnreadableFileError: see `read_chunks`.
    """

    def __init__(self, file: InputFile, header_cell: str, delimiter: str | None, encoding: Encoding) -> None:
        csv.field_size_limit(MAX_RECORD_BYTES)
        self._source = _decode_lines(file, encoding)
        self._returned: deque[_Line] = deque()
        self.delimiter, self.header = self._find_header(file, header_cell, (delimiter,) if delimiter else DELIMITERS)
        self._blanks = self.delimiter + " \t\r\n"

    def _find_header(self, file: InputFile, header_cell: str, delimiters: tuple[str, ...]) -> tuple[str, list[str]]:
        for _ in range(HEADER_SEARCH_LINES):
            line = self._take()
            if line is None:
                break
            for delimiter in delimiters:
                cells = [cell.strip() for cell in next(csv.reader([line.text], delimiter=delimiter), [])]
                if header_cell in cells:
                    return delimiter, _column_names(file, cells)
        raise UnexpectedFormatError(
            f"{file.name}: no row in the first {HEADER_SEARCH_LINES} lines has the cell '{header_cell}', so there is no header. "
            "Deliver the file with its header, or name another cell in the recipe (csv.header)."
        )

    def __iter__(self) -> Iterator[CsvRecord | RejectedRecord]:
        while (line := self._take()) is not None:
            if line.broken is not None:
                yield line.broken
            elif '"' in line.text:
                yield self._read_quoted(line)
            elif line.text.strip(self._blanks):
                yield self._checked(line, line.text.rstrip("\r\n").split(self.delimiter), line.text)

    def _read_quoted(self, first: _Line) -> CsvRecord | RejectedRecord:
        taken = [first]
        try:
            cells = next(csv.reader(self._supply(taken), delimiter=self.delimiter, strict=True))
        except csv.Error as error:
            self._returned.extendleft(reversed(taken[1:]))
            return reject(first.number, "malformed_csv", f"The quotes of the record do not close: {error}.", first.text)
        record = self._checked(first, cells, "".join(line.text for line in taken))
        if isinstance(record, RejectedRecord):
            self._returned.extendleft(reversed(taken[1:]))
        return record

    def _supply(self, taken: list[_Line]) -> Iterator[str]:
        """Yield the first line, then as many more as csv asks for while the quotes are open and the limits hold."""
        yield taken[0].text
        size = len(taken[0].text)
        while len(taken) < MAX_RECORD_LINES and size <= MAX_RECORD_BYTES and (line := self._take()) is not None:
            if line.broken is not None:
                self._returned.appendleft(line)
                return
            taken.append(line)
            size += len(line.text)
            yield line.text

    def _checked(self, first: _Line, cells: list[str], raw: str) -> CsvRecord | RejectedRecord:
        width = len(self.header)
        if len(cells) > width and not any(cell.strip() for cell in cells[width:]):
            cells = cells[:width]
        if len(cells) != width:
            return reject(first.number, "malformed_csv", f"The record has {len(cells)} cells, the header has {width}.", raw)
        if "\0" in raw:
            return reject(first.number, "nul_character", "The record contains a NUL character, which Postgres cannot store.", raw)
        return CsvRecord(first.number, cells, raw)

    def _take(self) -> _Line | None:
        return self._returned.popleft() if self._returned else next(self._source, None)


def _column_names(file: InputFile, cells: list[str]) -> list[str]:
    """Return the header's names; a column without one is called `column_N`, N from 1."""
    names = [cell or f"column_{place}" for place, cell in enumerate(cells, start=1)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UnexpectedFormatError(f"{file.name}: the header names {', '.join(twice)} more than once. Rename the columns apart.")
    return names


def _decode_lines(file: InputFile, encoding: Encoding) -> Iterator[_Line]:
    number = 0
    for batch in read_lines(read_chunks(file)):
        if isinstance(batch, OverlongLine):
            number += 1
            yield _broken(number, "record_too_long", f"The line is longer than {MAX_RECORD_BYTES} bytes.", batch.start)
            continue
        for raw in batch:
            number += 1
            try:
                yield _Line(number, raw.decode(encoding))
            except UnicodeDecodeError as error:
                yield _broken(number, "invalid_encoding", f"The line is not {encoding}: {error.reason} at byte {error.start + 1}.", raw)


def _broken(number: int, code: RejectCode, message: str, raw: bytes) -> _Line:
    return _Line(number, "", reject(number, code, message, raw))
