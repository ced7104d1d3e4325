"""From physical lines to CSV records: the header below a preamble, quoted cells with line ends in them, and resynchronising.

A stray quote may swallow the rest of a file. Here it costs its own line: a quoted record that does not end well
is rejected by its first line, and reading goes on at the second. No cell ever changes its column.
"""

import csv
import re
from collections import Counter, deque
from collections.abc import Iterator
from itertools import islice

import msgspec

from medallion_defs.silver.contract import RejectedRecord, reject
from medallion_defs.silver.csv_lines import Line, decode_lines
from medallion_defs.silver.reader import MAX_RECORD_BYTES, FileEncoding, InputFile, UnexpectedFormatError
from medallion_defs.silver.recipes import CsvOptions

MAX_RECORD_LINES = 1000
HEADER_SEARCH_LINES = 1000
DELIMITERS = (",", ";", "\t", "|")

_MARK = "\ufeff"


class CsvRecord(msgspec.Struct, frozen=True):
    """One record: the line it starts on, its cells (as many as the header, in its order), its raw text, quality flags (`,word`)."""

    source_record: int
    cells: list[str]
    raw: str
    flags: str = ""


class CsvReader:
    """Reads one CSV file. `header` is known once the reader is made; iterating gives the records below it.

    Raises:
        UnexpectedFormatError: no row with the cell `csv.header` in the first 1,000 lines, a column named twice, or another
            number of columns than the recipe names.
        UnreadableFileError: see `read_chunks`.
    """

    def __init__(self, file: InputFile, options: CsvOptions, encoding: FileEncoding) -> None:
        csv.field_size_limit(MAX_RECORD_BYTES)
        self._options = options
        self._source = decode_lines(file, encoding)
        self._returned: deque[Line] = deque()
        if options.header is None:
            self.delimiter, self._written = str(options.delimiter), list(options.columns)
        else:
            self.delimiter, self._written = self._find_header(file, options.header)
        self.header = list(options.columns) or _column_names(file, self._written)
        if len(self.header) != len(self._written):
            raise UnexpectedFormatError(
                f"{file.name}: the header has {len(self._written)} columns, and the recipe names {len(self.header)} (csv.columns)."
            )
        self._blanks = self.delimiter + " \t\r\n"
        self._spaced_quote = re.compile(f'(?:^|{re.escape(self.delimiter)}) +"')
        self._order: list[int] | None = None  # of the columns below a header that has them in another order
        self._foreign_header = 0  # the line of a header with other columns, while its records last

    def _find_header(self, file: InputFile, header_cell: str) -> tuple[str, list[str]]:
        delimiters = (self._options.delimiter,) if self._options.delimiter else DELIMITERS
        for line in islice(self._source, HEADER_SEARCH_LINES):
            for delimiter in delimiters:
                cells = [cell.strip() for cell in next(csv.reader([line.text.replace(_MARK, "")], delimiter=delimiter), [])]
                if header_cell in cells:
                    return delimiter, cells
        raise UnexpectedFormatError(
            f"{file.name}: no row in the first {HEADER_SEARCH_LINES} lines has the cell '{header_cell}', so there is no header. "
            "Deliver the file with its header, or name another cell in the recipe (csv.header)."
        )

    def __iter__(self) -> Iterator[CsvRecord | RejectedRecord]:
        while (line := self._take()) is not None:
            record: CsvRecord | RejectedRecord | None = None
            if line.broken is not None:
                record = line.broken
            elif '"' in line.text:
                record = self._read_quoted(line)
            elif line.text.strip(self._blanks):
                record = self._checked(line, line.text.rstrip("\r\n").split(self.delimiter), line.text, line.flags)
            if record is not None:
                yield record

    def _read_quoted(self, first: Line) -> CsvRecord | RejectedRecord | None:
        taken = [first]
        try:
            cells = self._parse(taken, is_spaced=self._spaced_quote.search(first.text) is not None)
        except csv.Error as error:
            self._returned.extendleft(reversed(taken[1:]))
            return reject(first.number, "malformed_csv", f"The quotes of the record do not close: {error}.", first.text)
        raw = "".join(line.text for line in taken)
        flags = max(line.flags for line in taken)
        record = self._checked(first, cells, raw, flags) if len(taken) == 1 else self._checked_lines(taken, cells, raw, flags)
        if isinstance(record, RejectedRecord):
            self._returned.extendleft(reversed(taken[1:]))
        return record

    def _parse(self, taken: list[Line], *, is_spaced: bool) -> list[str]:
        """Parse one record, strictly. `is_spaced`: a blank stands before a quote, as in `a, "b"`, and does not count."""
        return next(csv.reader(self._supply(taken), delimiter=self.delimiter, strict=True, skipinitialspace=is_spaced))

    def _supply(self, taken: list[Line]) -> Iterator[str]:
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

    def _checked_lines(self, taken: list[Line], cells: list[str], raw: str, flags: str) -> CsvRecord | RejectedRecord | None:
        """Check a record of several lines: a quote too many makes one of two records, and the lines within look like records."""
        if not self._options.multiline:
            message = "The record has a line end in a quoted cell, and the recipe says that none has (csv.multiline)."
            return reject(taken[0].number, "malformed_csv", message, raw)
        swallowed = sum(self._looks_whole(line.text) for line in taken[1:])
        if swallowed > 1:
            message = f"A quoted cell holds {swallowed} lines with as many cells as the header: a quote is missing, or one too many."
            return reject(taken[0].number, "malformed_csv", message, raw)
        return self._checked(taken[0], cells, raw, flags + (",swallowed_line" if swallowed else ""))

    def _looks_whole(self, line: str) -> bool:
        """True when a line within quotes has by itself as many cells as the header, at least one delimiter of it in the quotes."""
        if self.delimiter not in line.partition('"')[0]:
            return False
        return len(next(csv.reader([line], delimiter=self.delimiter))) == len(self.header)

    def _checked(self, first: Line, cells: list[str], raw: str, flags: str) -> CsvRecord | RejectedRecord | None:
        """Return the record, or what is wrong with it; None if it is the header again."""
        if self._options.header is not None and self._options.header in raw:
            names = [cell.strip() for cell in cells]
            if self._is_header_again(names):
                return None
            if self._is_other_header(names):
                self._foreign_header = first.number
        if self._foreign_header:
            message = f"Line {self._foreign_header} is a header with other columns: two files were joined. Deliver them apart."
            return reject(first.number, "malformed_csv", message, raw)
        width = len(self.header)
        if self._options.trailing_delimiter and len(cells) == width + 1 and not cells[width].strip():
            cells = cells[:width]
        if len(cells) != width:
            return reject(first.number, "malformed_csv", f"The record has {len(cells)} cells, the header has {width}.", raw)
        if "\0" in raw:
            return reject(first.number, "nul_character", "The record contains a NUL character, which Postgres cannot store.", raw)
        if self._order is not None:
            cells = [cells[place] for place in self._order]
        return CsvRecord(first.number, cells, raw, flags)

    def _is_header_again(self, names: list[str]) -> bool:
        """True for the header, in whatever order; the records below it are then read in that order."""
        if names == self._written:
            self._order = None
        elif self._options.columns or len(set(names)) < len(names) or set(names) != set(self._written):
            return False
        else:
            places = {name: place for place, name in enumerate(names)}
            self._order = [places[name] for name in self._written]
        self._foreign_header = 0
        return True

    def _is_other_header(self, names: list[str]) -> bool:
        return self._options.header in names and len(set(names) & set(self._written)) * 2 > len(names) > 1

    def _take(self) -> Line | None:
        line = self._returned.popleft() if self._returned else next(self._source, None)
        return line if line is None or _MARK not in line.text else self._without_marks(line)

    def _without_marks(self, line: Line) -> Line:
        """Remove byte order marks; one before a header that has no line to itself is where two files were joined."""
        before, _, after = line.text.lstrip(_MARK).partition(_MARK)
        if before and [cell.strip() for cell in next(csv.reader([after], delimiter=self.delimiter), [])] == self._written:
            self._returned.appendleft(msgspec.structs.replace(line, text=after))
            return msgspec.structs.replace(line, text=before)
        return msgspec.structs.replace(line, text=line.text.replace(_MARK, ""))


def _column_names(file: InputFile, cells: list[str]) -> list[str]:
    """Return the header's names; a column without one is called `column_N`, N from 1."""
    names = [cell or f"column_{place}" for place, cell in enumerate(cells, start=1)]
    twice = sorted(name for name, times in Counter(names).items() if times > 1)
    if twice:
        raise UnexpectedFormatError(
            f"{file.name}: the header names {shorten_list(twice)} more than once. Rename the columns apart, "
            "or name all columns by their place in the recipe (csv.columns)."
        )
    return names


def shorten_list(names: list[str], limit: int = 20) -> str:
    """Return names for a message: all, or the first and how many more."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")
